"""Step 3 of the pathway analysis through the real launcher: workers, merge and stop, against one process."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.parser import build_parser
from cli.pathway import pathway_run
from common.runs.artifacts import PhasePaths
from experiment_pathway_token_analysis.src.steps import Run, StepResult, write_manifest
from tests.cli import helpers
from tests.experiment_pathway_token_analysis import planted
from tests.experiment_pathway_token_analysis.runs import PLANTED_PROFILE
from tests.launcher.launched import begin, ended, launch, wait_for

pytestmark = pytest.mark.slow


class Place(NamedTuple):
    """The planted model's profile, and a data directory in which steps 0 to 2 are said to have passed."""

    profile: Path
    data: Path

    @property
    def options(self) -> list[object]:
        own = [word for setting in (*planted.SMALL, "gradient.targets_per_batch=1") for word in ("--set", setting)]
        return ["--profile", self.profile, "--data-dir", self.data, *own]

    @property
    def run(self) -> Run:
        return pathway_run(build_parser().parse_args(["pathway", *map(str, self.options)]))

    def validated(self) -> bytes:
        return self.run.paths.validated.read_bytes()

    def copy(self, target: Path) -> Place:
        """Copies the place without what step 3 made."""
        shutil.copytree(self.data, target)
        shutil.rmtree(target / "pathway" / "results", ignore_errors=True)
        made = Place(self.profile, target)
        made.run.paths.manifest(3).unlink(missing_ok=True)
        return made


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place in which one process has run step 3."""
    root = tmp_path_factory.mktemp("discovery")
    planted.planted_run(root)
    (root / "planted.toml").write_text(PLANTED_PROFILE.format(root=root), encoding="utf-8")
    place = Place(root / "planted.toml", root / "data")
    path = place.run.paths.causal_features
    targets = [{**item, "fdr_causal": None} for item in json.loads(path.read_text())["features"]]
    path.write_text(json.dumps({"metadata": {}, "features": targets}))
    for step, made in ((0, []), (1, [path]), (2, [])):
        write_manifest(place.run, step, StepResult(True, "as planted", [], made))
    answer = helpers.run("pathway", *place.options, "--from", "3", "--to", "3")
    assert answer.code == 0, answer
    return place


def test_two_workers_and_a_merge_write_the_bytes_of_one_process(alone: Place, tmp_path: Path) -> None:
    place = alone.copy(tmp_path / "data")
    answer = launch("--phase", "pathway", *place.options, "--devices", "cpu,cpu")
    assert answer.code == 0, answer
    assert place.validated() == alone.validated()
    manifest = json.loads(place.run.paths.manifest(3).read_text())
    assert manifest["status"] == "passed" and "data/causal_features.json" in manifest["inputs"]
    assert not PhasePaths(place.run.paths.pathways).slices.exists()
    again = launch("--phase", "pathway", *place.options, "--devices", "cpu,cpu")
    assert again.code == 0 and "nothing to do" in again.err
    current = helpers.run("pathway", *place.options, "--from", "3", "--to", "3")
    assert current.code == 0 and "step 3 (pathway discovery): complete and current" in current.err


def test_another_threshold_is_judged_anew_without_computing(alone: Place, tmp_path: Path) -> None:
    shutil.copytree(alone.data, tmp_path / "data")
    place = Place(alone.profile, tmp_path / "data")
    words = ("--phase", "pathway", *place.options, "--devices", "cpu,cpu", "--set", "replay.min_effect=50.0")
    answer = launch(*words)
    assert answer.code == 0 and "merging" in answer.err and "left to do" not in answer.err, answer
    results = json.loads(place.validated())
    assert results["metadata"]["settings"]["replay"]["min_effect"] == 50
    assert not any(edge["validated"] for edge in results["edges"])
    assert any(edge["validated"] for edge in json.loads(alone.validated())["edges"])


def test_a_dry_run_says_which_targets_would_go_where(alone: Place, tmp_path: Path) -> None:
    place = alone.copy(tmp_path / "data")
    answer = launch("--phase", "pathway", *place.options, "--devices", "cpu,cpu", "--dry-run")
    assert answer.code == 0, answer
    assert answer.out.splitlines() == ["positions 0 to 2 on cpu 1", "positions 3 to 5 on cpu 2"]


def test_a_launch_that_is_stopped_goes_on_and_ends_with_the_same_bytes(alone: Place, tmp_path: Path) -> None:
    place = alone.copy(tmp_path / "data")
    words = ("--phase", "pathway", *place.options, "--devices", "cpu,cpu")
    launcher = begin(*words)
    wait_for(launcher, PhasePaths(place.run.paths.pathways), lambda records: any(item.done for item in records))
    launcher.send_signal(signal.SIGTERM)
    answer = ended(launcher)
    assert answer.code == 130, answer
    assert launch(*words).code == 0
    assert place.validated() == alone.validated()
