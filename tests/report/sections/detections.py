"""Phase 3.8's output for scores that a test chooses, made by the functions that phase 3.8 uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from common.config import Config
from common.runs.artifacts import EVALUATION_RESULTS, SCORES
from common.runs.metadata import Extent
from common.statistics.detection import f1_optimal_threshold
from common.statistics.detection_report import detection_report, difficulty_of, report_by_group, rival_report
from tests.report.helpers import publish
from tests.report.sections.artifacts import SVG

DRAWS = 200


class Direction:
    """Scores and labels of one direction's feature on the validation split and what rivals score there."""

    def __init__(self, scores: Any, positive: Any, rivals: Mapping[str, Any] | None = None) -> None:
        self.scores, self.positive = np.asarray(scores, dtype=float), np.asarray(positive, dtype=bool)
        own = np.random.default_rng(0).normal(size=(len(self.scores), 4))
        self.rivals = {
            "logistic regression": self.scores[:, None] * 0.5,
            "difference of class means": -self.scores[:, None],
            "random directions": own,
            "matched random features": own * 2,
            "prompt length": np.ones((len(self.scores), 1)),
            "cyclomatic complexity": np.arange(len(self.scores), dtype=float)[:, None],
            **(rivals or {}),
        }


def direction_report(name: str, of: Direction) -> dict[str, Any]:
    """Returns a direction of `evaluation_results.json`, made by the functions that phase 3.8 uses.

    The threshold is chosen on the same rows, which the real phase never does.
    """
    n = len(of.scores)
    groups, complexity = np.arange(n) + 1, np.arange(n) % 4 + 1
    choice = f1_optimal_threshold(of.scores, of.positive)
    how = (choice.threshold, 42, DRAWS)
    by_difficulty = report_by_group(of.scores, of.positive, groups, difficulty_of(complexity), ["1", "2-3", "4+"], *how)
    temperatures = np.zeros(n)
    return {
        "feature": {"layer": 3 if name == "correct" else 2, "index": 257},
        "positive": "passed" if name == "correct" else "failed",
        "threshold": {
            "split": "hyperparams",
            "threshold": choice.threshold,
            "f1": choice.f1,
            "f1_all_positive": choice.f1_all_positive,
            "n": choice.n,
            "n_positive": choice.n_positive,
            "n_excluded": 0,
            "reason": choice.reason,
        },
        "validation": {**detection_report(of.scores, of.positive, groups, *how), "n_excluded": 0},
        "by_difficulty": by_difficulty,
        "by_temperature": report_by_group(of.scores, of.positive, groups, temperatures, [0.0, 0.6], *how),
        "rivals": {rival: _rival(rival, scores, of, groups) for rival, scores in of.rivals.items()},
    }


def _rival(name: str, scores: Any, of: Direction, groups: Any) -> dict[str, Any]:
    entry = {"settings": {}, **rival_report(of.scores, scores, of.positive, groups, 42, DRAWS)}
    if name == "matched random features":
        entry["settings"] = {"firing_rate": 0.7, "median_firing_rate": 0.25}
    if scores.shape[1] == 1:
        choice = f1_optimal_threshold(scores[:, 0], of.positive)
        entry["detection"] = detection_report(scores[:, 0], of.positive, groups, choice.threshold, 42, DRAWS)
    return entry


def publish_detection(
    config: Config, correct: Direction, incorrect: Direction, extent: Extent | None = None, **changes: Any
) -> dict[str, Any]:
    """Publishes phase 3.8 and returns `evaluation_results.json`; `changes` replace parts of it."""
    n = len(correct.scores)
    results = {
        "what": "detection",
        "splits": {"features": "sae", "thresholds": "hyperparams", "figures": "validation"},
        "n": {"sae": 20, "hyperparams": 4, "validation": n},
        "predictor_note": None,
        "features_given": [],
        "site_given": False,
        "seed": 42,
        "bootstrap_draws": DRAWS,
        "directions": {
            "correct": direction_report("correct", correct),
            "incorrect": direction_report("incorrect", incorrect),
        },
        **changes,
    }
    scores = pa.table(
        {
            "split": ["validation"] * n,
            "task_id": list(range(1, n + 1)),
            "test_passed": correct.positive,
            "correct_score": correct.scores,
            "incorrect_score": incorrect.scores,
        }
    )
    names = (
        "roc_curves",
        "precision_recall_curves",
        "f1_against_threshold",
        "score_distributions",
        "confusion_matrices",
    )
    plots = {f"{name}.svg": SVG for name in names}
    publish(config, "3.8", {EVALUATION_RESULTS: results, SCORES: scores, **plots}, extent or Extent(n, n))
    return results
