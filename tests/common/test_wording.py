from __future__ import annotations

from typing import Any

import pytest

from common.wording import counted, duration, interval, p_value, percent, signed, signed_interval

pytestmark = pytest.mark.unit


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(0.54192, 1, "54.2 %"), (0.5, 0, "50 %"), (0.0, 1, "0.0 %"), (None, 1, "not defined")],
)
def test_a_share_is_said_in_percent_and_a_missing_one_is_not_zero(
    value: float | None, decimals: int, text: str
) -> None:
    assert percent(value, decimals).replace("\u00a0", " ") == text


def test_a_percentage_never_breaks_over_two_lines() -> None:
    assert " " not in percent(0.25)


def test_an_estimate_carries_its_interval_where_it_has_one() -> None:
    assert interval(estimate(0.9123, 0.88, 0.9449)) == "0.912 [0.880, 0.945]"
    assert interval(estimate(0.9123)) == "0.912"
    assert interval(estimate(None)) == "not defined"


def test_a_difference_carries_its_signs_and_a_true_minus() -> None:
    assert signed_interval(estimate(0.05, -0.0125, 0.1)) == "+0.050 [−0.013, +0.100]"
    assert signed_interval(estimate(-0.05)) == "−0.050"
    assert signed_interval(estimate(None)) == "not defined"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.250"),
        (1 / 1001, "0.001"),
        (0.00049, "4.9e-04"),
        (1e-12, "1.0e-12"),
        (1.0, "1.000"),
        (None, "not defined"),
    ],
)
def test_a_p_value_below_the_third_decimal_is_a_power_of_ten_and_never_0_000(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_a_signed_figure_shows_a_plus() -> None:
    assert (signed(0.256), signed(-0.256, 1), signed(None)) == ("+0.26", "−0.3", "not defined")


def test_one_thing_is_singular_and_thousands_are_grouped() -> None:
    assert [counted(n, "problem") for n in (0, 1, 1234)] == ["0 problems", "1 problem", "1,234 problems"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.6, "1 min 0 s"),
        (185.0, "3 min 5 s"),
        (3600.0, "1 h 0 min"),
        (7805.0, "2 h 10 min"),
    ],
)
def test_a_time_span_is_said_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
