"""Fisher's exact test over several tables, against scipy and against counting every assignment."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import fisher_exact, hypergeom

from common.statistics.contingency import Table, hypergeometric_weights, mean_difference, stratified_fisher
from common.statistics.seeding import generator

pytestmark = pytest.mark.numeric


def tables_drawn(purpose: str, n_tables: int, largest: int) -> list[Table]:
    rng = generator(1, purpose)
    sizes = rng.integers(1, largest, (n_tables, 2)).tolist()
    return [Table(int(rng.integers(0, m + 1)), m, int(rng.integers(0, n + 1)), n) for m, n in sizes]


@pytest.mark.parametrize("table", tables_drawn("one table", 60, 40), ids=str)
def test_with_one_table_it_is_fishers_exact_test(table: Table) -> None:
    x, m, y, n = table
    p = stratified_fisher([table])
    if x + y in (0, m + n):
        assert p is None
    else:
        expected = fisher_exact([[x, m - x], [y, n - y]])
        assert p == pytest.approx(expected.pvalue, rel=1e-9)  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", range(12))
def test_with_two_tables_it_is_the_convolution_of_scipys_distributions(number: int) -> None:
    tables = tables_drawn(f"two tables {number}", 2, 35)
    probabilities, observed = np.ones(1), 0
    for x, m, y, n in tables:
        low, high = max(0, x + y - n), min(x + y, m)
        probabilities = np.convolve(probabilities, hypergeom(m + n, x + y, m).pmf(np.arange(low, high + 1)))
        observed += x - low
    expected = probabilities[probabilities <= probabilities[observed] * (1 + 1e-9)].sum()
    p = stratified_fisher(tables)
    assert p == pytest.approx(expected, rel=1e-8) if p is not None else expected == pytest.approx(1)


def test_with_two_tables_it_counts_every_assignment_of_successes_to_members() -> None:
    tables = [Table(3, 4, 1, 3), Table(2, 3, 0, 3)]

    def totals(table: Table) -> list[int]:
        members, successes = table.first_n + table.second_n, table.first_successes + table.second_successes
        chosen = itertools.combinations(range(members), successes)
        return [sum(place < table.first_n for place in places) for places in chosen]

    sums = [one + other for one, other in itertools.product(*map(totals, tables))]
    ways = {total: sums.count(total) for total in set(sums)}
    expected = sum(n for n in ways.values() if n <= ways[5]) / len(sums)
    assert stratified_fisher(tables) == pytest.approx(expected, rel=1e-12)


def test_two_tables_that_agree_are_stronger_than_each_and_that_disagree_weaker() -> None:
    one, other = Table(20, 30, 10, 30), Table(10, 30, 20, 30)
    single, both, opposed = stratified_fisher([one]), stratified_fisher([one, one]), stratified_fisher([one, other])
    assert single is not None and both is not None and both < single and opposed == 1.0


def test_the_order_of_tables_changes_nothing_and_silent_tables_take_no_part() -> None:
    tables = [Table(9, 10, 2, 12), Table(5, 9, 4, 11)]
    silent = [Table(0, 10, 0, 10), Table(7, 7, 3, 3), Table(3, 5, 0, 0)]
    assert stratified_fisher(tables) == stratified_fisher(tables[::-1]) == stratified_fisher([*silent, *tables])
    assert stratified_fisher(silent) is None and stratified_fisher([]) is None


def test_the_false_positives_under_no_effect_stay_below_the_level() -> None:
    rng = generator(2, "no effect")
    draws = rng.binomial(30, 0.4, (2000, 4)).tolist()
    p_values = [stratified_fisher([Table(a, 30, b, 30), Table(c, 30, d, 30)]) for a, b, c, d in draws]
    share = np.mean([p is not None and p <= 0.05 for p in p_values])
    assert 0.02 < share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_weights_count_every_choice() -> None:
    assert hypergeometric_weights(3, 4, 2) == [math.comb(4, k) * math.comb(2, 3 - k) for k in (1, 2, 3)]
    assert sum(hypergeometric_weights(7, 9, 12)) == math.comb(21, 7)


def test_the_mean_difference_weights_tables_by_their_members() -> None:
    assert mean_difference([Table(3, 10, 1, 10)]) == pytest.approx(0.2)
    equal = [Table(8, 10, 2, 10), Table(5, 10, 5, 10)]
    assert mean_difference(equal) == pytest.approx(0.3)
    # Weights 10 * 30 / 40 = 7.5 and 5: (7.5 * 0.5 + 5 * 0) / 12.5.
    assert mean_difference([Table(8, 10, 9, 30), Table(5, 10, 5, 10)]) == pytest.approx(0.3)
    assert mean_difference([Table(8, 10, 9, 30), Table(1, 2, 0, 0)]) == pytest.approx(0.5)
    assert mean_difference([Table(0, 0, 1, 2)]) is None
