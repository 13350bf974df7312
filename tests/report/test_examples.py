from __future__ import annotations

import pytest

from report.blocks import Change
from report.examples import change, fitting, flips_first, is_compared, shown_of
from tests.report.sections.steering_artifacts import example

pytestmark = pytest.mark.unit


def made(number: int, flip: str = "fixed", code: str = "x") -> Change:
    return Change(number, "asked", "correct direction × 9", flip, "passed", code, code)


@pytest.mark.parametrize(
    ("before", "after", "flip"),
    [
        *((False, True, "fixed"), (True, False, "broken")),
        *((True, True, "stayed correct"), (False, False, "stayed incorrect")),
    ],
)
def test_each_flip_has_its_words(before: bool, after: bool, flip: str) -> None:
    assert change(example(1, before, after), "c").flip == flip


@pytest.mark.parametrize(
    ("changed", "compared"),
    [
        ({}, True),
        ({"left_out": "too long"}, False),
        ({"steered_passed": None}, False),
        ({"baseline_passed": None}, False),
    ],
)
def test_only_what_enters_rates_is_compared(changed: dict[str, object], compared: bool) -> None:
    assert is_compared({**example(1, True, True), **changed}) is compared


@pytest.mark.parametrize("code", [None, "", "  \n"])
def test_a_solution_without_code_says_so(code: str | None) -> None:
    shown = change(example(1, True, False, generated_code=code, baseline_code=code), "c")
    assert (shown.baseline, shown.steered) == ("(no code)", "(no code)")


def test_the_page_takes_as_many_as_it_has_room_for() -> None:
    every = [made(number) for number in range(10)]
    assert [one.problem for one in fitting(every, most=3)] == [0, 1, 2]
    # Each has "asked" and two programs of ten characters: 25.
    long = [made(number, code="x" * 10) for number in range(10)]
    assert len(fitting(long, characters=49)) == 1 and len(fitting(long, characters=50)) == 2
    assert fitting([]) == ()


def test_fixes_and_breaks_come_first_and_keep_their_order() -> None:
    every = [made(1, "stayed correct"), made(2, "broken"), made(3, "stayed incorrect"), made(4, "fixed")]
    assert [one.problem for one in flips_first(every)] == [2, 4, 1, 3]
    assert [one.problem for one in flips_first(every, lambda one: one.problem == 3)] == [3, 2, 4, 1]


def test_captions_say_how_many_of_how_many() -> None:
    assert shown_of(2, 2, "flips first", "FILE") == "All 2 solutions; the same in FILE."
    assert shown_of(2, 1234, "flips first", "FILE") == "The first 2 of 1,234 solutions (flips first); all in FILE."
