from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from common.errors import PipelineError
from common.statistics.feature_tests import (
    auroc_from_ranks,
    benjamini_hochberg,
    fisher_p_values,
    mann_whitney_p_values,
    rank_sums,
    welch_t,
)

pytestmark = pytest.mark.numeric


def activations(seed: int, n_problems: int = 60, n_features: int = 90) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Zero-inflated, tied, dense and negative features side by side."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_problems) < n_problems * 2 // 5)
    values = np.where(rng.random((n_problems, n_features)) < 0.2, rng.exponential(2.0, (n_problems, n_features)), 0.0)
    values[:, : n_features // 3] = np.round(rng.normal(0, 2, (n_problems, n_features // 3)))
    values[:, -n_features // 3 :] = rng.normal(0.4 * labels[:, None], 1, (n_problems, -(-n_features // 3)))
    return values.astype(np.float32), labels


@pytest.mark.parametrize(("n_correct", "n_incorrect"), [(1, 1), (4, 4), (5, 9), (10, 10), (7, 3)])
def test_fisher_equals_scipy_on_every_table_of_small_classes(n_correct: int, n_incorrect: int) -> None:
    tables = [
        (a, b) for a in range(n_correct + 1) for b in range(n_incorrect + 1) if 0 < a + b < n_correct + n_incorrect
    ]
    correct, incorrect = np.array(tables).T
    expected = [stats.fisher_exact([[a, n_correct - a], [b, n_incorrect - b]]).pvalue for a, b in tables]
    np.testing.assert_allclose(fisher_p_values(correct, incorrect, n_correct, n_incorrect), expected, rtol=1e-9)


@pytest.mark.parametrize(("n_correct", "n_incorrect"), [(217, 272), (244, 244), (460, 29)])
def test_fisher_equals_scipy_on_random_tables_of_a_whole_split(n_correct: int, n_incorrect: int) -> None:
    rng = np.random.default_rng(n_correct)
    correct, incorrect = rng.integers(1, n_correct, 60), rng.integers(0, n_incorrect + 1, 60)
    expected = [
        stats.fisher_exact([[a, n_correct - a], [b, n_incorrect - b]]).pvalue
        for a, b in zip(correct.tolist(), incorrect.tolist(), strict=True)
    ]
    p_values = fisher_p_values(correct, incorrect, n_correct, n_incorrect)
    np.testing.assert_allclose(p_values, expected, rtol=1e-9, atol=1e-300)


def test_a_feature_that_fires_never_or_always_has_no_fisher_p_value() -> None:
    p_values = fisher_p_values(np.array([0, 3, 2]), np.array([0, 4, 0]), 3, 4)
    assert np.isnan(p_values).tolist() == [True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_scikit_learn_for_sparse_tied_and_negative_values(seed: int) -> None:
    values, labels = activations(seed)
    expected = [roc_auc_score(labels, column) for column in values.T]
    np.testing.assert_allclose(auroc_from_ranks(rank_sums(values, labels)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_rank_test_equals_scipys_asymptotic_mann_whitney(seed: int) -> None:
    values, labels = activations(seed)
    in_double = values.astype(np.float64)  # scipy computes in the precision of its input
    expected = stats.mannwhitneyu(
        in_double[labels], in_double[~labels], use_continuity=True, method="asymptotic"
    ).pvalue
    np.testing.assert_allclose(mann_whitney_p_values(rank_sums(values, labels)), expected, rtol=1e-9)


def test_ranks_over_many_chunks_equal_those_of_scipy() -> None:
    values, labels = activations(11, n_problems=20, n_features=4500)
    ranks = rank_sums(values, labels)
    np.testing.assert_array_equal(ranks.rank_sum_correct, stats.rankdata(values, axis=0)[labels].sum(axis=0))


def test_a_constant_feature_has_auroc_one_half_and_no_rank_p_value() -> None:
    labels = np.array([True, False, True, False, False])
    values = np.array([[0, 2, -1], [0, 2, -1], [-0.0, 2, -1], [0, 2, -1], [0, 2, -1]], dtype=np.float32)
    ranks = rank_sums(values, labels)
    assert auroc_from_ranks(ranks).tolist() == [0.5, 0.5, 0.5]
    assert np.isnan(mann_whitney_p_values(ranks)).all()
    only_zeros = rank_sums(values[:, :1], labels)
    assert auroc_from_ranks(only_zeros).tolist() == [0.5]


def test_a_feature_that_separates_the_classes_has_auroc_one() -> None:
    labels = np.array([True, True, False, False])
    values = np.array([[2, 0, -1], [3, 0, -2], [0, 1, -3], [0, 1, -4]], dtype=np.float32)
    assert auroc_from_ranks(rank_sums(values, labels)).tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_welch_t_equals_scipy(seed: int) -> None:
    values, labels = activations(seed)
    expected = stats.ttest_ind(values[labels].astype(float), values[~labels].astype(float), equal_var=False).statistic
    np.testing.assert_allclose(welch_t(values, labels), expected, rtol=1e-6)


def test_welch_t_is_nan_where_both_classes_are_constant_and_finite_where_one_is() -> None:
    labels = np.array([True, True, True, False, False, False])
    values = np.array([[0.1, 0.1, 0.3]] * 3 + [[0.1, 0.7, 0.1], [0.1, 0.7, 0.2], [0.1, 0.7, 0.3]], dtype=np.float32)
    t = welch_t(values, labels)
    assert np.isnan(t).tolist() == [True, True, False]
    # Mean 0.3 against 0.2, squared standard error (0 + 0.01) / 3.
    assert t[2] == pytest.approx(0.1 / (0.01 / 3) ** 0.5, rel=1e-6)


def test_welch_t_needs_two_problems_of_each_class() -> None:
    with pytest.raises(PipelineError, match="at least 2 of each"):
        welch_t(np.ones((3, 1), dtype=np.float32), np.array([True, False, False]))


@pytest.mark.parametrize("seed", range(4))
def test_q_values_equal_scipys_over_the_features_that_could_be_tested(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_values = np.round(rng.random(200) ** 3, 3)
    p_values[rng.random(200) < 0.3] = np.nan
    tested = ~np.isnan(p_values)
    result = benjamini_hochberg(p_values)
    np.testing.assert_allclose(result.q_values[tested], stats.false_discovery_control(p_values[tested]), rtol=1e-12)
    assert np.isnan(result.q_values[~tested]).all()
    assert (result.n_tested, result.n_untestable) == (int(tested.sum()), int((~tested).sum()))


def test_q_values_of_nothing_testable_are_all_missing() -> None:
    result = benjamini_hochberg(np.array([np.nan, np.nan]))
    assert np.isnan(result.q_values).all()
    assert (result.n_tested, result.n_untestable) == (0, 2)
