"""A row of a comparison: one figure in both runs, the difference B minus A, and what belongs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from common.run_comparison.sides import Draws
from common.statistics.differences import DifferenceOfRuns, Measured, difference_of_runs

SHARE, SCORE, NUMBER, WORDS = "share", "score", "number", "words"


@dataclass(frozen=True)
class Row:
    """One figure of both runs.

    `kind` says what the values are: a share, a score, a number in a unit of its own, or words. `n_a` and `n_b` count
    what a value was made from, `n_shared` the problems that both runs have. Where there is no interval, or no value,
    `reason` says why. `remark` and `detail` hold, for people and for programs, what a value must not stand without: its
    control, its trivial rival.
    """

    group: str
    figure: str
    phase: str
    kind: str
    a: float | str | None = None
    b: float | str | None = None
    n_a: int | None = None
    n_b: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    method: str | None = None
    n_shared: int | None = None
    reason: str | None = None
    remark: str = ""
    detail: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns every field by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Which figure a row is about."""

    group: str
    figure: str
    phase: str
    kind: str = SHARE


def measured_row(
    place: Place,
    figures: tuple[Measured, Measured],
    n: tuple[int, int],
    draws: Draws,
    remark: str = "",
    detail: Mapping[str, Any] | None = None,
) -> Row:
    """Returns the row of a figure that can be drawn again problem by problem in both runs."""
    first, second = figures
    found = difference_of_runs(first, second, draws.seed, draws.n_draws)
    return difference_row(place, (first.value, second.value), n, found, remark, detail)


def difference_row(
    place: Place,
    values: tuple[float | None, float | None],
    n: tuple[int | None, int | None],
    found: DifferenceOfRuns,
    remark: str = "",
    detail: Mapping[str, Any] | None = None,
) -> Row:
    """Returns the row of a figure whose difference is known."""
    return Row(
        **vars(place),
        a=values[0],
        b=values[1],
        n_a=n[0],
        n_b=n[1],
        difference=found.value,
        low=found.low,
        high=found.high,
        method=found.method,
        n_shared=found.n_shared,
        reason=found.reason,
        remark=remark,
        detail=detail,
    )


def numbers_row(place: Place, values: tuple[float | None, float | None], reason: str, remark: str = "") -> Row:
    """Returns the row of two numbers that no interval can be made for, with the reason."""
    a, b = values
    difference = None if a is None or b is None else b - a
    return Row(**vars(place), a=a, b=b, difference=difference, reason=reason, remark=remark)


def words_row(
    place: Place, values: tuple[str | None, str | None], remark: str = "", detail: Mapping[str, Any] | None = None
) -> Row:
    """Returns the row of two findings in words."""
    same = "the same in both" if values[0] == values[1] else "different"
    return Row(**vars(place), a=values[0], b=values[1], reason=same, remark=remark, detail=detail)
