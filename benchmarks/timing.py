"""Timing two things in turn, and the row that a benchmark reports."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One benchmark: what was measured, the figure, what is aimed at, and whether it was reached."""

    name: str
    what: str
    value: float
    unit: str
    goal: str
    reached: bool
    details: dict[str, Any]


class Paired(NamedTuple):
    """Median seconds of two things, and the median of their ratios pair by pair."""

    first: float
    second: float
    ratio: float


def seconds(action: Callable[[], object]) -> float:
    """Returns the wall seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(first: Callable[[], object], second: Callable[[], object], repeats: int, warmups: int = 1) -> Paired:
    """Times two actions in turn, A B A B, after warming both up."""
    for _ in range(warmups):
        first()
        second()
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return Paired(
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(one / other for one, other in pairs),
    )
