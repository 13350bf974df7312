"""The plot of phase 0.1: how alike the splits are in difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common import plotting
from common.plot_parts import ends, fitting, percent
from common.statistics.steering import share

HIGHEST = 16  # complexities from here on are drawn together; MBPP has none above
APART = 0.24  # of one complexity, between neighbouring splits
PANEL_INCHES = 6.2  # width of the panel, for how many labels fit
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": plotting.BASELINE, "marker": "o", "markersize": 3},
    {"color": plotting.NEUTRAL, "marker": "s", "markersize": 3, "fillstyle": "none"},
    {"color": plotting.FAINT, "marker": "^", "markersize": 3},
)


def split_difficulty(complexity: Mapping[str, Sequence[int]], ks_distance: Mapping[str, float]) -> Figure:
    """Draws each split's share of problems by cyclomatic complexity, with 95 % intervals; n and KS distances below.

    `complexity` holds the complexities of each of up to three splits, `ks_distance` the distance of each pair.
    """
    pooled = {name: np.minimum(values, HIGHEST) for name, values in complexity.items()}
    values = np.unique(np.concatenate(list(pooled.values())))
    with plotting.figure(plotting.DOUBLE, 2.5) as (made, axes):
        for place, ((name, of_split), look) in enumerate(zip(pooled.items(), LOOKS, strict=False)):
            shares = [share(int((of_split == value).sum()), len(of_split)).as_dict() for value in values]
            middle, low, high = ends(shares)
            at = values + APART * (place - (len(pooled) - 1) / 2)
            axes.vlines(at, low, high, color=look["color"], linewidth=0.9)
            axes.plot(at, middle, **look, linestyle="none", label=f"{name} (n = {len(of_split):,})")
        span = float(values[-1] - values[0] + 1)
        inches = {float(value): PANEL_INCHES * (value - values[0]) / span for value in values}
        more = max(max(of_split, default=0) for of_split in complexity.values()) > HIGHEST
        names = {value: f"{value:g}{'+' if more and value == HIGHEST else ''}" for value in inches}
        kept = fitting(inches, names)
        axes.set_xticks(list(kept), list(kept.values()))
        axes.set_xlim(values[0] - 0.6, max(values[-1], values[0] + 4) + 0.6)
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
        axes.grid(visible=False, axis="x")
        percent(axes.yaxis)
        axes.set_xlabel("cyclomatic complexity of the reference solution")
        axes.set_ylabel("share of the split")
        made.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        plotting.caption(made, f"{_sizes(complexity)} Bars: 95 % Wilson intervals.{_distances(ks_distance)}")
    return made


def _sizes(complexity: Mapping[str, Sequence[int]]) -> str:
    return f"n = {sum(len(values) for values in complexity.values()):,} problems in {len(complexity)} splits."


def _distances(ks_distance: Mapping[str, float]) -> str:
    if not ks_distance:
        return ""
    words = ", ".join(f"{pair.replace('-', ' and ')} {distance:.3f}" for pair, distance in ks_distance.items())
    return f" Kolmogorov–Smirnov distances: {words}."
