"""What `status` says of the analysis, and what `clean_data.py` may delete of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config import Config
from common.runs.cleaning import Deletable, delete
from common.runs.files import sha256_file, write_json
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.standing import find_pathway_deletable, state_line, strange_pathway

pytestmark = pytest.mark.unit
STUDY = ("study/analysis/comprehensive_patching_checkpoint_final.json", "study/response_logs/responses_000.json")
MADE = (
    *("logs/pathway.log", "producer/features/fingerprint.json", "producer/superseded/0001/study.json"),
    *("data/causal_features.json", "results/audit/trials.parquet", "results/pathways/segments/targets/all/x.parquet"),
    *("results/integrated/edges.csv", "results/integrated/.writing-1-abc-edges.csv", "results/tokens/timings.json"),
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path / "data"))


@pytest.fixture
def paths(config: Config) -> PathwayPaths:
    return PathwayPaths(Path(config.data_dir) / "pathway")


def write(paths: PathwayPaths, *names: str) -> None:
    for name in names:
        path = paths.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def steps(paths: PathwayPaths, *passed: bool) -> None:
    for step, each in enumerate(passed):
        write_json(paths.manifest(step), {"status": "passed" if each else "failed", "message": "too few"})


def finished(paths: PathwayPaths) -> None:
    """Writes what a whole run leaves, its study and prompts too."""
    write(paths, *MADE, *STUDY, "data/prompts_sample.json")
    steps(paths, *[True] * 6)
    outputs = {name: sha256_file(paths.root / name) for name in (*STUDY, "data/prompts_sample.json")}
    write_json(paths.producer / "study.json", {"outputs": outputs})
    write_json(paths.producer / "written.json", {"files": list(STUDY)})


def only(config: Config, *, superseded_only: bool = False) -> Deletable:
    (found,) = find_pathway_deletable(config, superseded_only=superseded_only)
    return found


def tree(paths: PathwayPaths) -> list[str]:
    return sorted(path.relative_to(paths.root).as_posix() for path in paths.root.rglob("*") if path.is_file())


def test_the_state_is_one_line_at_each_stage(config: Config, paths: PathwayPaths) -> None:
    assert state_line(config).split("  ")[-1].strip() == "missing"
    write(paths, "producer/features/fingerprint.json")
    assert "partial 0/6" in state_line(config) and "step 0: not run; run.py pathway" in state_line(config)
    steps(paths, True, True, True)
    write_json(paths.pathways / "partial.json", {"done": 3, "expected": 7})
    assert "partial 3/6" in state_line(config) and "step 3: not run; 3 of 7 targets" in state_line(config)
    steps(paths, True, False)
    assert "step 1: did not pass (too few)" in state_line(config)
    paths.manifest(0).write_text("{")
    assert "step 0: its manifest is damaged" in state_line(config) and "\n" not in state_line(config)


def test_a_whole_run_is_complete_and_goes_entirely(config: Config, paths: PathwayPaths) -> None:
    finished(paths)
    assert "complete" in state_line(config)
    found = only(config)
    assert found.staying == [] and found.state == "complete" and found.size > 0
    delete(found)
    assert not paths.root.exists() and "missing" in state_line(config)


def test_what_a_user_put_there_stays(config: Config, paths: PathwayPaths) -> None:
    finished(paths)
    paths.prompts.write_text(json.dumps({"prompts": ["mine"]}))
    theirs = ("study/response_logs/run_7.json", "results/notes.md", "results/integrated/talk.pptx", "mine.txt")
    write(paths, *theirs)
    (paths.root / "study" / "link.json").symlink_to(paths.manifest(0))
    delete(only(config))
    assert tree(paths) == sorted([*theirs, "data/prompts_sample.json"])
    assert (paths.root / "study" / "link.json").is_symlink()


def test_a_study_made_elsewhere_stays(config: Config, paths: PathwayPaths) -> None:
    write(paths, *STUDY, "data/prompts_sample.json", "results/audit/data_validation.json", "logs/pathway.log")
    steps(paths, True)
    delete(only(config))
    assert tree(paths) == sorted([*STUDY, "data/prompts_sample.json"])


def test_only_what_was_put_aside_goes_with_superseded(config: Config, paths: PathwayPaths) -> None:
    finished(paths)
    write(paths, "results/pathways/superseded/0001/validated_pathways.json")
    delete(only(config, superseded_only=True))
    assert not list(paths.root.rglob("superseded")) and "complete" in state_line(config)
    assert find_pathway_deletable(config, superseded_only=True) == []


def test_a_directory_in_which_no_run_shows_is_left_alone(config: Config, paths: PathwayPaths) -> None:
    assert strange_pathway(config) == []
    write(paths, *STUDY)
    assert find_pathway_deletable(config) == [] and strange_pathway(config) == [paths.root]
    elsewhere = paths.root.with_name("elsewhere")
    paths.root.rename(elsewhere)
    steps(PathwayPaths(elsewhere), True)
    paths.root.symlink_to(elsewhere)
    assert find_pathway_deletable(config) == [] and strange_pathway(config) == [paths.root]
