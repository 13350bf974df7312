"""Figures in words: percentages, estimates with intervals, p-values. The closing table and the report both say them so.

What could not be computed is "not defined", never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPACE = "\u00a0"  # no line breaks inside a figure
NOT_DEFINED = "not defined"


def percent(value: float | None, decimals: int = 1) -> str:
    """Returns a share as a percentage."""
    return NOT_DEFINED if value is None else f"{100 * value:.{decimals}f}{SPACE}%"


def interval(estimate: Mapping[str, Any]) -> str:
    """Returns an estimate with its interval."""
    if estimate["value"] is None:
        return NOT_DEFINED
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def signed_interval(estimate: Mapping[str, Any]) -> str:
    """Returns a difference with its interval, signs included."""
    if estimate["value"] is None:
        return NOT_DEFINED
    if estimate["low"] is None:
        return signed(estimate["value"], 3)
    return f"{signed(estimate['value'], 3)} [{signed(estimate['low'], 3)}, {signed(estimate['high'], 3)}]"


def p_value(value: float | None) -> str:
    """Returns a p-value, a small one in powers of ten."""
    if value is None:
        return NOT_DEFINED
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.1e}"


def signed(value: float | None, decimals: int = 2) -> str:
    """Returns a figure with its sign."""
    return NOT_DEFINED if value is None else f"{value:+.{decimals}f}".replace("-", "−")


def counted(n: int, noun: str) -> str:
    """Returns how many of a thing, `noun` in the singular: "1 problem", "1,234 problems"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    """Returns a time span in the two largest units that it has: "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
