"""Plots of the ranking phases: where the best features lie, and how often features fire in either class."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from common import plotting

HEXAGONS = 60


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
    layers = np.unique(layer)
    with plotting.figure(plotting.COLUMN, 2.6) as (made, axes):
        for sign, colour, name, critical in (
            (1, plotting.CORRECT, "correct-preferring", critical_correct),
            (-1, plotting.INCORRECT, "incorrect-preferring", -critical_incorrect),
        ):
            best = [np.max(sign * score[layer == one]) for one in layers]
            marker = "o" if sign > 0 else "s"
            axes.plot(layers, best, color=colour, marker=marker, markersize=3, linewidth=0.9, label=name)
            if math.isfinite(critical):
                axes.axhline(critical, color=colour, linestyle="--", linewidth=0.9)
        if math.isfinite(critical_correct):
            null = {"linestyle": "--", "linewidth": 0.9, "label": "95 % of shuffles stay below"}
            axes.plot([], [], color=plotting.BASELINE, **null)
        axes.set_xlabel("layer")
        axes.set_ylabel(f"best {score_words}")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        made.legend(loc="outside upper left", ncols=2)
        plotting.caption(
            made,
            f"n = {n_problems:,} problems, {len(score):,} features, {n_permutations:,} shuffles of the labels; "
            "each shuffle's maximum is over all layers.",
        )
    return made


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
    with plotting.figure(plotting.COLUMN, 3.3) as (made, axes):
        _density(made, axes, f_incorrect, f_correct)
        axes.plot([0, 1], [0, 1], color=plotting.BASELINE, linewidth=0.6)
        for top, colour, marker, name in (
            (top_correct, plotting.CORRECT, "o", "correct-preferring"),
            (top_incorrect, plotting.INCORRECT, "s", "incorrect-preferring"),
        ):
            axes.scatter(
                f_incorrect[top],
                f_correct[top],
                s=12,
                marker=marker,
                color=colour,
                edgecolor="white",
                linewidth=0.3,
                label=f"top {len(top)} {name}",
                zorder=3,
            )
        axes.set_xlabel(f"fires on incorrect problems (share of {n_incorrect:,})")
        axes.set_ylabel(f"fires on correct problems (share of {n_correct:,})")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        made.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        plotting.caption(
            made,
            f"{len(f_correct):,} features, also those not ranked; on the line, both classes alike.",
        )
    return made


def _density(made: Figure, axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    greys = ListedColormap(colormaps["Greys"](np.linspace(0.25, 1, 256)))  # a cell of one feature must still be seen
    cells = axes.hexbin(x, y, gridsize=HEXAGONS, bins="log", mincnt=1, cmap=greys, extent=(0, 1, 0, 1), linewidths=0.1)
    made.colorbar(cells, ax=axes, label="features per cell", shrink=0.8, aspect=30, pad=0.02)
