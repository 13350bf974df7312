from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError
from common.runs.artifacts import EVALUATION_RESULTS, SCORES, PhasePaths
from common.runs.detection_output import (
    detected_features,
    detection_reports,
    predictor_fires,
    recorded_choice,
    validation_scores,
)
from common.runs.discovery import PhaseOutput
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, write_record
from common.statistics.bootstrap import ScoredProblems

pytestmark = pytest.mark.unit

# task id, passed, score of the correct predictor, score of the incorrect one
ROWS = [(7, True, 3.0, 0.0), (3, False, 2.0, 4.0), (9, True, 1.9, 5.0), (4, False, 0.0, 3.9)]


def threshold_entry(threshold: float | None) -> dict[str, Any]:
    return {
        "split": "hyperparams",
        "threshold": threshold,
        "f1": None if threshold is None else 0.75,
        "f1_all_positive": None if threshold is None else 0.5,
        "n": 8,
        "n_positive": 0 if threshold is None else 3,
        "n_excluded": 1,
        "reason": "no positive row among 8" if threshold is None else None,
    }


def published(root: Path, correct: float | None = 2.0, incorrect: float | None = 4.0) -> PhaseOutput:
    """Phase 3.8's output, with rows of the hyperparameter split that would fire before those of validation."""
    config = Config(data_dir=str(root))
    paths = PhasePaths(config.phase_dir("3.8"))
    directions = {
        "correct": {"feature": {"layer": 3, "index": 257}, "threshold": threshold_entry(correct)},
        "incorrect": {"feature": {"layer": 2, "index": 498}, "threshold": threshold_entry(incorrect)},
    }
    hyperparams = [(1, True, 9.0, 9.0), (2, False, 9.0, 9.0)]
    columns = ("task_id", "test_passed", "correct_score", "incorrect_score")
    values = dict(zip(columns, map(list, zip(*hyperparams, *ROWS, strict=True)), strict=True))
    table = pa.table({"split": ["hyperparams"] * 2 + ["validation"] * 4, **values})
    outputs = [
        OutputFile(EVALUATION_RESULTS, write_json(paths.root / EVALUATION_RESULTS, {"directions": directions})),
        OutputFile(SCORES, write_parquet(paths.root / SCORES, table), table.num_rows),
    ]
    fields: dict[str, Any] = {"inputs": [], "outputs": outputs, "wall_seconds": {}, "details": {}}
    return PhaseOutput("3.8", paths, write_record(paths, phase="3.8", config=config, extent=Extent(4, 4), **fields))


def test_features_and_thresholds_are_those_of_phase_3_8(tmp_path: Path) -> None:
    base = published(tmp_path)
    reports = detection_reports(base)
    assert detected_features(reports) == ((3, 257), (2, 498))
    choice = recorded_choice(reports["incorrect"])
    assert (choice.threshold, choice.f1, choice.f1_all_positive, choice.n, choice.n_positive) == (4.0, 0.75, 0.5, 8, 3)
    assert choice.reason is None and len(choice.thresholds) == len(choice.f1_curve) == 0
    assert [Path(item.path).name for item in base.used] == [EVALUATION_RESULTS]


def test_scores_are_those_of_the_validation_split_with_what_each_predictor_is_to_detect(tmp_path: Path) -> None:
    found = validation_scores(published(tmp_path))
    for direction, scores in (("correct", [3.0, 2.0, 1.9, 0.0]), ("incorrect", [0.0, 4.0, 5.0, 3.9])):
        own = found[direction]  # type: ignore[index]
        assert (own.groups.tolist(), own.scores.tolist()) == ([7, 3, 9, 4], scores)
    assert found["correct"].positive.tolist() == [True, False, True, False]
    assert found["incorrect"].positive.tolist() == [False, True, False, True]


def test_one_steers_towards_correct_where_failure_is_predicted_and_towards_incorrect_where_success_is(
    tmp_path: Path,
) -> None:
    base = published(tmp_path)
    fires = predictor_fires(base, validation_scores(base))
    assert fires["correct"] == ("incorrect", 4.0, 4, frozenset({3, 9}), None)
    assert fires["incorrect"] == ("correct", 2.0, 4, frozenset({7, 3}), None)


def test_another_models_scores_are_held_against_the_same_thresholds(tmp_path: Path) -> None:
    ids, nothing = np.array([3, 4, 7]), np.zeros(3, dtype=bool)
    scores = {
        "correct": ScoredProblems(np.array([0.0, 2.0, 1.0]), nothing, ids),
        "incorrect": ScoredProblems(np.array([1.0, 3.0, 2.0]), nothing, ids),
    }
    fires = predictor_fires(published(tmp_path), scores)  # type: ignore[arg-type]
    assert fires["correct"].task_ids == frozenset()
    assert (fires["incorrect"].task_ids, fires["incorrect"].n_scored) == (frozenset({4}), 3)


def test_without_a_threshold_there_is_a_reason_and_no_set(tmp_path: Path) -> None:
    base = published(tmp_path, incorrect=None)
    fires = predictor_fires(base, validation_scores(base))
    assert (fires["correct"].task_ids, fires["correct"].threshold) == (None, None)
    assert fires["correct"].reason == ("no threshold was chosen for the incorrect predictor: no positive row among 8")
    assert fires["incorrect"].task_ids == frozenset({7, 3}) and fires["incorrect"].reason is None


def test_results_that_were_changed_afterwards_are_refused(tmp_path: Path) -> None:
    base = published(tmp_path)
    path = base.paths.root / EVALUATION_RESULTS
    found = json.loads(path.read_text())
    found["directions"]["correct"]["threshold"]["threshold"] = 0.5
    path.write_text(json.dumps(found))
    with pytest.raises(PipelineError, match=EVALUATION_RESULTS):
        detection_reports(base)
