from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from common.statistics.detection import (
    Classification,
    auroc,
    average_precision,
    classification_at,
    f1_of_calling_everything_positive,
    f1_optimal_threshold,
    precision_recall_curve,
    roc_curve,
)

pytestmark = pytest.mark.numeric

SCORES = np.array([0.0, 0.0, 1.0, 2.0, 2.0, 3.0])
POSITIVE = np.array([False, True, False, True, False, True])
UNDEFINED_WITHOUT_POSITIVES = {"f1", "f1_all_positive", "recall", "balanced_accuracy", "matthews"}


def labelled_scores(seed: int, kind: str, n: int = 388) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of the shapes that occur: all different, zero-inflated, few values, one value."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    latent = rng.standard_normal(n) + 0.6 * positive
    kinds = {
        "continuous": latent,
        "zero-inflated": np.maximum(latent - 0.8, 0),
        "few values": np.round(latent),
        "constant": np.full(n, 2.5),
    }
    return kinds[kind].astype(np.float32).astype(np.float64), positive


KINDS = ["continuous", "zero-inflated", "few values", "constant"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_areas_equal_scikit_learns(seed: int, kind: str) -> None:
    scores, positive = labelled_scores(seed, kind)
    assert auroc(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-12)
    expected = metrics.average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(expected, abs=1e-12)


def test_the_area_under_the_roc_curve_counts_tied_pairs_half() -> None:
    # Pairs of a positive (0, 2, 3) and a negative (0, 1, 2): 0 wins against none and ties one, 2 wins against two and
    # ties one, 3 wins against all three.
    assert auroc(SCORES, POSITIVE) == (0.5 + 2.5 + 3) / 9
    assert auroc(-SCORES, POSITIVE) == pytest.approx(1 - 6 / 9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_roc_curve_has_scikit_learns_points(kind: str) -> None:
    scores, positive = labelled_scores(7, kind)
    curve = roc_curve(scores, positive)
    false_rate, true_rate, threshold = metrics.roc_curve(positive, scores, drop_intermediate=False)
    assert curve is not None
    np.testing.assert_allclose(curve.false_positive_rate, false_rate, rtol=1e-12)
    np.testing.assert_allclose(curve.true_positive_rate, true_rate, rtol=1e-12)
    np.testing.assert_array_equal(curve.threshold, threshold)


@pytest.mark.parametrize("kind", KINDS)
def test_the_precision_recall_curve_has_scikit_learns_points_but_the_invented_one(kind: str) -> None:
    scores, positive = labelled_scores(8, kind)
    curve = precision_recall_curve(scores, positive)
    precision, recall, threshold = metrics.precision_recall_curve(positive, scores)
    assert curve is not None
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1], rtol=1e-12)
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1], rtol=1e-12)
    np.testing.assert_array_equal(curve.threshold, threshold[::-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_threshold_is_the_best_of_all_distinct_scores_and_the_highest_of_equal_ones(
    seed: int, kind: str
) -> None:
    scores, positive = labelled_scores(seed, kind, n=97)
    choice = f1_optimal_threshold(scores, positive)
    candidates = sorted(set(scores.tolist()))
    curve = [float(metrics.f1_score(positive, scores >= candidate)) for candidate in candidates]
    assert choice.thresholds.tolist() == candidates
    np.testing.assert_allclose(choice.f1_curve, curve, rtol=1e-12)
    best = max(c for c, f1 in zip(candidates, curve, strict=True) if math.isclose(f1, max(curve), rel_tol=1e-12))
    assert choice.threshold == best
    assert choice.f1 == pytest.approx(max(curve), rel=1e-12)
    assert (choice.n, choice.n_positive, choice.reason) == (97, positive.sum(), None)


def test_of_equal_f1_the_higher_threshold_is_chosen() -> None:
    # At 4 one of two positives is flagged, alone: F1 2/3. At 1 both are flagged among four rows: F1 2/3.
    scores, positive = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, False, True])
    choice = f1_optimal_threshold(scores, positive)
    assert choice.f1_curve.tolist() == [2 / 3, 2 / 5, 1 / 2, 2 / 3]
    assert choice.threshold == 4.0


def test_on_its_own_rows_the_chosen_f1_never_falls_below_calling_everything_positive() -> None:
    for seed in range(20):
        scores, positive = labelled_scores(seed, "few values", n=30)
        choice = f1_optimal_threshold(-scores, positive)
        assert choice.f1 is not None and choice.f1_all_positive is not None
        assert choice.f1 >= choice.f1_all_positive == choice.f1_curve[0]


def test_calling_everything_incorrect_has_the_f1_of_the_published_split() -> None:
    assert f1_of_calling_everything_positive(np.arange(388) < 272) == pytest.approx(0.824, abs=5e-4)
    assert f1_of_calling_everything_positive(np.arange(388) < 116) == pytest.approx(0.460, abs=5e-4)
    assert f1_of_calling_everything_positive(np.zeros(10, dtype=bool)) is None


@pytest.mark.parametrize("kind", ["continuous", "zero-inflated", "few values"])
def test_figures_at_a_threshold_equal_scikit_learns(kind: str) -> None:
    scores, positive = labelled_scores(11, kind)
    threshold = float(np.quantile(scores, 0.85))
    found, flagged = classification_at(scores, positive, threshold), scores >= threshold
    (tn, fp), (fn, tp) = metrics.confusion_matrix(positive, flagged).tolist()
    assert (found.tp, found.fp, found.tn, found.fn) == (tp, fp, tn, fn)
    assert (found.n, found.n_positive, found.n_flagged) == (388, positive.sum(), flagged.sum())
    expected = {
        "f1": metrics.f1_score(positive, flagged),
        "precision": metrics.precision_score(positive, flagged),
        "recall": metrics.recall_score(positive, flagged),
        "specificity": metrics.recall_score(~positive, ~flagged),
        "balanced_accuracy": metrics.balanced_accuracy_score(positive, flagged),
        "matthews": metrics.matthews_corrcoef(positive, flagged),
        "f1_all_positive": metrics.f1_score(positive, np.ones(388, dtype=bool)),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-12)
    assert found.reasons == {}


def test_the_published_error_detector_is_hardly_better_than_calling_everything_incorrect() -> None:
    # Counts of the published study's validation split: 268 of 272 failures flagged, and 113 of 116 passes.
    scores = np.repeat([1.0, 0.0, 1.0, 0.0], [268, 4, 113, 3])
    positive = np.repeat([True, True, False, False], [268, 4, 113, 3])
    found = classification_at(scores, positive, 1.0)
    assert found.f1 == pytest.approx(0.8208, abs=5e-5) and found.f1_all_positive == pytest.approx(0.8242, abs=5e-5)
    assert found.balanced_accuracy == pytest.approx(0.506, abs=5e-4)


def test_a_score_equal_to_the_threshold_is_called_positive_in_choosing_and_in_applying() -> None:
    choice = f1_optimal_threshold(SCORES, POSITIVE)
    assert choice.threshold is not None
    applied = classification_at(SCORES.astype(np.float32), POSITIVE, choice.threshold)
    assert applied.n_flagged == np.count_nonzero(choice.threshold <= SCORES)
    assert applied.f1 == choice.f1


def undefined(found: Classification) -> set[str]:
    missing = {name for name, value in found.as_dict().items() if value is None}
    assert missing == set(found.reasons)
    return missing


def test_without_positive_rows_figures_are_missing_with_a_reason_and_none_is_zero() -> None:
    found = classification_at(SCORES, np.zeros(6, dtype=bool), 1.5)
    assert undefined(found) == UNDEFINED_WITHOUT_POSITIVES
    assert set(found.reasons.values()) == {"no positive row among 6"}
    assert (found.fp, found.tn, found.precision, found.specificity) == (3, 3, 0.0, 0.5)
    assert auroc(SCORES, np.zeros(6, dtype=bool)) is None and roc_curve(SCORES, np.zeros(6, dtype=bool)) is None
    choice = f1_optimal_threshold(SCORES, np.zeros(6, dtype=bool))
    assert (choice.threshold, choice.f1, choice.reason) == (None, None, "no positive row among 6")
    assert np.isnan(choice.f1_curve).all() and len(choice.f1_curve) == 4


def test_without_negative_rows_figures_are_missing_with_a_reason() -> None:
    everything = np.ones(6, dtype=bool)
    found = classification_at(SCORES, everything, 1.5)
    assert undefined(found) == {"specificity", "balanced_accuracy", "matthews"}
    assert found.reasons["specificity"] == "no negative row among 6"
    assert (found.precision, found.recall, found.f1, found.f1_all_positive) == (1.0, 0.5, 2 / 3, 1.0)
    assert auroc(SCORES, everything) is None and average_precision(SCORES, everything) is None
    assert precision_recall_curve(SCORES, everything) is None


@pytest.mark.parametrize(("threshold", "missing"), [(9.0, {"precision", "matthews"}), (0.0, {"matthews"})])
def test_flagging_nothing_or_everything_leaves_the_correlation_undefined(threshold: float, missing: set[str]) -> None:
    found = classification_at(SCORES, POSITIVE, threshold)
    assert undefined(found) == missing
    assert found.balanced_accuracy == 0.5
    assert found.f1 == (0.0 if threshold else found.f1_all_positive)


def test_no_rows_at_all_give_counts_of_zero_and_reasons_for_everything_else() -> None:
    found = classification_at(np.array([]), np.array([], dtype=bool), 1.0)
    assert (found.n, found.tp, found.fp, found.tn, found.fn) == (0, 0, 0, 0, 0)
    assert undefined(found) == UNDEFINED_WITHOUT_POSITIVES | {"precision", "specificity"}
    assert f1_optimal_threshold(np.array([]), np.array([], dtype=bool)).reason == "no rows"


def test_scores_that_are_not_finite_are_a_bug_and_no_lowest_rank() -> None:
    with pytest.raises(AssertionError, match="1 of 6 not finite"):
        auroc(np.where(SCORES == 3, np.nan, SCORES), POSITIVE)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=25), st.integers(-4, 4))
def test_counts_add_up_and_the_result_is_json_whatever_the_rows(rows: list[tuple[int, bool]], threshold: int) -> None:
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    positive = np.array([label for _, label in rows], dtype=bool)
    found = classification_at(scores, positive, float(threshold))
    assert found.tp + found.fp + found.tn + found.fn == found.n == len(rows)
    assert found.tp + found.fn == found.n_positive and found.tp + found.fp == found.n_flagged
    undefined(found)
    json.dumps(found.as_dict(), allow_nan=False)
    area, reversed_area = auroc(scores, positive), auroc(-scores, positive)
    assert (area is None) == (len(set(positive.tolist())) < 2)
    if area is not None and reversed_area is not None:
        assert area + reversed_area == pytest.approx(1.0)
