"""Plots of phase 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import plotting


def complexity_histogram(complexities: Sequence[int]) -> Figure:
    """Draws the number of problems by cyclomatic complexity, each bar with its count."""
    counts = Counter(int(value) for value in complexities)
    with plotting.figure(plotting.COLUMN, 2.4) as (made, axes):
        bars = axes.bar(list(counts), list(counts.values()), width=0.8, color=plotting.NEUTRAL)
        axes.bar_label(bars, fontsize=plotting.POINTS - 2, padding=1)
        axes.set_xlabel("cyclomatic complexity of the reference solution")
        axes.set_ylabel("problems")
        axes.grid(visible=False, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=20, steps=[1, 2, 5, 10], integer=True))
        axes.set_xlim(0.4, max(counts, default=1) + 0.6)
        axes.margins(y=0.1)
        plotting.caption(made, f"n = {len(complexities):,} problems; the highest of any function counts.")
    return made
