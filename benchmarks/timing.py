"""Timing two things in turn, and the row that a benchmark reports."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One benchmark: what was measured, the figure, what is aimed at, and whether it was reached.

    `samples` are the single figures of the repeats, for their number and spread. A row that this machine cannot measure
    has no value, and says why in `not_measured`. `load` is the machine's, when the row was done.
    """

    name: str
    what: str
    value: float | None
    unit: str
    goal: str
    reached: bool | None
    details: dict[str, Any]
    samples: tuple[float, ...] = ()
    not_measured: str | None = None
    load: float | None = None


class Paired(NamedTuple):
    """Median seconds of two things, the ratio of the medians, and the ratios of the single pairs.

    `cpu_ratio` is the ratio of the medians of this process's CPU seconds, which other work disturbs less.
    """

    first: float
    second: float
    ratio: float
    ratios: tuple[float, ...]
    cpu_ratio: float | None = None


class Spent(NamedTuple):
    """Wall seconds of one call, and CPU seconds of this process during it."""

    wall: float
    cpu: float


def not_measured(name: str, what: str, goal: str, why: str) -> Row:
    """Returns a row without a figure."""
    return Row(name, what, None, "", goal, None, {}, (), why)


def seconds(action: Callable[[], object]) -> float:
    """Returns the wall seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def spent(action: Callable[[], object]) -> Spent:
    """Returns what one call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(first: Callable[[], object], second: Callable[[], object], repeats: int, warmups: int = 1) -> Paired:
    """Times two actions in turn, A B A B, after warming both up."""
    for _ in range(warmups):
        first()
        second()
    rounds = [(spent(first), spent(second)) for _ in range(repeats)]
    timed = paired([(one.wall, other.wall) for one, other in rounds])
    return timed._replace(cpu_ratio=paired([(one.cpu, other.cpu) for one, other in rounds]).ratio)


def paired(pairs: Sequence[tuple[float, float]], scale: float = 1.0) -> Paired:
    """Returns the medians of both sides of `pairs`, and their ratios times `scale`."""
    first = statistics.median(one for one, _ in pairs)
    second = statistics.median(other for _, other in pairs)
    ratio = scale * first / second if second else float("nan")
    return Paired(first, second, ratio, tuple(scale * one / other if other else float("nan") for one, other in pairs))
