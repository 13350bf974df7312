"""Ranking at full size (P7): 26 layers of 16,384 features, 489 problems, 1,000 shuffles, against a feature loop."""

from __future__ import annotations

import resource

import numpy as np

from benchmarks.timing import Row, seconds
from common.statistics.feature_tests import auroc_from_ranks, rank_sums, welch_t
from common.statistics.permutation import MaxStatisticNull, separation_statistic
from common.statistics.selection import separation_scores

LAYERS, FEATURES, PROBLEMS, SHUFFLES = 26, 16_384, 489, 1000
LOOPED_FEATURES = 32
FIRING_SHARE = 0.05


def ranking_rows() -> list[Row]:
    """Returns row P7 twice: the whole ranking's seconds, and its speed over the loop, feature for feature."""
    labels = np.random.default_rng(0).random(PROBLEMS) < 0.5
    null = MaxStatisticNull(labels, SHUFFLES, 0, separation_statistic)
    total = 0.0
    for layer in range(LAYERS):
        values = _activations(layer)
        total += seconds(lambda values=values: _vectorised(values, labels, null))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sample = _activations(0)[:, :LOOPED_FEATURES]
    looped = seconds(lambda: _looped(sample, labels)) / LOOPED_FEATURES
    speed = looped / (total / (LAYERS * FEATURES))
    details = {"layers": LAYERS, "features": FEATURES, "problems": PROBLEMS, "shuffles": SHUFFLES, "peak_gb": peak}
    loop_details = {"looped_features": LOOPED_FEATURES, "loop_seconds_a_feature": looped}
    what = "frequencies, t, AUROC and 1,000-shuffle maximum of 26 × 16,384 features"
    return [
        Row("P7", what, total, "s", "≤ 20 s, < 1.5 GB", total <= 20 and peak < 1.5, details),
        Row("P7", "a loop over features / vectorised, a feature", speed, "×", "≥ 100×", speed >= 100, loop_details),
    ]


def _activations(layer: int) -> np.ndarray:
    rng = np.random.default_rng([1, layer])
    values = rng.random((PROBLEMS, FEATURES), dtype=np.float32)
    values[rng.random((PROBLEMS, FEATURES), dtype=np.float32) > FIRING_SHARE] = 0
    return values


def _vectorised(values: np.ndarray, labels: np.ndarray, null: MaxStatisticNull) -> None:
    fires = values > 0
    separation_scores(fires, labels)
    null.update(fires)
    welch_t(values, labels)
    auroc_from_ranks(rank_sums(values, labels))


def _looped(values: np.ndarray, labels: np.ndarray) -> None:
    """The straightforward way: one feature at a time through scipy and scikit-learn, shuffles in a loop."""
    from scipy.stats import ttest_ind
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    shuffles = [rng.permutation(labels) for _ in range(SHUFFLES)]
    largest = -1.0
    for column in values.T:
        ttest_ind(column[labels], column[~labels], equal_var=False)
        roc_auc_score(labels, column)
        for shuffled in shuffles:
            largest = max(largest, (column[shuffled] > 0).mean() - (column[~shuffled] > 0).mean())
