"""Pass rate and detection at each sampling temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common import plotting
from common.plot_parts import ends, fitting, percent, reason_of, say
from common.statistics.permutation import DIRECTIONS, Direction

SIDE: dict[Direction, int] = {"correct": -1, "incorrect": 1}  # so that intervals do not cover each other
PANEL_INCHES = 2.9  # width of a panel, for how many labels fit
ROOM = 0.05  # of the range of temperatures, left free at either end
Figures = Sequence[Mapping[str, Any]]


def by_temperature(temperatures: Sequence[float], pass_rates: Figures, aurocs: Mapping[Direction, Figures]) -> Figure:
    """Draws the pass rate and each direction's AUROC against the sampling temperature, with 95 % intervals.

    Per temperature, `pass_rates` holds a `bootstrap_share` as a dictionary and `aurocs` the `auroc` of a
    `detection_report`. What is None there leaves a gap, and a panel without any figure says why.
    """
    with plotting.figure(plotting.DOUBLE, 2.8, columns=2) as (made, (left, right)):
        _pass_rates(left, temperatures, pass_rates)
        _aurocs(right, temperatures, aurocs)
        for axes in (left, right):
            _temperature_axis(axes, temperatures)
        made.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        n_problems = max((rate["n_problems"] for rate in pass_rates), default=0)
        plotting.caption(
            made,
            f"{n_problems:,} problems; n = {_sizes(temperatures, pass_rates)}. Bars: 95 % intervals, bootstrap over "
            f"problems.{_missing(aurocs)}",
        )
    return made


def _pass_rates(axes: Axes, temperatures: Sequence[float], pass_rates: Figures) -> None:
    _series(axes, temperatures, pass_rates, color=plotting.BASELINE, marker="D", label="pass rate")
    axes.set_ylim(-0.03, 1.03)
    percent(axes.yaxis)
    axes.set_ylabel("solutions that passed")
    reason = reason_of(pass_rates)
    if reason:
        say(axes, reason)


def _aurocs(axes: Axes, temperatures: Sequence[float], aurocs: Mapping[Direction, Figures]) -> None:
    axes.axhline(0.5, color=plotting.BASELINE, linewidth=0.6, label="chance")
    step = min((high - low for low, high in pairwise(temperatures)), default=1.0)
    for direction in DIRECTIONS:
        style = {"color": plotting.COLOUR[direction], "marker": plotting.MARKER[direction]}
        at = np.asarray(temperatures, dtype=np.float64) + 0.04 * SIDE[direction] * step
        _series(axes, at, aurocs[direction], **style, label=f"{direction}-preferring feature")
    axes.set_ylabel("AUROC of the feature")
    reason = reason_of([one for direction in DIRECTIONS for one in aurocs[direction]])
    if reason:
        axes.set_ylim(0, 1)
        say(axes, reason)


def _temperature_axis(axes: Axes, temperatures: Sequence[float]) -> None:
    """Marks every temperature, and labels as many as there is room for."""
    low, high = min(temperatures), max(temperatures)
    room = ROOM * (high - low) or 0.5
    inches = {one: PANEL_INCHES * (one - low + room) / (high - low + 2 * room) for one in temperatures}
    names = fitting(inches, {one: f"{one:g}" for one in temperatures})
    axes.set_xlim(low - room, high + room)
    axes.set_xticks(list(names), list(names.values()))
    axes.set_xticks(list(temperatures), minor=True)
    axes.set_xlabel("sampling temperature")


def _series(axes: Axes, at: Any, figures: Figures, *, label: str, **style: Any) -> None:
    values, low, high = ends(figures)
    axes.plot(at, values, **style, label=label, linewidth=0.9)
    axes.vlines(at, low, high, color=style["color"], linewidth=0.9)


def _missing(aurocs: Mapping[Direction, Figures]) -> str:
    """Says why a direction has no AUROC at any temperature, empty where each has one."""
    reasons = {name: reason for name in DIRECTIONS if (reason := reason_of(aurocs[name]))}
    return "".join(f" No AUROC of the {name}-preferring feature: {reason}." for name, reason in reasons.items())


def _sizes(temperatures: Sequence[float], pass_rates: Figures) -> str:
    """Says how many solutions there are at each temperature, neighbours with equally many together."""
    parts = []
    for n, group in groupby(zip(temperatures, pass_rates, strict=True), key=lambda pair: pair[1]["n"]):
        at = [temperature for temperature, _ in group]
        where = f"each of {at[0]:g} to {at[-1]:g}" if len(at) > 1 else f"{at[0]:g}"
        parts.append(f"{n:,} solutions at {where}")
    return ", ".join(parts)
