"""ROC and precision–recall curves of phase 3.8, of each direction's feature over those of its rivals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common import plotting
from common.plot_parts import legend_below, say
from common.statistics.detection import auroc, average_precision, missing_class, precision_recall_curve, roc_curve
from common.statistics.permutation import Direction
from phase3_8.plots import POSITIVE, Detected, features_of, panels_of, sizes

DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
GRID = np.linspace(0, 1, 201)
BAND = (2.5, 97.5)
BANDS = "Random rivals: median (range); bands: middle 95 % of their curves."
Style = Mapping[str, Any]
# The median curve of random directions and of random features, with the markers of other plots, and their bands.
MEDIANS: tuple[Style, Style] = (
    {"marker": plotting.DIRECTIONS_MARKER, "linestyle": "-", "markevery": (20, 40)},
    {"marker": plotting.FEATURES_MARKER, "linestyle": "--", "markevery": (40, 40)},
)
BAND_STYLES: tuple[Style, Style] = (
    {"facecolor": plotting.CONTROL, "alpha": 0.18, "linewidth": 0},
    {"facecolor": "none", "edgecolor": plotting.CONTROL, "alpha": 0.6, "linewidth": 0.3, "hatch": plotting.HATCH},
)


class Curve(NamedTuple):
    """A kind of curve: its points for one score, its height on `GRID`, and the area that sums it up."""

    points: Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]
    on_grid: Callable[[NDArray, NDArray], NDArray]
    area: Callable[[NDArray, NDArray], float | None]


def roc_curves(detected: Mapping[Direction, Detected]) -> Figure:
    """Draws each direction's ROC curve over those of its rivals and the line of chance; AUROC in the legends."""
    with plotting.figure(plotting.DOUBLE, 4.8, columns=2) as (made, panels):
        for axes, direction, of in panels_of(panels, detected, features_of(detected)):
            if _drawable(axes, of.positive):
                (chance,) = axes.plot([0, 1], [0, 1], color=plotting.BASELINE, linewidth=0.6)
                entries = {**_curves(axes, of, of.auroc, _ROC, plotting.COLOUR[direction]), "chance, 0.50": chance}
                legend_below(axes, entries, title="AUROC (95 % interval over problems)", handlelength=2.4)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_xlabel("false-positive rate")
            axes.set_ylabel("true-positive rate")
        plotting.caption(made, f"Validation split: {sizes(detected)}. {BANDS}")
    return made


def precision_recall_curves(detected: Mapping[Direction, Detected]) -> Figure:
    """Draws each direction's precision against recall over its rivals and the share of positives, which chance has."""
    with plotting.figure(plotting.DOUBLE, 4.8, columns=2) as (made, panels):
        for axes, direction, of in panels_of(panels, detected, features_of(detected)):
            if _drawable(axes, of.positive):
                share = float(np.mean(of.positive))
                line = axes.axhline(share, color=plotting.BASELINE, linewidth=0.6)
                entries = _curves(axes, of, of.average_precision, _RECALL, plotting.COLOUR[direction])
                entries[f"share of positives, {share:.2f}"] = line
                title = "average precision (95 % interval over problems)"
                legend_below(axes, entries, title=title, handlelength=2.4)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_xlabel(f"recall (share of solutions that {POSITIVE[direction]})")
            axes.set_ylabel("precision")
        plotting.caption(made, f"Validation split: {sizes(detected)}. {BANDS}")
    return made


def _drawable(axes: Axes, positive: NDArray[np.bool_]) -> bool:
    reason = missing_class(positive)
    if reason:
        say(axes, reason)
    return reason is None


def _roc_points(scores: NDArray, positive: NDArray) -> tuple[NDArray, NDArray]:
    curve = roc_curve(scores, positive)
    assert curve is not None, "a panel without both classes has no curve"
    return curve.false_positive_rate, curve.true_positive_rate


def _roc_on_grid(scores: NDArray, positive: NDArray) -> NDArray:
    return np.interp(GRID, *_roc_points(scores, positive))


def _recall_points(scores: NDArray, positive: NDArray) -> tuple[NDArray, NDArray]:
    """Precision as the steps that average precision sums up: each holds from the previous recall on."""
    curve = precision_recall_curve(scores, positive)
    assert curve is not None, "a panel without both classes has no curve"
    adds = np.diff(curve.recall, prepend=0) > 0
    recall, precision = curve.recall[adds], curve.precision[adds]
    return np.concatenate([[0], np.repeat(recall, 2)[:-1]]), np.repeat(precision, 2)


def _precision_on_grid(scores: NDArray, positive: NDArray) -> NDArray:
    recall, precision = _recall_points(scores, positive)
    return precision[1::2][np.searchsorted(recall[1::2], GRID - 1e-9)]


_ROC = Curve(_roc_points, _roc_on_grid, auroc)
_RECALL = Curve(_recall_points, _precision_on_grid, average_precision)


def _curves(axes: Axes, of: Detected, figure: Mapping[str, Any], curve: Curve, colour: str) -> dict[str, Any]:
    """Draws the rivals, lighter, below the feature; returns the legend, which starts with the feature."""
    own = axes.plot(*curve.points(of.scores, of.positive), color=colour, linewidth=1.8, zorder=3, label="feature")
    entries: dict[str, Any] = {f"feature, {_with_interval(figure)}": own[0]}
    dashes = cycle(DASHES)
    for name, scores in of.rivals.items():
        areas = [area for column in scores.T if (area := curve.area(column, of.positive)) is not None]
        if len(areas) == 1:
            style = {"color": plotting.NEUTRAL, "linestyle": next(dashes), "linewidth": 0.9}
            (line,) = axes.plot(*curve.points(scores[:, 0], of.positive), **style)
            entries[f"{name}, {areas[0]:.2f}"] = line
        elif areas:
            heights = np.array([curve.on_grid(column, of.positive) for column in scores.T])
            label = f"{len(areas)} {name}, {np.median(areas):.2f} ({min(areas):.2f}–{max(areas):.2f})"
            kind = name.endswith("features")
            entries[label] = _random_curves(axes, heights, MEDIANS[kind], BAND_STYLES[kind])
    return entries


def _random_curves(axes: Axes, heights: NDArray, median: Style, band: Style) -> tuple[Any, Any]:
    """Draws the median of many curves, (n_curves, n_grid), and the band that holds most of them; returns both."""
    area = axes.fill_between(GRID, *np.percentile(heights, BAND, axis=0), **band)
    style = {"color": plotting.CONTROL, "linewidth": 0.9, "markersize": 3, **median}
    (line,) = axes.plot(GRID, np.median(heights, axis=0), **style)
    return area, line


def _with_interval(figure: Mapping[str, Any]) -> str:
    interval = "no interval" if figure["low"] is None else f"{figure['low']:.2f}–{figure['high']:.2f}"
    return f"{figure['value']:.2f} ({interval})"
