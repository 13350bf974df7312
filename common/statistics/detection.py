"""How well a score tells two classes apart: areas under curves, thresholds, and figures at a threshold.

One row is one labelled sample; `scores` (finite) and `positive` (bool) have shape (n_rows,), and a row is called
positive when its score is at least the threshold. A figure that cannot be computed is None with a reason, never 0; an
F1 always comes with the F1 of calling everything positive, which is the least that a threshold has to beat. Ranking
figures come from one table, the rows of either class at each distinct score, which `common.statistics.bootstrap`
resamples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.statistics.selection import BoolArray, FloatArray, IntArray


class ScoreCounts(NamedTuple):
    """The distinct scores, highest first, and the positive and negative rows that have each; shape (n_distinct,)."""

    score: FloatArray
    positives: IntArray
    negatives: IntArray


class RocCurve(NamedTuple):
    """Rates at every threshold, from the highest on; the first point is (0, 0) at an infinite threshold."""

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    threshold: FloatArray


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall at every distinct score as the threshold, from the highest on."""

    recall: FloatArray
    precision: FloatArray
    threshold: FloatArray


@dataclass(frozen=True)
class ThresholdChoice:
    """The threshold with the highest F1, and F1 at every candidate (`thresholds` rising, shape (n_distinct,)).

    Without a positive row there is no F1: `threshold` is None, `reason` says why, and `f1_curve` holds nan.
    """

    threshold: float | None
    f1: float | None
    f1_all_positive: float | None
    n: int
    n_positive: int
    thresholds: FloatArray
    f1_curve: FloatArray
    reason: str | None


@dataclass(frozen=True)
class Classification:
    """Counts and figures of calling rows positive from `threshold` on.

    `f1_all_positive` is the F1 of calling every row positive. A figure that is None has its reason in `reasons`.
    """

    threshold: float
    n: int
    n_positive: int
    n_flagged: int
    tp: int
    fp: int
    tn: int
    fn: int
    f1: float | None
    f1_all_positive: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    balanced_accuracy: float | None
    matthews: float | None
    reasons: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns every figure by name, ready for JSON."""
        return asdict(self)


def checked_rows(scores: ArrayLike, positive: NDArray) -> tuple[FloatArray, BoolArray]:
    """Returns the scores in float64 beside their labels, and asserts that they are finite and belong together."""
    values = np.asarray(scores, dtype=np.float64)
    assert positive.dtype == np.bool_ and positive.ndim == 1, f"positive: {positive.dtype} {positive.shape}"
    assert values.shape[:1] == positive.shape, f"scores: {values.shape}, positive: {positive.shape}"
    assert np.isfinite(values).all(), f"scores: {np.count_nonzero(~np.isfinite(values))} of {values.size} not finite"
    return values, positive


def missing_class(positive: BoolArray) -> str | None:
    """Says which class has no row, or returns None where both have."""
    n, n_positive = len(positive), int(np.count_nonzero(positive))
    if n == 0:
        return "no rows"
    if n_positive == 0:
        return f"no positive row among {n}"
    return f"no negative row among {n}" if n_positive == n else None


def count_by_score(scores: ArrayLike, positive: BoolArray) -> ScoreCounts:
    """Counts the rows of either class at each distinct score."""
    values, positive = checked_rows(scores, positive)
    rising, position = np.unique(values, return_inverse=True)
    positives = np.bincount(position[positive], minlength=len(rising))
    negatives = np.bincount(position[~positive], minlength=len(rising))
    return ScoreCounts(rising[::-1], positives[::-1], negatives[::-1])


def auroc_from_counts(positives: NDArray, negatives: NDArray) -> FloatArray:
    """Returns the area under the ROC curve, summed over axis 0 (distinct scores, highest first).

    Further axes (bootstrap draws, with weighted counts) stay; nan where a class is missing. The area is the share of
    pairs of a positive and a negative row in which the positive one has the higher score, ties counting half (Hanley &
    McNeil, Radiology 143, 1982).
    """
    higher = np.cumsum(positives, axis=0, dtype=np.float64)
    higher -= positives / 2
    higher *= negatives
    pairs = positives.sum(axis=0, dtype=np.float64) * negatives.sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return higher.sum(axis=0) / pairs


def average_precision_from_counts(positives: NDArray, negatives: NDArray) -> FloatArray:
    """Returns the average precision, summed over axis 0; axes and nan as in `auroc_from_counts`.

    It is the sum of precision times the step in recall over all thresholds, without interpolation (Zhu, Recall,
    Precision and Average Precision, University of Waterloo, 2004; as scikit-learn). Where every row is positive it
    would be 1 whatever the score, and counts as undefined here.
    """
    precision = np.cumsum(positives, axis=0, dtype=np.float64)
    flagged = np.cumsum(negatives, axis=0, dtype=np.float64)
    flagged += precision
    np.divide(precision, flagged, out=precision, where=flagged > 0)
    precision *= positives
    n_positive, n_negative = positives.sum(axis=0, dtype=np.float64), negatives.sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(n_negative > 0, precision.sum(axis=0) / n_positive, np.nan)


def auroc(scores: ArrayLike, positive: BoolArray) -> float | None:
    """Returns the area under the ROC curve, ties counting half; None where `missing_class` names a reason."""
    counts = count_by_score(scores, positive)
    return None if missing_class(positive) else float(auroc_from_counts(counts.positives, counts.negatives))


def average_precision(scores: ArrayLike, positive: BoolArray) -> float | None:
    """Returns the average precision; None where `missing_class` names a reason. Chance has the share of positives."""
    counts = count_by_score(scores, positive)
    return None if missing_class(positive) else float(average_precision_from_counts(counts.positives, counts.negatives))


def roc_curve(scores: ArrayLike, positive: BoolArray) -> RocCurve | None:
    """Returns the ROC curve with every distinct score as a point; None where `missing_class` names a reason."""
    counts = count_by_score(scores, positive)
    if missing_class(positive):
        return None
    true_positives = np.concatenate([[0], np.cumsum(counts.positives)])
    false_positives = np.concatenate([[0], np.cumsum(counts.negatives)])
    threshold = np.concatenate([[np.inf], counts.score])
    return RocCurve(false_positives / false_positives[-1], true_positives / true_positives[-1], threshold)


def precision_recall_curve(scores: ArrayLike, positive: BoolArray) -> PrecisionRecallCurve | None:
    """Returns precision and recall at every distinct score; None where `missing_class` names a reason.

    There is no invented point at recall 0: the first one flags the rows with the highest score.
    """
    counts = count_by_score(scores, positive)
    if missing_class(positive):
        return None
    true_positives = np.cumsum(counts.positives)
    flagged = true_positives + np.cumsum(counts.negatives)
    return PrecisionRecallCurve(true_positives / true_positives[-1], true_positives / flagged, counts.score)


def f1_of_calling_everything_positive(positive: BoolArray) -> float | None:
    """Returns 2 p / (n + p) for p positive rows among n; None without a positive row."""
    n_positive = int(np.count_nonzero(positive))
    return 2 * n_positive / (len(positive) + n_positive) if n_positive else None


def f1_optimal_threshold(scores: ArrayLike, positive: BoolArray) -> ThresholdChoice:
    """Finds the threshold with the highest F1 among all distinct scores; of equal F1, the highest threshold.

    F1 is 2 tp / (flagged + positives), one division of whole numbers, so that equal values tie exactly. The lowest
    score calls everything positive: on the rows it is chosen on, F1 never falls below that.
    """
    counts = count_by_score(scores, positive)
    n, n_positive = len(positive), int(np.count_nonzero(positive))
    thresholds = counts.score[::-1]
    if n_positive == 0:
        nothing, reason = np.full(len(thresholds), np.nan), missing_class(positive)
        return ThresholdChoice(None, None, None, n, n_positive, thresholds, nothing, reason)
    true_positives = np.cumsum(counts.positives)
    f1 = 2 * true_positives / (true_positives + np.cumsum(counts.negatives) + n_positive)
    best = int(np.argmax(f1))  # the first of equal ones, and the table begins with the highest score
    trivial = f1_of_calling_everything_positive(positive)
    return ThresholdChoice(
        float(counts.score[best]), float(f1[best]), trivial, n, n_positive, thresholds, f1[::-1], None
    )


def classification_at(scores: ArrayLike, positive: BoolArray, threshold: float) -> Classification:
    """Returns counts and figures of calling the rows with `score >= threshold` positive.

    Balanced accuracy is the mean of recall and specificity; the correlation is Matthews' (Biochim. Biophys. Acta 405,
    1975). F1 is 2 tp / (flagged + positives): 0 where positive rows exist and none of them is flagged, None without
    any positive row.
    """
    values, positive = checked_rows(scores, positive)
    flagged = values >= threshold
    n, n_positive, n_flagged = len(values), int(positive.sum()), int(flagged.sum())
    tp = int((flagged & positive).sum())
    fp, fn = n_flagged - tp, n_positive - tp
    tn = n - n_positive - fp
    figures, reasons = _figures(tp, fp, tn, fn)
    return Classification(
        threshold=float(threshold),
        n=n,
        n_positive=n_positive,
        n_flagged=n_flagged,
        tp=tp,
        fp=fp,
        tn=tn,
        fn=fn,
        f1=figures["f1"],
        f1_all_positive=f1_of_calling_everything_positive(positive),
        precision=figures["precision"],
        recall=figures["recall"],
        specificity=figures["specificity"],
        balanced_accuracy=figures["balanced_accuracy"],
        matthews=figures["matthews"],
        reasons=reasons,
    )


def _figures(tp: int, fp: int, tn: int, fn: int) -> tuple[dict[str, float | None], dict[str, str]]:
    """Returns what the counts allow to compute, and the reasons of what they do not."""
    n_positive, n_negative, n_flagged, n = tp + fn, fp + tn, tp + fp, tp + fp + tn + fn
    recall, specificity = _ratio(tp, n_positive), _ratio(tn, n_negative)
    balanced = None if recall is None or specificity is None else (recall + specificity) / 2
    spread = (n_positive * n_negative * n_flagged * (n - n_flagged)) ** 0.5
    figures = {
        "f1": _ratio(2 * tp, n_flagged + n_positive) if n_positive else None,
        "precision": _ratio(tp, n_flagged),
        "recall": recall,
        "specificity": specificity,
        "balanced_accuracy": balanced,
        "matthews": _ratio(tp * tn - fp * fn, spread),
    }
    no_positive = (n_positive == 0, f"no positive row among {n}")
    no_negative = (n_negative == 0, f"no negative row among {n}")
    none_flagged = (n_flagged == 0, f"no row of {n} is flagged")
    all_flagged = (n_flagged == n, f"each of {n} rows is flagged")
    needs = {
        "f1": [no_positive],
        "f1_all_positive": [no_positive],
        "precision": [none_flagged],
        "recall": [no_positive],
        "specificity": [no_negative],
        "balanced_accuracy": [no_positive, no_negative],
        "matthews": [no_positive, no_negative, none_flagged, all_flagged],
    }
    reasons = {name: [why for lacks, why in lacking if lacks] for name, lacking in needs.items()}
    return figures, {name: why[0] for name, why in reasons.items() if why}


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
