"""Tests of one feature at a time, computed for all features at once.

Firing frequencies: Fisher's exact test. Activations: the rank test of Mann and Whitney, with the AUROC that belongs to
it, and Welch's t as a score. Benjamini-Hochberg turns the p-values of all features into q-values. A feature that is
constant over the problems cannot be tested: its p-value is nan and it takes no part in the q-values. One layer of 489
problems and 16,384 features, a third of the values not zero, takes 0.21 s for ranks and 0.03 s for t on one core.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.statistics.contingency import hypergeometric_weights
from common.statistics.selection import BoolArray, FloatArray, IntArray, class_sizes, feature_chunks


class RankSums(NamedTuple):
    """Per feature, the sum of the correct problems' midranks, and of t^3 - t over its groups of t tied values."""

    rank_sum_correct: FloatArray
    tie_term: FloatArray
    n_correct: int
    n_incorrect: int


class QValues(NamedTuple):
    """q-values (nan where there is no p-value), and how many p-values there were and were not."""

    q_values: FloatArray
    n_tested: int
    n_untestable: int


def fisher_p_values(correct: IntArray, incorrect: IntArray, n_correct: int, n_incorrect: int) -> FloatArray:
    """Returns the two-sided p-value of Fisher's exact test for each feature's firing counts; shapes (n_features,).

    Two-sided means the probability of all tables with the same margins that are at most as likely as the observed one
    (Fisher 1935; as R and scipy). Tables are compared in whole numbers, so equally likely ones tie exactly. A feature
    that fires on no problem or on every problem has nan.
    """
    pairs, position = np.unique(correct * (n_incorrect + 1) + incorrect, return_inverse=True)
    p_values = np.full(len(pairs), np.nan)
    for row, pair in enumerate(pairs.tolist()):
        fires_correct, fires_incorrect = divmod(pair, n_incorrect + 1)
        n_fires = fires_correct + fires_incorrect
        if 0 < n_fires < n_correct + n_incorrect:
            table = _fisher_table(n_fires, n_correct, n_incorrect)
            p_values[row] = table[fires_correct - max(0, n_fires - n_incorrect)]
    return p_values[position]


@lru_cache(maxsize=4096)
def _fisher_table(n_fires: int, n_correct: int, n_incorrect: int) -> tuple[float, ...]:
    """p-value for every possible number of correct problems among `n_fires`, from the smallest possible number on."""
    weights = hypergeometric_weights(n_fires, n_correct, n_incorrect)
    ascending = sorted(weights)
    at_most = dict(zip(ascending, accumulate(ascending), strict=True))  # a tied weight keeps its last, largest sum
    total = math.comb(n_correct + n_incorrect, n_fires)
    return tuple(at_most[weight] / total for weight in weights)


def rank_sums(values: NDArray[np.float32], labels: BoolArray) -> RankSums:
    """Ranks the problems by each feature's value, ties sharing their middle rank.

    `values` (float32, finite) has shape (n_problems, n_features), `labels` (n_problems,). Only values other than zero
    are sorted, the zeros of a sparse feature being one tie.
    """
    sizes = class_sizes(labels)
    assert values.dtype == np.float32, f"values: {values.dtype}"
    sums, ties = np.empty(values.shape[1]), np.empty(values.shape[1])
    for chunk in feature_chunks(values.shape[1]):
        sums[chunk], ties[chunk] = _rank_sums_of_chunk(values[:, chunk], labels)
    return RankSums(sums, ties, *sizes)


def _rank_sums_of_chunk(values: NDArray[np.float32], labels: BoolArray) -> tuple[FloatArray, FloatArray]:
    n_problems, n_features = values.shape
    problem, feature = np.nonzero(values)
    # One sort of whole numbers orders all features at once: feature, value (as ordered bits), label (in the last bit).
    key = (feature.astype(np.uint64) << np.uint64(33)) | (_ordered_bits(values[problem, feature]) << np.uint64(1))
    key |= labels[problem].astype(np.uint64)
    key.sort()
    group_start = np.flatnonzero(np.diff(key >> np.uint64(1), prepend=~np.uint64(0)))
    size = np.diff(group_start, append=len(key))
    first = key[group_start]
    feature_of_group = (first >> np.uint64(33)).astype(np.int64)
    positive = (first >> np.uint64(32)) & np.uint64(1) == 1
    correct_in_group = np.add.reduceat((key & np.uint64(1)).astype(np.int64), group_start) if len(key) else size

    def per_feature(weights: NDArray) -> FloatArray:
        return np.bincount(feature_of_group, weights=weights, minlength=n_features).astype(np.float64)

    n_nonzero, n_negative = per_feature(size), per_feature(np.where(positive, 0, size))
    n_zero = n_problems - n_nonzero
    feature_start = np.cumsum(n_nonzero) - n_nonzero
    below = group_start - feature_start[feature_of_group] + np.where(positive, n_zero[feature_of_group], 0)
    sums = per_feature(correct_in_group * (below + (size + 1) / 2))
    sums += (np.count_nonzero(labels) - per_feature(correct_in_group)) * (n_negative + (n_zero + 1) / 2)
    return sums, per_feature(_tie(size)) + _tie(n_zero)


def _ordered_bits(values: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Maps float32 values to 32-bit whole numbers in the same order; the highest bit tells positive from negative."""
    bits = values.view(np.uint32)
    flip = np.where(bits >> 31 == 1, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (bits ^ flip).astype(np.uint64)


def _tie(size: NDArray) -> FloatArray:
    size = size.astype(np.float64)
    return size**3 - size


def auroc_from_ranks(ranks: RankSums) -> FloatArray:
    """Returns each feature's area under the ROC curve, correct being the positive class (ties count half).

    It equals U / (n_correct * n_incorrect) (Hanley & McNeil, Radiology 143, 1982). A constant feature has 0.5.
    """
    return _u_statistic(ranks) / (ranks.n_correct * ranks.n_incorrect)


def mann_whitney_p_values(ranks: RankSums) -> FloatArray:
    """Returns each feature's two-sided p-value of the Mann-Whitney test; nan for a constant feature.

    Normal approximation with tie and continuity correction (Mann & Whitney 1947; Lehmann, Nonparametrics, 1975,
    section 1.4).
    """
    from scipy.special import ndtr

    n = ranks.n_correct + ranks.n_incorrect
    product = ranks.n_correct * ranks.n_incorrect
    u = _u_statistic(ranks)
    variance = product / 12 * ((n + 1) - ranks.tie_term / (n * (n - 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (np.abs(u - product / 2) - 0.5) / np.sqrt(variance)
    p_values = np.minimum(2 * ndtr(-z), 1)
    return np.where(ranks.tie_term == n**3 - n, np.nan, p_values)


def _u_statistic(ranks: RankSums) -> FloatArray:
    return ranks.rank_sum_correct - ranks.n_correct * (ranks.n_correct + 1) / 2


def cohens_d(values: NDArray[np.floating], labels: BoolArray) -> FloatArray:
    """Returns Cohen's d of each feature, correct minus incorrect; nan where the feature is constant in both classes.

    `values` has shape (n_problems, n_features). The means' difference over the pooled standard deviation, each class's
    variance with n - 1 (Cohen, Statistical Power Analysis, 2nd ed. 1988, 2.5.1), in float64.
    """
    sizes = class_sizes(labels, at_least=2)
    d = np.full(values.shape[1], np.nan)
    for chunk in feature_chunks(values.shape[1]):
        part = values[:, chunk].astype(np.float64)
        correct, incorrect = part[labels], part[~labels]
        squares = np.square(correct - correct.mean(axis=0)).sum(axis=0)
        squares += np.square(incorrect - incorrect.mean(axis=0)).sum(axis=0)
        pooled = np.sqrt(squares / (sizes.n_correct + sizes.n_incorrect - 2))
        difference = correct.mean(axis=0) - incorrect.mean(axis=0)
        np.divide(difference, pooled, out=d[chunk], where=pooled > 0)
    return d


def welch_t(values: NDArray[np.floating], labels: BoolArray) -> FloatArray:
    """Returns Welch's t of each feature, correct minus incorrect; nan where both classes are constant.

    `values` has shape (n_problems, n_features). Welch, Biometrika 34 (1947). Means and variances in two passes in
    float64, where a constant float32 feature has a variance of exactly zero.
    """
    sizes = class_sizes(labels, at_least=2)
    t = np.empty(values.shape[1])
    for chunk in feature_chunks(values.shape[1]):
        difference, squared_error = np.zeros((2, chunk.stop - chunk.start))
        for sign, members, n in ((1, labels, sizes.n_correct), (-1, ~labels, sizes.n_incorrect)):
            of_class = values[members, chunk].astype(np.float64)
            difference += sign * of_class.mean(axis=0)
            squared_error += of_class.var(axis=0, ddof=1) / n
        with np.errstate(invalid="ignore", divide="ignore"):
            t[chunk] = np.where(squared_error > 0, difference / np.sqrt(squared_error), np.nan)
    return t


def benjamini_hochberg(p_values: FloatArray) -> QValues:
    """Returns Benjamini-Hochberg q-values over all p-values that are not nan.

    q of the i-th smallest of m p-values is the smallest m p_(j) / j over j >= i (Benjamini & Hochberg, J. R. Stat. Soc.
    B 57, 1995; adjusted form of Yekutieli & Benjamini 1999).
    """
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    q_values = np.full(len(p_values), np.nan)
    q_values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return QValues(q_values, len(tested), len(p_values) - len(tested))
