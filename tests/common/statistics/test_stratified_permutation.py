from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from common.statistics.feature_tests import benjamini_hochberg
from common.statistics.stratified_permutation import max_statistic_p, permuted_within, selected_q_values

pytestmark = pytest.mark.numeric


def test_each_stratum_keeps_its_labels() -> None:
    labels = np.array([True, True, False, True, False, False, False])
    strata = np.array([3, 3, 3, 1, 1, 1, 2])
    shuffled = permuted_within(labels, strata, 200, 5)
    assert shuffled.shape == (200, 7)
    for stratum in (1, 2, 3):
        inside = strata == stratum
        assert (shuffled[:, inside].sum(axis=1) == labels[inside].sum()).all()
    assert len({tuple(row) for row in shuffled.tolist()}) == 9  # every one of 3 · 3 · 1 arrangements comes up


def test_pairs_are_swapped_half_of_the_time_each_for_itself() -> None:
    labels, strata = np.tile([True, False], 40), np.repeat(np.arange(40), 2)
    swapped = permuted_within(labels, strata, 4000, 1)[:, 0::2] != labels[0::2]
    assert np.abs(swapped.mean(axis=0) - 0.5).max() < 0.04  # five standard errors
    correlation = np.corrcoef(swapped.T)[np.triu_indices(40, 1)]
    assert np.abs(correlation).max() < 0.09


def test_every_arrangement_is_as_likely() -> None:
    labels, strata = np.array([True, True, False, False]), np.zeros(4, dtype=int)
    rows, counts = np.unique(permuted_within(labels, strata, 6000, 2), axis=0, return_counts=True)
    assert len(rows) == 6
    assert counts == pytest.approx(np.full(6, 1000), abs=150)


def test_equal_seeds_give_equal_shuffles_and_other_purposes_others() -> None:
    labels, strata = np.tile([True, False], 20), np.zeros(40, dtype=int)
    one, again, other = (permuted_within(labels, strata, 50, 7, name) for name in ("a", "a", "b"))
    assert (one == again).all() and (one != other).any()


def test_p_counts_the_shuffles_that_are_at_least_as_large() -> None:
    largest = np.array([1.0, 2.0, 3.0, np.nan])  # a shuffle without a figure counts as large
    assert max_statistic_p(np.array([2.0, 2.5, 9.0, np.nan]), largest)[:3].tolist() == [4 / 5, 3 / 5, 2 / 5]
    assert np.isnan(max_statistic_p(np.array([np.nan]), largest)).all()
    assert max_statistic_p(np.array([2.0 + 1e-12]), largest).tolist() == [4 / 5]  # equal but for rounding


def test_q_of_families_is_that_of_benjamini_and_hochberg() -> None:
    family_p = np.array([0.001, 0.02, 0.02, 0.3, np.nan, 0.9])
    assert selected_q_values(family_p, family_p)[[0, 1, 2, 3, 5]] == pytest.approx(
        benjamini_hochberg(family_p).q_values[[0, 1, 2, 3, 5]]
    )


def test_q_inside_a_family_is_the_least_alpha_at_which_benjamini_and_bogomolov_take_it() -> None:
    random = np.random.default_rng(3)
    family_p = np.sort(random.random(12)) ** 2
    inside = np.concatenate([family_p[:1], np.linspace(family_p[0], 1, 9)])
    found = selected_q_values(inside, family_p)
    alphas = np.linspace(0.0005, 1, 2000)
    for alpha, (p, q) in product(alphas[::40], zip(inside, found, strict=True)):
        ordered = np.sort(family_p)
        passing = np.flatnonzero(ordered <= alpha * np.arange(1, 13) / 12)
        taken = len(passing) > 0 and p <= alpha * (passing[-1] + 1) / 12
        if abs(alpha - q) > 1e-9:
            assert taken == (q <= alpha), (alpha, p, q)


def test_without_families_there_are_no_q_values() -> None:
    assert np.isnan(selected_q_values(np.array([0.1, 0.5]), np.array([np.nan]))).all()
    assert selected_q_values(np.array([]), np.array([0.1])).tolist() == []
