"""Plots of phase 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import plotting
from common.plot_parts import text_inches

BARS_INCHES = 2.7  # width of all bars together, for how their counts fit
LINE_INCHES = 0.11  # height of a count
FEWEST = 5  # complexities that the axis shows at least


def complexity_histogram(complexities: Sequence[int]) -> Figure:
    """Draws the number of problems by cyclomatic complexity, each bar with its count."""
    counts = Counter(int(value) for value in complexities)
    with plotting.figure(plotting.COLUMN, 2.4) as (made, axes):
        bars = axes.bar(list(counts), list(counts.values()), width=0.8, color=plotting.NEUTRAL)
        highest = max(FEWEST, *counts)
        lying = text_inches(f"{max(counts.values(), default=0):,}") <= BARS_INCHES / highest
        if lying or BARS_INCHES / highest >= LINE_INCHES:
            style: dict[str, Any] = {"rotation": 0 if lying else 90, "fontsize": plotting.SMALL}
            axes.bar_label(bars, fmt="{:,.0f}", padding=2, **style)
        axes.set_xlabel("cyclomatic complexity of the reference solution")
        axes.set_ylabel("problems")
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=20, steps=[1, 2, 5, 10], integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0.4, highest + 0.6)
        axes.margins(y=0.1 if lying else 0.18)
        plotting.caption(made, f"n = {len(complexities):,} problems; the highest of any function counts.")
    return made
