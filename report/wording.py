"""How the report says figures: in sentences with n and interval, and as cells of a table that sort by value.

A figure that could not be computed shows the reason that its artifact gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.statistics.summaries import wilson_interval
from common.wording import NOT_DEFINED, SPACE, interval, p_value, percent, signed_interval
from report.blocks import Column, Number, Text
from report.run import Run


def rate(successes: int, n: int) -> str:
    """Returns a share with its counts and Wilson's interval: "54.2 % (265 of 489; 95 % interval 49.8 % to 58.6 %)"."""
    low, high = wilson_interval(successes, n)
    if low is None:
        return f"{NOT_DEFINED} (0 of 0)"
    return f"{percent(successes / n)} ({successes:,} of {n:,}; {between(low, high)})"


def between(low: float | None, high: float | None) -> str:
    """Returns a 95 % interval of a share."""
    return f"95{SPACE}% interval {percent(low)} to {percent(high)}"


def estimated(estimate: Mapping[str, Any]) -> str:
    """Returns an estimate for a sentence: "0.912 (95 % interval 0.880 to 0.941)", or why there is none."""
    if estimate["value"] is None:
        return because(estimate["reason"])
    if estimate["low"] is None:
        return f"{estimate['value']:.3f} (no interval: {estimate['reason']})"
    return f"{estimate['value']:.3f} (95{SPACE}% interval {estimate['low']:.3f} to {estimate['high']:.3f})"


def because(reason: str | None) -> str:
    """Returns what stands where a figure is missing: that it is not defined, and why."""
    return f"{NOT_DEFINED} ({reason})" if reason else NOT_DEFINED


def numeric(title: str, meaning: str = "") -> Column:
    """Returns a column of figures."""
    return Column(title, meaning, numeric=True)


def count_cell(n: int) -> Number:
    """Returns a count."""
    return Number(n, f"{n:,}")


def number_cell(value: float | None, decimals: int = 3, reason: str | None = None) -> Number:
    """Returns a plain figure."""
    return Number(value, because(reason) if value is None else f"{value:,.{decimals}f}")


def percent_cell(value: float | None, decimals: int = 1, reason: str | None = None) -> Number:
    """Returns a share whose n stands in the table's caption or in a column beside it."""
    return Number(value, because(reason) if value is None else percent(value, decimals))


def rate_cell(successes: int, n: int, reason: str | None = None) -> Number:
    """Returns a share with its counts and Wilson's interval."""
    low, high = wilson_interval(successes, n)
    if low is None:
        return Number(None, because(reason or "0 of 0"))
    return Number(successes / n, f"{percent(successes / n)} [{percent(low)}, {percent(high)}] ({successes:,}/{n:,})")


def share_cell(share: Mapping[str, Any]) -> Number:
    """Returns a `Share` of `common.statistics.steering`, as it stands in an artifact."""
    return rate_cell(share["numerator"], share["denominator"], share["reason"])


def estimate_cell(estimate: Mapping[str, Any]) -> Number:
    """Returns an estimate with its interval."""
    if estimate["value"] is None:
        return Number(None, because(estimate["reason"]))
    return Number(estimate["value"], interval(estimate))


def difference_cell(estimate: Mapping[str, Any]) -> Number:
    """Returns a difference with its interval and signs."""
    if estimate["value"] is None:
        return Number(None, because(estimate["reason"]))
    return Number(estimate["value"], signed_interval(estimate))


def p_cell(value: float | None, reason: str | None = None) -> Number:
    """Returns a p-value."""
    return Number(value, because(reason) if value is None else p_value(value))


def listed(words: Iterable[str]) -> str:
    """Returns words as a list in a sentence: "a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def partial_notes(run: Run, *phases: str) -> tuple[Text, ...]:
    """Returns the warning that some of `phases` cover only a part of their problems; nothing where none does."""
    note = run.partial_note(*phases)
    return () if note is None else (Text(f"{note} Every figure below is about that part.", "warning"),)
