from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.statistics.stratified import stratified_subset

pytestmark = pytest.mark.unit

Rows = list[tuple[str, bool]]
SIZES = st.lists(st.integers(0, 12), min_size=6, max_size=6)


@st.composite
def rows_and_number(draw: st.DrawFn) -> tuple[Rows, int]:
    """Up to twelve problems a stratum, shuffled, and a number of seats up to two more than there are problems."""
    strata = [(group, label) for group in ("1", "2-3", "4+") for label in (False, True)]
    rows = [stratum for stratum, size in zip(strata, draw(SIZES), strict=True) for _ in range(size)]
    return draw(st.permutations(rows)), draw(st.integers(0, len(rows) + 2))


def subset(rows: Rows, n: int, seed: int = 42, purpose: str = "coefficients") -> list[int]:
    groups, labels = [group for group, _ in rows], np.array([label for _, label in rows], dtype=bool)
    return stratified_subset(groups, labels, n, seed, purpose).tolist()


@settings(deadline=None)
@given(rows_and_number())
def test_the_subset_has_the_asked_for_size_and_no_problem_twice(case: tuple[Rows, int]) -> None:
    rows, n = case
    found = subset(rows, n)
    assert len(found) == min(n, len(rows))
    assert found == sorted(set(found))
    assert set(found) <= set(range(len(rows)))


@settings(deadline=None)
@given(rows_and_number())
def test_every_stratum_has_its_proportional_number_rounded_down_or_up(case: tuple[Rows, int]) -> None:
    rows, n = case
    n = min(n, len(rows))
    taken = Counter(rows[position] for position in subset(rows, n))
    for stratum, size in Counter(rows).items():
        assert abs(taken[stratum] - Fraction(n * size, len(rows))) < 1


@settings(deadline=None)
@given(rows_and_number())
def test_both_labels_are_there_if_they_exist(case: tuple[Rows, int]) -> None:
    rows, n = case
    n = max(n, 2)
    assert {rows[position][1] for position in subset(rows, n)} == {label for _, label in rows}


def test_a_rare_label_gets_the_seat_that_largest_remainders_deny_it() -> None:
    # 3 of 41: quotas 1.46, 1.46 and 0.07; by remainders alone the third seat would go to a large stratum.
    rows: Rows = [("1", False)] * 20 + [("2-3", False)] * 20 + [("4+", True)]
    assert Counter(rows[position] for position in subset(rows, 3)) == Counter(set(rows))
    rows = [(group, not label) for group, label in rows]
    assert Counter(rows[position] for position in subset(rows, 3)) == Counter(set(rows))


def test_the_seat_for_a_missing_label_goes_from_the_smallest_remainder_to_the_largest() -> None:
    # 3 of 104: quotas 1.30, 0.87, 0.66, 0.12 and 0.06; seats 1, 1, 1, 0, 0, and the third one is handed over.
    sizes = {("a", True): 45, ("b", True): 30, ("c", True): 23, ("d", False): 4, ("e", False): 2}
    rows: Rows = [stratum for stratum, size in sizes.items() for _ in range(size)]
    assert Counter(rows[position] for position in subset(rows, 3)) == Counter(list(sizes)[i] for i in (0, 1, 3))


def test_the_largest_remainders_take_the_seats_that_are_left() -> None:
    # 10 of 97: quotas 4.64, 3.09, 1.55, 0.72; whole 4, 3, 1, 0; the two left go to .72 and .64.
    rows: Rows = [("1", True)] * 45 + [("2-3", True)] * 30 + [("4+", False)] * 15 + [("1", False)] * 7
    taken = Counter(rows[position] for position in subset(rows, 10))
    assert taken == {("1", True): 5, ("2-3", True): 3, ("4+", False): 1, ("1", False): 1}


@settings(deadline=None)
@given(rows_and_number(), st.randoms(use_true_random=False))
def test_seats_do_not_depend_on_the_order_in_which_the_strata_come(case: tuple[Rows, int], random) -> None:
    rows, n = case
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = subset(rows, n), subset(shuffled, n)
    assert Counter(rows[position] for position in one) == Counter(shuffled[position] for position in other)


def test_a_stratums_draw_does_not_depend_on_the_other_strata() -> None:
    # Both give the first stratum 10 of its 20 members at the same positions.
    first: Rows = [("1", True)] * 20
    one = subset([*first, *[("2-3", True)] * 20], 20)
    other = subset([*first, *[("4+", False)] * 10, *[("2-3", False)] * 10], 20)
    assert [position for position in one if position < 20] == [position for position in other if position < 20]


def test_strata_of_equal_size_draw_different_members() -> None:
    rows: Rows = [("1", True)] * 30 + [("1", False)] * 30 + [("2-3", True)] * 30
    found = subset(rows, 30)
    places = [tuple(position % 30 for position in found if position // 30 == stratum) for stratum in range(3)]
    assert [len(each) for each in places] == [10, 10, 10] and len(set(places)) == 3


def test_positions_ascend_across_interleaved_strata() -> None:
    rows: Rows = [("1", True), ("1", False), ("2-3", True)] * 20
    found = subset(rows, 20)
    assert found == sorted(found)


def test_the_subset_is_the_same_each_time_and_another_for_another_seed_or_purpose() -> None:
    rows: Rows = [("1", True)] * 50 + [("2-3", False)] * 50
    assert subset(rows, 10) == subset(rows, 10)
    assert len({tuple(subset(rows, 10, seed)) for seed in range(5)}) == 5
    assert subset(rows, 10, purpose="coefficients") != subset(rows, 10, purpose="controls")


def test_equal_remainders_are_decided_by_the_seed_and_favour_no_stratum() -> None:
    rows: Rows = [("1", True)] * 5 + [("2-3", True)] * 5
    firsts = Counter(rows[subset(rows, 1, seed)[0]][0] for seed in range(200))
    assert firsts.total() == 200 and 70 <= firsts["1"] <= 130  # four standard deviations of a fair coin


def test_every_member_of_a_stratum_is_drawn_equally_often() -> None:
    rows: Rows = [("1", True)] * 10 + [("2-3", False)] * 10
    taken = Counter(position for seed in range(400) for position in subset(rows, 4, seed))
    assert min(taken[position] for position in range(20)) > 45  # 80 expected, standard deviation 8


def test_numpy_groups_and_whole_numbers_name_strata_too() -> None:
    rows: Rows = [("1", True)] * 8 + [("4+", False)] * 8
    labels = np.array([label for _, label in rows])
    as_array = stratified_subset(np.array([group for group, _ in rows]), labels, 6, 42, "coefficients")
    assert as_array.tolist() == subset(rows, 6)
    assert as_array.dtype == np.int64
    by_number = stratified_subset(np.where(labels, 1, 4), labels, 6, 42, "coefficients")
    assert Counter(labels[by_number].tolist()) == {True: 3, False: 3}


def test_a_negative_number_of_problems_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="-1 of 2"):
        subset([("1", True), ("1", False)], -1)
