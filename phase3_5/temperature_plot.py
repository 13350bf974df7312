"""Pass rate and detection at each sampling temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from common import plotting
from common.statistics.permutation import Direction

COLOUR: dict[Direction, str] = {"correct": plotting.CORRECT, "incorrect": plotting.INCORRECT}
MARKER: dict[Direction, str] = {"correct": "o", "incorrect": "s"}
SIDE: dict[Direction, int] = {"correct": -1, "incorrect": 1}  # so that intervals do not cover each other


def by_temperature(
    temperatures: Sequence[float],
    pass_rates: Sequence[Mapping[str, Any]],
    aurocs: Mapping[Direction, Sequence[Mapping[str, Any]]],
) -> Figure:
    """Draws the pass rate and each direction's AUROC against the sampling temperature, with 95 % intervals.

    Per temperature, `pass_rates` holds a `bootstrap_share` as a dictionary and `aurocs` the `auroc` of a
    `detection_report`. What is None there leaves a gap.
    """
    with plotting.figure(plotting.DOUBLE, 2.7, columns=2) as (made, (left, right)):
        _series(left, temperatures, pass_rates, plotting.BASELINE, "o", "pass rate", shift=0)
        left.set_ylim(0, 1)
        left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        left.set_ylabel("solutions that passed")
        right.axhline(0.5, color=plotting.BASELINE, linewidth=0.6, label="chance")
        step = min((high - low for low, high in pairwise(temperatures)), default=1.0)
        for direction, side in SIDE.items():
            name, shift = f"{direction}-preferring feature", 0.04 * side * step
            _series(right, temperatures, aurocs[direction], COLOUR[direction], MARKER[direction], name, shift)
        right.set_ylabel("AUROC of the feature")
        made.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        for axes in (left, right):
            axes.set_xlabel("sampling temperature")
            axes.set_xticks(list(temperatures))
        sizes = ", ".join(f"{rate['n']:,}" for rate in pass_rates)
        n_problems = max((rate["n_problems"] for rate in pass_rates), default=0)
        plotting.caption(
            made,
            f"{n_problems:,} problems; n = {sizes} solutions by rising temperature. Bars: 95 % intervals, bootstrap "
            "over problems.",
        )
    return made


def _series(
    axes: Axes,
    x: Sequence[float],
    figures: Sequence[Mapping[str, Any]],
    colour: str,
    marker: str,
    name: str,
    shift: float,
) -> None:
    at = np.asarray(x, dtype=np.float64) + shift
    values, low, high = (
        np.array([np.nan if figure[end] is None else figure[end] for figure in figures], dtype=np.float64)
        for end in ("value", "low", "high")
    )
    axes.plot(at, values, color=colour, marker=marker, label=name, linewidth=0.9)
    axes.vlines(at, low, high, color=colour, linewidth=0.9)
