"""What later phases take from phase 3.8: predictor features, thresholds, scores, and where to steer selectively.

Nothing is chosen here: a threshold that another model or a selective intervention applies is the one that phase 3.8
found on the base model's hyperparameter split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.runs.artifacts import EVALUATION_RESULTS, SCORES
from common.runs.best_features import BestFeatures
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common.runs.files import read_json, verified_bytes
from common.statistics.bootstrap import ScoredProblems
from common.statistics.detection import ThresholdChoice
from common.statistics.permutation import DIRECTIONS, Direction

# Whose score decides where a direction is applied: fix what is expected to fail, break what is expected to pass.
PREDICTOR: dict[Direction, Direction] = {"correct": "incorrect", "incorrect": "correct"}


class SelectedProblems(NamedTuple):
    """The problems on which a direction is applied: those whose `predictor` score reaches its threshold.

    `n_scored` problems had a score. Without a threshold `task_ids` is None, and `reason` says why.
    """

    predictor: Direction
    threshold: float | None
    n_scored: int
    task_ids: frozenset[int] | None
    reason: str | None


def use_detection(base: PhaseOutput) -> None:
    """Notes that phase 3.8's figures and scores will be read: what is made from them is stale once they change."""
    base.use(EVALUATION_RESULTS)
    base.use(SCORES)


def detection_reports(base: PhaseOutput) -> dict[Direction, dict[str, Any]]:
    """Returns phase 3.8's report of either direction, its bytes checked against the record."""
    path = base.use(EVALUATION_RESULTS)
    verified_bytes(path, base.entry(EVALUATION_RESULTS)["sha256"])
    directions = read_json(path)["directions"]
    return {direction: directions[direction] for direction in DIRECTIONS}


def detected_features(reports: Mapping[Direction, Mapping[str, Any]]) -> BestFeatures:
    """Returns the predictor features that phase 3.8 evaluated, given by hand or not."""
    return BestFeatures(*(Feature(**reports[direction]["feature"]) for direction in DIRECTIONS))


def recorded_choice(report: Mapping[str, Any]) -> ThresholdChoice:
    """Returns the threshold of one direction's report; F1 at the other candidates is not recorded, so none are here."""
    found, no_candidates = report["threshold"], np.empty(0)
    return ThresholdChoice(
        threshold=found["threshold"],
        f1=found["f1"],
        f1_all_positive=found["f1_all_positive"],
        n=found["n"],
        n_positive=found["n_positive"],
        thresholds=no_candidates,
        f1_curve=no_candidates,
        reason=found["reason"],
    )


def validation_scores(base: PhaseOutput) -> dict[Direction, ScoredProblems]:
    """Returns either predictor's score of each labelled validation problem, positive being what it is to detect."""
    table: pa.Table = base.table(SCORES)
    table = table.filter(pa.array([split == "validation" for split in table["split"].to_pylist()]))
    task_ids = table["task_id"].to_numpy()
    passed = table["test_passed"].to_numpy(zero_copy_only=False).astype(bool)
    return {
        direction: ScoredProblems(
            table[f"{direction}_score"].to_numpy(), passed if direction == "correct" else ~passed, task_ids
        )
        for direction in DIRECTIONS
    }


def predictor_fires(base: PhaseOutput, scores: Mapping[Direction, ScoredProblems]) -> dict[Direction, SelectedProblems]:
    """Returns where each direction of steering is applied if a predictor decides, by phase 3.8's thresholds.

    The correct direction is applied where failure is predicted (the incorrect predictor's score is at least its
    threshold), the incorrect direction where success is. `scores` holds each predictor's scores on the validation
    problems: `validation_scores(base)` for the base model. A problem without a score is in no set.
    """
    reports = detection_reports(base)
    return {direction: _selected(PREDICTOR[direction], reports, scores) for direction in DIRECTIONS}


def _selected(
    predictor: Direction,
    reports: Mapping[Direction, Mapping[str, Any]],
    scores: Mapping[Direction, ScoredProblems],
) -> SelectedProblems:
    found, scored = reports[predictor]["threshold"], scores[predictor]
    threshold, n = found["threshold"], len(scored.groups)
    if threshold is None:
        reason = f"no threshold was chosen for the {predictor} predictor: {found['reason']}"
        return SelectedProblems(predictor, None, n, None, reason)
    fires = scored.groups[scored.scores >= threshold]
    return SelectedProblems(predictor, threshold, n, frozenset(fires.tolist()), None)
