"""Two things are timed in turn, and a ratio is one of the medians."""

from __future__ import annotations

import time

import pytest

from benchmarks.timing import in_turn, not_measured, paired, spent

pytestmark = pytest.mark.unit


def test_the_ratio_is_one_of_the_medians_and_each_pair_gives_its_own() -> None:
    timed = paired([(2.0, 1.0), (9.0, 3.0), (4.0, 8.0)])
    assert (timed.first, timed.second) == (4.0, 3.0)
    assert timed.ratio == pytest.approx(4 / 3)
    assert timed.ratios == pytest.approx((2.0, 3.0, 0.5))


def test_a_scale_applies_to_the_ratios_and_not_to_the_seconds() -> None:
    timed = paired([(2.0, 1.0)], scale=10.0)
    assert timed == (2.0, 1.0, 20.0, (20.0,), None)


def test_both_are_warmed_up_and_then_take_turns() -> None:
    done: list[str] = []
    timed = in_turn(lambda: done.append("a"), lambda: done.append("b"), repeats=2)
    assert done == ["a", "b"] * 3
    assert len(timed.ratios) == 2


def test_cpu_seconds_leave_waiting_out() -> None:
    found = spent(lambda: time.sleep(0.2))
    assert found.wall >= 0.2 > 2 * found.cpu
    timed = in_turn(lambda: sum(range(100_000)), lambda: sum(range(100_000)), repeats=1)
    assert timed.cpu_ratio is not None and timed.cpu_ratio > 0


def test_a_row_without_a_figure_says_why() -> None:
    row = not_measured("P2", "share of the floor", "≥ 45%", "no CUDA device")
    assert (row.value, row.reached, row.not_measured) == (None, None, "no CUDA device")
