"""Plots of phase 3.8: how well each direction's feature detects its class on the validation split.

Each figure has one panel a direction, in the same order. In the correct direction the positive class is solutions that
passed, in the incorrect one those that failed. A panel without both classes says so instead of drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from common import plotting
from common.statistics.detection import (
    Classification,
    ThresholdChoice,
    auroc,
    average_precision,
    missing_class,
    precision_recall_curve,
    roc_curve,
)
from common.statistics.permutation import Direction

COLOUR: dict[Direction, str] = {"correct": plotting.CORRECT, "incorrect": plotting.INCORRECT}
POSITIVE: dict[Direction, str] = {"correct": "passed", "incorrect": "failed"}
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
BINS = 24
GRID = np.linspace(0, 1, 201)
BAND = (2.5, 97.5)
BANDS = "Random rivals: median (range); band: middle 95 % of curves."
# A score that is exactly 0 this often gets a bar of its own.
SHARE_OF_ZEROS = 0.05


class Curve(NamedTuple):
    """A kind of curve: its points for one score, its height on `GRID`, and the area that sums it up."""

    points: Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]
    on_grid: Callable[[NDArray, NDArray], NDArray]
    area: Callable[[NDArray, NDArray], float | None]


class Detected(NamedTuple):
    """What the plots show of one direction on one split.

    `scores` and `positive` have shape (n_rows,); `auroc` and `average_precision` are those of `detection_report`;
    `rivals` maps a name to scores of shape (n_rows, n_scores) on the same rows.
    """

    feature: str
    scores: NDArray
    positive: NDArray[np.bool_]
    n_problems: int
    auroc: Mapping[str, Any]
    average_precision: Mapping[str, Any]
    rivals: Mapping[str, NDArray]


def roc_curves(detected: Mapping[Direction, Detected]) -> Figure:
    """Draws each direction's ROC curve over those of its rivals and the line of chance; AUROC in the legends."""
    with plotting.figure(plotting.DOUBLE, 5.0, columns=2) as (made, panels):
        for axes, direction, of in _panels(panels, detected):
            if _drawable(axes, of.positive):
                axes.plot([0, 1], [0, 1], color=plotting.BASELINE, linewidth=0.6)
                _curves(axes, of, of.auroc, _ROC, COLOUR[direction])
                axes.plot([], [], color=plotting.BASELINE, linewidth=0.6, label="chance, 0.50")
                _legend_below(axes, "AUROC (95 % interval over problems)")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_xlabel("false-positive rate")
            axes.set_ylabel("true-positive rate")
        plotting.caption(made, f"Validation split: {_sizes(detected)}. {BANDS}")
    return made


def precision_recall_curves(detected: Mapping[Direction, Detected]) -> Figure:
    """Draws each direction's precision against recall over its rivals and the share of positives, which chance has."""
    with plotting.figure(plotting.DOUBLE, 5.2, columns=2) as (made, panels):
        for axes, direction, of in _panels(panels, detected):
            if _drawable(axes, of.positive):
                share = float(np.mean(of.positive))
                axes.axhline(share, color=plotting.BASELINE, linewidth=0.6)
                _curves(axes, of, of.average_precision, _RECALL, COLOUR[direction])
                axes.plot([], [], color=plotting.BASELINE, linewidth=0.6, label=f"share of positives, {share:.2f}")
                _legend_below(axes, "average precision (95 % interval over problems)")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_xlabel(f"recall (share of solutions that {POSITIVE[direction]})")
            axes.set_ylabel("precision")
        plotting.caption(made, f"Validation split: {_sizes(detected)}. {BANDS}")
    return made


def f1_against_threshold(
    chosen: Mapping[Direction, ThresholdChoice], validation: Mapping[Direction, Classification | None]
) -> Figure:
    """Draws F1 on the hyperparameter split at every candidate threshold, and what the chosen one gives on validation.

    The F1 of calling everything positive stands beside both.
    """
    with plotting.figure(plotting.DOUBLE, 3.3, columns=2, sharey=True) as (made, panels):
        for axes, direction, choice in _panels(panels, chosen):
            if choice.threshold is None:
                _say(axes, choice.reason or "no threshold")
                continue
            colour, at = COLOUR[direction], validation[direction]
            axes.step(
                choice.thresholds,
                choice.f1_curve,
                where="pre",
                color=colour,
                label="hyperparameter split, by threshold",
            )
            label = f"chosen threshold {choice.threshold:.3g}: {choice.f1:.3f}"
            axes.plot(choice.threshold, choice.f1, "o", color=colour, label=label)
            axes.axvline(choice.threshold, color=colour, linewidth=0.6)
            for f1, style, name in (
                (choice.f1_all_positive, ":", "hyperparameter split, everything positive"),
                (at.f1 if at else None, "-", "validation split at the chosen threshold"),
                (at.f1_all_positive if at else None, "--", "validation split, everything positive"),
            ):
                if f1 is not None:
                    axes.axhline(f1, color=plotting.BASELINE, linestyle=style, linewidth=0.9, label=f"{name}: {f1:.3f}")
            axes.set_ylim(0, 1)
            axes.set_xlabel("threshold on the feature's activation")
            axes.set_ylabel(f"F1 (positive: {POSITIVE[direction]})")
            _legend_below(axes)
        plotting.caption(made, f"{_split_sizes(chosen, 'Hyperparameter')}; {_split_sizes(validation, 'validation')}.")
    return made


def confusion_matrices(validation: Mapping[Direction, Classification | None]) -> Figure:
    """Draws each direction's confusion matrix at its threshold: counts, and shares of each row (the true class)."""
    with plotting.figure(plotting.DOUBLE, 2.9, columns=2) as (made, panels):
        for axes, direction, at in _panels(panels, validation):
            if at is None:
                _say(axes, "no threshold was chosen")
                continue
            _matrix(axes, direction, at)
        plotting.caption(
            made,
            f"{_split_sizes(validation, 'Validation')}; thresholds from the hyperparameter split. Shares are of a row.",
        )
    return made


def score_distributions(detected: Mapping[Direction, Detected], thresholds: Mapping[Direction, float | None]) -> Figure:
    """Draws how the feature's activation is distributed over solutions that passed and over those that failed.

    Bars are shares of a class. An activation of exactly 0, where it is common, has a bar of its own left of the axis.
    """
    with plotting.figure(plotting.DOUBLE, 3.2, columns=2) as (made, panels):
        for axes, direction, of in _panels(panels, detected):
            if len(of.scores) == 0:
                _say(axes, "no rows")
                continue
            _histograms(axes, of, of.positive if direction == "correct" else ~of.positive)
            threshold = thresholds[direction]
            if threshold is not None:
                label = f"threshold, {threshold:.3g}"
                axes.axvline(threshold, color=plotting.BASELINE, linestyle="--", linewidth=0.9, label=label)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            axes.set_xlabel("activation of the feature at the last prompt token")
            axes.set_ylabel("share of the class")
            _legend_below(axes)
        plotting.caption(made, f"Validation split: {_sizes(detected)}.")
    return made


def _panels(panels: Any, of_direction: Mapping[Direction, Any]) -> Iterator[tuple[Axes, Direction, Any]]:
    directions: tuple[Direction, ...] = ("correct", "incorrect")
    for axes, direction in zip(panels, directions, strict=True):
        of = of_direction[direction]
        feature = f": {of.feature}" if isinstance(of, Detected) else " feature"
        axes.set_title(f"{direction}-preferring{feature}", loc="left", color=COLOUR[direction])
        yield axes, direction, of


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


def _curves(axes: Axes, of: Detected, figure: Mapping[str, Any], curve: Curve, colour: str) -> None:
    """Draws the rivals, lighter, below the feature; the legend starts with the feature."""
    label = f"feature, {_with_interval(figure)}"
    axes.plot(*curve.points(of.scores, of.positive), color=colour, linewidth=1.6, zorder=3, label=label)
    dashes, random_dashes = cycle(DASHES), cycle(("-", "--"))
    for name, scores in of.rivals.items():
        areas = [area for column in scores.T if (area := curve.area(column, of.positive)) is not None]
        if len(areas) == 1:
            style = {"color": plotting.NEUTRAL, "linestyle": next(dashes), "linewidth": 0.9}
            axes.plot(*curve.points(scores[:, 0], of.positive), **style, label=f"{name}, {areas[0]:.2f}")
        elif areas:
            heights = np.array([curve.on_grid(column, of.positive) for column in scores.T])
            low, high = np.percentile(heights, BAND, axis=0)
            axes.fill_between(GRID, low, high, color=plotting.CONTROL, alpha=0.15, linewidth=0)
            label = f"{len(areas)} {name}, {np.median(areas):.2f} ({min(areas):.2f}–{max(areas):.2f})"
            style = {"color": plotting.CONTROL, "linestyle": next(random_dashes), "linewidth": 1.0}
            axes.plot(GRID, np.median(heights, axis=0), **style, label=label)


def _with_interval(figure: Mapping[str, Any]) -> str:
    interval = "no interval" if figure["low"] is None else f"{figure['low']:.2f}–{figure['high']:.2f}"
    return f"{figure['value']:.2f} ({interval})"


def _matrix(axes: Axes, direction: Direction, at: Classification) -> None:
    negative = POSITIVE["incorrect" if direction == "correct" else "correct"]
    counts = np.array([[at.tp, at.fn], [at.fp, at.tn]])
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    tint = np.ones((2, 2, 4))
    tint[..., :3] = [int(COLOUR[direction][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    tint[..., 3] = 0.06 + 0.54 * shares
    axes.imshow(tint, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        share = f"{100 * shares[row, column]:.0f} %" if totals[row] else "no rows"
        axes.text(column, row, f"{count:,}\n{share}", ha="center", va="center")
    flagged = {f"flagged as {POSITIVE[direction]}": at.n_flagged, "not flagged": at.n - at.n_flagged}
    truth = dict(zip((POSITIVE[direction], negative), totals.tolist(), strict=True))
    axes.set_xticks([0, 1], [f"{name}\n({total:,})" for name, total in flagged.items()])
    axes.set_yticks([0, 1], [f"{name}\n({total:,})" for name, total in truth.items()])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _histograms(axes: Axes, of: Detected, passed: NDArray[np.bool_]) -> None:
    scores = np.asarray(of.scores, dtype=np.float64)
    zero = scores == 0
    own_bar = float(np.mean(zero)) >= SHARE_OF_ZEROS and scores.min() == 0 < scores.max()
    edges = np.linspace(0, scores.max(), BINS + 1) if own_bar else np.histogram_bin_edges(scores, BINS)
    left, right = -4 * edges[1], -3 * edges[1]
    for rows, colour, name in ((passed, plotting.CORRECT, "passed"), (~passed, plotting.INCORRECT, "failed")):
        n = int(np.count_nonzero(rows))
        shares = np.histogram(scores[rows & ~zero] if own_bar else scores[rows], edges)[0] / max(n, 1)
        bars = [(shares, edges)]
        if own_bar:
            share = np.count_nonzero(rows & zero) / max(n, 1)
            bars.append((np.array([share]), np.array([left, right])))
        for heights, at in bars:
            axes.stairs(heights, at, fill=True, color=colour, alpha=0.35)
            axes.stairs(heights, at, color=colour, linewidth=0.9)
        axes.plot([], [], color=colour, label=f"{name} (n = {n:,})")
    if own_bar:
        ticks = [tick for tick in MaxNLocator(5).tick_values(0, edges[-1]) if tick <= edges[-1]]
        axes.set_xticks([(left + right) / 2, *ticks], ["exactly 0", *(f"{tick:g}" for tick in ticks)])


def _drawable(axes: Axes, positive: NDArray[np.bool_]) -> bool:
    reason = missing_class(positive)
    if reason:
        _say(axes, reason)
    return reason is None


def _say(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, reason, ha="center", va="center", color=plotting.NEUTRAL, transform=axes.transAxes)


def _legend_below(axes: Axes, title: str | None = None) -> None:
    place = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.2), "borderaxespad": 0.0}
    axes.legend(**place, alignment="left", title=title, title_fontsize=plotting.POINTS - 1)


def _sizes(detected: Mapping[Direction, Detected]) -> str:
    of = detected["correct"]
    n_passed = int(np.count_nonzero(of.positive))
    return f"n = {len(of.positive):,} solutions of {of.n_problems:,} problems, {n_passed:,} passed"


def _split_sizes(of_direction: Mapping[Direction, Any], split: str) -> str:
    of = of_direction["correct"]
    return f"{split} split: n = {of.n:,}, {of.n_positive:,} passed" if of else f"{split} split: no figures"
