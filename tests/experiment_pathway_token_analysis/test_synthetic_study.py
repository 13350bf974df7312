"""The generator of studies: the expected size, equal bytes for equal seeds, and the truth that it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.runs.files import sha256_file
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.synthetic_study import FULL, SMALL, main, planted_word
from tests.experiment_pathway_token_analysis.studies import LLAMA, OURS, run_in, study_in

pytestmark = pytest.mark.unit


def hashes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_full_size_is_the_expected_one() -> None:
    study = load_settings("llama-3.1-8b").study
    assert (FULL.checkpoints, FULL.logs) == (study.expected_checkpoints, study.expected_response_logs) == (358, 199)
    assert 1_800_000 <= FULL.total_trials < 1_810_000 and FULL.layers == tuple(range(1, 32)) and FULL.trials == 30


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_equal_seeds_give_equal_bytes_and_others_others(kind: str, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        study_in(tmp_path / name, kind, seed=seed)
    one, two, other = (hashes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two and len(one) == SMALL.checkpoints + SMALL.logs + 1 and not set(one.values()) & set(other.values())


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_the_planted_word_stands_in_the_first_classs_patch_of_planted_features_only(kind: str, tmp_path: Path) -> None:
    truth = study_in(tmp_path, kind)
    run = run_in(tmp_path, kind)
    study = run.settings.study
    a, b = study.classes
    patched = {study.condition(a, "own"), study.condition(b, "opposite")}
    seen: dict[tuple[bool, bool], list[bool]] = {}
    for path in run.study_root.glob(study.response_logs):
        for trial in json.loads(path.read_text()):
            place = trial["feature"] in truth["planted"], study.canonical()[trial["condition"]] in patched
            seen.setdefault(place, []).append(planted_word(trial["feature"]) in trial["response"].split())
    shares = {place: sum(found) / len(found) for place, found in seen.items()}
    assert shares.pop((True, True)) == pytest.approx(SMALL.word_share, abs=0.08)
    assert set(shares.values()) == {0.0} and len(shares) == 3


def test_fewer_files_than_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="3 layers needs at least 3 files of a kind, not 2"):
        study_in(tmp_path, LLAMA, dataclasses.replace(SMALL, logs=2))


def test_the_command_writes_a_study_with_faults(tmp_path: Path) -> None:
    assert main([str(tmp_path / "study"), "--profile", "organism", "--fault", "cut_off_json"]) == 0
    logs = sorted((tmp_path / "study" / "response_logs").iterdir())
    assert len(logs) == SMALL.logs
    with pytest.raises(json.JSONDecodeError):
        json.loads(logs[0].read_text())
    assert json.loads(logs[1].read_text())
    assert main([str(tmp_path / "other"), "--profile", "nobody"]) == 2
