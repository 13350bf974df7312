"""Plots of the ranking phases: where the best features lie, and how often features fire in either class."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from common import plotting
from common.plot_parts import layer_axis, say
from common.statistics.permutation import DIRECTIONS, Direction

HEXAGONS = 60
RASTER_ABOVE = 1_000  # hexagons; more would make the SVG large
# Dashes of one direction fall into the gaps of the other, so that two thresholds of equal height are both seen.
DASHES: dict[Direction, tuple[float, tuple[float, ...]]] = {
    "correct": (0, (4, 6)),
    "incorrect": (4.5, (1.2, 1.2, 1.2, 6.4)),
}


def score_by_layer(
    layer: NDArray[np.integer],
    score: NDArray[np.floating],
    score_words: str,
    critical_correct: float,
    critical_incorrect: float,
    n_problems: int,
    n_permutations: int,
) -> Figure:
    """Draws each layer's best score in either direction against the permutation null; `score_words` names the score.

    `layer` and `score` have shape (n_features,) and hold the ranked features of all layers. The critical values are
    those that a score must exceed for a max-permutation p of at most 0.05, the incorrect one negative; an infinite one
    (too few shuffles) is not drawn.
    """
    critical: dict[Direction, float] = {"correct": critical_correct, "incorrect": -critical_incorrect}
    with plotting.figure(plotting.COLUMN, 2.7) as (made, axes):
        axes.set_ylabel(f"best {score_words}")
        if len(layer):
            for direction in DIRECTIONS:
                _best(axes, direction, layer, score, critical[direction])
            layer_axis(axes, layer)
            axes.set_ylim(bottom=min(0.0, 1.1 * axes.dataLim.y0))
            made.legend(loc="outside upper left", ncols=2, handlelength=2.2)
        else:
            say(axes, "no feature could be ranked")
            axes.set(xlabel="layer", xticks=[], yticks=[])
        drawn = math.isfinite(critical_correct) or math.isfinite(critical_incorrect)
        null = (
            "dashes: 95 % of their maxima over all layers stay below."
            if drawn
            else "too few for a threshold at p = 0.05."
        )
        n_layers = len(np.unique(layer))
        plotting.caption(
            made,
            f"n = {n_problems:,} problems; the best of {len(score):,} features in {n_layers} layers; "
            f"{n_permutations:,} shuffles of the labels, {null}",
        )
    return made


def _best(
    axes: Axes, direction: Direction, layer: NDArray[np.integer], score: NDArray[np.floating], critical: float
) -> None:
    sign, colour = 1 if direction == "correct" else -1, plotting.COLOUR[direction]
    layers = np.unique(layer)
    best = [np.max(sign * score[layer == one]) for one in layers]
    style = {"color": colour, "marker": plotting.MARKER[direction], "markersize": 3, "linewidth": 0.9}
    axes.plot(layers, best, **style, label=f"{direction}-preferring")
    if math.isfinite(critical):
        axes.axhline(critical, color=colour, linestyle=DASHES[direction], linewidth=1.0, label="shuffled labels")


def firing_frequencies(
    f_correct: NDArray[np.floating],
    f_incorrect: NDArray[np.floating],
    top_correct: NDArray[np.integer],
    top_incorrect: NDArray[np.integer],
    n_correct: int,
    n_incorrect: int,
) -> Figure:
    """Draws how often each feature fires on correct against incorrect problems, the top features marked.

    The frequencies have shape (n_features,); `top_correct` and `top_incorrect` are positions in them, best first.
    """
    with plotting.figure(plotting.COLUMN, 3.4) as (made, axes):
        _density(made, axes, f_incorrect, f_correct)
        axes.plot([0, 1], [0, 1], color=plotting.BASELINE, linewidth=0.6)
        top: dict[Direction, NDArray[np.integer]] = {"correct": top_correct, "incorrect": top_incorrect}
        for direction, rows in top.items():
            axes.scatter(
                f_incorrect[rows],
                f_correct[rows],
                s=12,
                marker=plotting.MARKER[direction],
                color=plotting.COLOUR[direction],
                edgecolor="white",
                linewidth=0.3,
                label=f"top {len(rows)} {direction}-preferring",
                zorder=3,
            )
        axes.set_xlabel(f"fires on incorrect problems (share of {n_incorrect:,})")
        axes.set_ylabel(f"fires on correct problems (share of {n_correct:,})")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        made.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        plotting.caption(
            made,
            f"n = {len(f_correct):,} features, also those not ranked, on {n_correct + n_incorrect:,} problems; "
            "on the line, both classes alike.",
        )
    return made


def _density(made: Figure, axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    greys = ListedColormap(colormaps["Greys"](np.linspace(0.25, 1, 256)))  # a cell of one feature must still be seen
    known = np.isfinite(x) & np.isfinite(y)  # a class without problems has no frequencies
    how = {"gridsize": HEXAGONS, "bins": "log", "mincnt": 1, "cmap": greys, "extent": (0, 1, 0, 1), "linewidths": 0.1}
    cells = axes.hexbin(x[known], y[known], **how)
    if not known.any():
        say(axes, "no frequencies")
        return
    cells.set_rasterized(len(np.asarray(cells.get_array())) > RASTER_ABOVE)
    bar = made.colorbar(cells, ax=axes, label="features per cell", shrink=0.8, aspect=30, pad=0.02)
    bar.locator, bar.minorlocator = LogLocator(), NullLocator()
    bar.formatter = FuncFormatter(lambda value, _: f"{value:.0f}" if value < 1000 else f"{value / 1000:,.0f}k")
    bar.update_ticks()
