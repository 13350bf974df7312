from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from common.statistics.feature_tests import welch_t
from common.statistics.permutation import (
    MaxStatisticNull,
    permuted_labels,
    separation_statistic,
    welch_t_statistic,
)
from common.statistics.selection import separation_scores

pytestmark = pytest.mark.numeric


def dependent_features(seed: int, n_problems: int, n_features: int) -> NDArray[np.float32]:
    """Sparse activations driven by few shared causes, so that features are far from independent."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((n_problems, 5)) @ rng.standard_normal((5, n_features))
    noise = rng.standard_normal((n_problems, n_features))
    return np.maximum(causes + noise - rng.uniform(0, 3, n_features), 0).astype(np.float32)


def labels_of(n_problems: int, n_correct: int, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).permutation(np.arange(n_problems) < n_correct)


def test_permuted_labels_keep_the_class_sizes_and_depend_on_the_seed_only() -> None:
    labels = labels_of(50, 20)
    shuffles = permuted_labels(labels, 200, seed=42)
    assert shuffles.shape == (200, 50)
    assert set(shuffles.sum(axis=1).tolist()) == {20}
    assert len({row.tobytes() for row in shuffles}) == 200
    np.testing.assert_array_equal(shuffles, permuted_labels(labels, 200, seed=42))
    assert (shuffles != permuted_labels(labels, 200, seed=43)).any()


def test_every_problem_is_called_correct_equally_often() -> None:
    frequency = permuted_labels(labels_of(10, 4), 20_000, seed=1).mean(axis=0)
    # Six standard errors of a share of 0.4 over 20,000 shuffles.
    np.testing.assert_allclose(frequency, 0.4, atol=6 * math.sqrt(0.4 * 0.6 / 20_000))


def test_the_permuted_separation_statistic_equals_the_score_of_each_labelling() -> None:
    fires = dependent_features(1, 41, 30) > 0
    shuffles = permuted_labels(labels_of(41, 17), 25, seed=2)
    statistics = separation_statistic(fires, shuffles)
    for row, labels in zip(statistics, shuffles, strict=True):
        np.testing.assert_array_equal(row, separation_scores(fires, labels).score)


def test_the_permuted_separation_statistic_stays_exact_beyond_the_whole_numbers_of_float32() -> None:
    labels = labels_of(10_001, 5_001)
    fires = np.random.default_rng(0).random((10_001, 20)) < np.where(labels, 0.95, 0.05)[:, None]
    np.testing.assert_array_equal(separation_statistic(fires, labels[None])[0], separation_scores(fires, labels).score)


@pytest.mark.parametrize("n_correct", [2, 13, 20, 38])
def test_the_permuted_welch_t_equals_scipy_for_each_labelling(n_correct: int) -> None:
    values = dependent_features(2, 40, 30)
    shuffles = permuted_labels(labels_of(40, n_correct), 10, seed=3)
    statistics = welch_t_statistic(values, shuffles)
    for row, labels in zip(statistics, shuffles, strict=True):
        with np.errstate(invalid="ignore"):
            expected = stats.ttest_ind(
                values[labels].astype(float), values[~labels].astype(float), equal_var=False
            ).statistic
        defined = np.isfinite(expected)
        np.testing.assert_allclose(row[defined], expected[defined], rtol=1e-9, atol=1e-12)


def test_a_feature_without_variance_within_the_classes_has_no_t_and_never_wins() -> None:
    labels = np.array([True, True, False, False])
    values = np.array([[0, 1, 5, 2], [0, 1, 5, 3], [0, 1, 0, 1], [0, 1, 0, 0]], dtype=np.float32)
    statistics = welch_t_statistic(values, labels[None])
    assert np.isnan(statistics[0]).tolist() == [True, True, True, False]
    null = MaxStatisticNull(labels, 50, seed=0, statistic=welch_t_statistic)
    null.update(values[:, :2])
    assert null.p_values(np.array([0.5, np.nan]), "correct").tolist() == pytest.approx([1 / 51, np.nan], nan_ok=True)


def test_a_shuffle_that_restores_the_labels_counts_as_at_least_as_large_whatever_the_rounding() -> None:
    values = np.random.default_rng(2).exponential(1.0, (7, 60)).astype(np.float32)
    labels = labels_of(7, 3)
    restored = int((permuted_labels(labels, 400, seed=1) == labels).all(axis=1).sum())
    assert restored > 0
    for feature in range(60):
        null = MaxStatisticNull(labels, 400, seed=1, statistic=welch_t_statistic)
        null.update(values[:, [feature]])
        t = welch_t(values[:, [feature]], labels)
        for direction in ("correct", "incorrect"):
            assert null.p_values(t, direction)[0] >= (1 + restored) / 401


def reference_p_values(scores: NDArray, statistics: NDArray, sign: int) -> list[float]:
    maxima = [max(sign * value for value in row) for row in statistics.tolist()]
    return [(1 + sum(m >= sign * score for m in maxima)) / (1 + len(maxima)) for score in scores.tolist()]


def test_p_values_equal_a_plain_count_over_all_layers_in_both_directions() -> None:
    labels = labels_of(31, 12)
    layers = [dependent_features(seed, 31, 300) > 0 for seed in range(3)]
    null = MaxStatisticNull(labels, 99, seed=5, statistic=separation_statistic)
    for fires in layers:
        null.update(fires)
    pooled = np.concatenate(layers, axis=1)
    scores = separation_scores(pooled, labels).score
    shuffles = permuted_labels(labels, 99, seed=5)
    statistics = np.array([separation_scores(pooled, shuffle).score for shuffle in shuffles])
    assert null.p_values(scores, "correct").tolist() == reference_p_values(scores, statistics, 1)
    assert null.p_values(scores, "incorrect").tolist() == reference_p_values(scores, statistics, -1)


def test_a_constant_feature_takes_part_in_the_null_with_its_score_of_zero() -> None:
    labels = labels_of(9, 4)
    fires = np.zeros((9, 3), dtype=bool)
    fires[0, 0], fires[:, 1] = True, True
    null = MaxStatisticNull(labels, 999, seed=3, statistic=separation_statistic)
    null.update(fires)
    # The largest of the three scores is 1/4 where the first problem is called correct, and 0 elsewhere.
    share = permuted_labels(labels, 999, seed=3)[:, 0].mean()
    assert null.p_values(np.array([0.25, 0.1, 0.0]), "correct").tolist() == pytest.approx(
        [(1 + 999 * share) / 1000, (1 + 999 * share) / 1000, 1.0]
    )


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.33, 0.5])
@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_exactly_the_scores_beyond_the_critical_value_are_significant(alpha: float, direction: str) -> None:
    labels = labels_of(31, 12)
    fires = dependent_features(9, 31, 40) > 0
    null = MaxStatisticNull(labels, 199, seed=6, statistic=separation_statistic)
    null.update(fires)
    critical = null.critical_value(alpha, direction)
    scores = np.arange(-12 * 19, 12 * 19 + 1) / (12 * 19)
    significant = null.p_values(scores, direction) <= alpha
    assert significant.any() and not significant.all()
    np.testing.assert_array_equal(significant, scores > critical if direction == "correct" else scores < critical)


def test_too_few_shuffles_to_reach_a_level_have_an_infinite_critical_value() -> None:
    null = MaxStatisticNull(labels_of(10, 4), 10, seed=0, statistic=separation_statistic)
    null.update(dependent_features(0, 10, 5) > 0)
    assert null.critical_value(0.05, "correct") == math.inf
    assert null.critical_value(0.05, "incorrect") == -math.inf


@pytest.mark.parametrize("form", ["separation", "welch"])
def test_under_shuffled_labels_five_percent_of_the_best_features_look_significant(form: str) -> None:
    values = dependent_features(7, 97, 250)
    statistic = separation_statistic if form == "separation" else welch_t_statistic
    data = values > 0 if form == "separation" else values
    hits = {"correct": 0, "incorrect": 0}
    for run in range(200):
        labels = labels_of(97, 41, seed=1000 + run)
        null = MaxStatisticNull(labels, 199, seed=run, statistic=statistic)
        null.update(data)
        observed = statistic(data, labels[None])[0]
        hits["correct"] += bool(np.nanmin(null.p_values(observed, "correct")) <= 0.05)
        hits["incorrect"] += bool(np.nanmin(null.p_values(observed, "incorrect")) <= 0.05)
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= hits["correct"] <= high, hits
    assert low <= hits["incorrect"] <= high, hits


@pytest.mark.parametrize("form", ["separation", "welch"])
def test_a_planted_feature_of_either_direction_reaches_the_smallest_p_value(form: str) -> None:
    labels = labels_of(97, 41)
    values = dependent_features(8, 97, 250)
    rng = np.random.default_rng(5)
    flipped = rng.random(97) < 0.1
    values[:, 17] = np.where(labels ^ flipped, rng.uniform(1, 2, 97), 0)
    values[:, 99] = np.where(~labels ^ flipped, rng.uniform(1, 2, 97), 0)
    statistic = separation_statistic if form == "separation" else welch_t_statistic
    data = values > 0 if form == "separation" else values
    null = MaxStatisticNull(labels, 999, seed=42, statistic=statistic)
    null.update(data)
    observed = statistic(data, labels[None])[0]
    assert int(np.nanargmax(observed)) == 17 and int(np.nanargmin(observed)) == 99
    assert null.p_values(observed, "correct")[17] == 1 / 1000
    assert null.p_values(observed, "incorrect")[99] == 1 / 1000
    assert null.p_values(observed, "incorrect")[17] == 1.0
