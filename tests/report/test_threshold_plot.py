from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from report.threshold_plot import POINTS, threshold_curves, threshold_plot

pytestmark = pytest.mark.numeric

RANDOM = np.random.default_rng(3)
POSITIVE = RANDOM.random(80) < 0.4
SCORES = np.round(POSITIVE + RANDOM.normal(size=80), 1)


def test_the_curves_are_those_of_scikit_learn_at_every_threshold() -> None:
    found = threshold_curves(SCORES, POSITIVE, seed=0)
    assert found.thresholds.tolist() == sorted(set(SCORES.tolist()))
    for place, threshold in enumerate(found.thresholds):
        called = threshold <= SCORES
        assert found.f1[0, place] == pytest.approx(f1_score(POSITIVE, called))
        assert found.precision[0, place] == pytest.approx(precision_score(POSITIVE, called))
        assert found.recall[0, place] == pytest.approx(recall_score(POSITIVE, called))


# At the lowest threshold everything is called positive: recall is 1 in every draw, precision the share of positives,
# whose bootstrap has the standard error sqrt(p (1 - p) / n).
def test_the_bands_hold_what_can_be_worked_out() -> None:
    found = threshold_curves(SCORES, POSITIVE, seed=0)
    assert found.recall[:, 0].tolist() == [1.0, 1.0, 1.0]
    share = POSITIVE.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 80)
    assert found.precision[1, 0] == pytest.approx(share - half, abs=0.025)
    assert found.precision[2, 0] == pytest.approx(share + half, abs=0.025)
    assert (found.f1[1] <= found.f1[0]).all() and (found.f1[0] <= found.f1[2]).all()


def test_many_scores_are_drawn_at_quantiles_with_both_ends_kept() -> None:
    scores = RANDOM.normal(size=1000)
    found = threshold_curves(scores, scores > 0, seed=0)
    assert len(found.thresholds) <= POINTS
    assert found.thresholds[0] == scores.min() and found.thresholds[-1] == scores.max()


def test_validation_rows_alone_are_drawn_and_a_direction_without_a_threshold_says_why() -> None:
    table = pa.table(
        {
            "split": ["hyperparams", *["validation"] * 80],
            "test_passed": [True, *POSITIVE],
            "correct_score": [99.0, *SCORES],
            "incorrect_score": [99.0, *-SCORES],
        }
    )
    at = {"threshold": 0.5, "f1": 0.6, "f1_all_positive": 0.55}
    correct = {
        "feature": {"layer": 1, "index": 2},
        "positive": "passed",
        "threshold": {"reason": None},
        "validation": {"classification": at, "auroc": {"reason": None}},
    }
    incorrect = {**correct, "threshold": {"reason": "no positive row"}, "validation": {"classification": None}}
    made = threshold_plot(table, {"seed": 0, "directions": {"correct": correct, "incorrect": incorrect}})
    left, right = made.axes
    assert np.max(left.lines[0].get_xdata()) == SCORES.max()
    assert [text.get_text() for text in right.texts] == ["no positive row"]
    legend = left.get_legend()
    assert legend is not None
    assert "F1, everything positive: 0.550" in [text.get_text() for text in legend.get_texts()]
