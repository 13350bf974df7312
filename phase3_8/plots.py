"""Plots of phase 3.8: how well each direction's feature detects its class on the validation split.

Each figure has one panel a direction, in the same order. In the correct direction the positive class is solutions that
passed, in the incorrect one those that failed. A panel without both classes says so instead of drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from common import plotting
from common.plot_parts import head, legend_below, percent, say
from common.statistics.detection import Classification, ThresholdChoice
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.summaries import wilson_interval

POSITIVE: dict[Direction, str] = {"correct": "passed", "incorrect": "failed"}
BINS = 24
# A score that is exactly 0 this often gets a bar of its own.
SHARE_OF_ZEROS = 0.05


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


def f1_against_threshold(
    chosen: Mapping[Direction, ThresholdChoice],
    validation: Mapping[Direction, Classification | None],
    features: Mapping[Direction, str],
) -> Figure:
    """Draws F1 on the hyperparameter split at every candidate threshold, and what the chosen one gives on validation.

    The F1 of calling everything positive stands beside both.
    """
    with plotting.figure(plotting.DOUBLE, 3.3, columns=2, sharey=True) as (made, panels):
        for axes, direction, choice in panels_of(panels, chosen, features):
            axes.set_ylim(0, 1.02)
            axes.set_xlabel("threshold on the feature's activation")
            axes.set_ylabel(f"F1 (positive: {POSITIVE[direction]})")
            if choice.threshold is None:
                say(axes, choice.reason or "no threshold")
                axes.set_xticks([])
            else:
                _f1_panel(axes, direction, choice, validation[direction])
        plotting.caption(made, f"{_split_sizes(chosen, 'Hyperparameter')}; {_split_sizes(validation, 'validation')}.")
    return made


def _f1_panel(axes: Axes, direction: Direction, choice: ThresholdChoice, at: Classification | None) -> None:
    assert choice.threshold is not None and choice.f1 is not None
    colour = plotting.COLOUR[direction]
    name = "hyperparameter split, by threshold"
    axes.step(choice.thresholds, choice.f1_curve, where="pre", color=colour, label=name)
    label = f"chosen threshold {choice.threshold:.3g}: {choice.f1:.3f}"
    axes.plot(choice.threshold, choice.f1, plotting.MARKER[direction], color=colour, label=label)
    axes.axvline(choice.threshold, color=colour, linewidth=0.6)
    for f1, style, name in (
        (choice.f1_all_positive, ":", "hyperparameter split, everything positive"),
        (at.f1 if at else None, "-", "validation split at the chosen threshold"),
        (at.f1_all_positive if at else None, "--", "validation split, everything positive"),
    ):
        if f1 is not None:
            axes.axhline(f1, color=plotting.BASELINE, linestyle=style, linewidth=0.9, label=f"{name}: {f1:.3f}")
    legend_below(axes)


def confusion_matrices(
    validation: Mapping[Direction, Classification | None], features: Mapping[Direction, str]
) -> Figure:
    """Draws each direction's confusion matrix at its threshold: counts, and shares of each row (the true class)."""
    with plotting.figure(plotting.DOUBLE, 2.7, columns=2) as (made, panels):
        for axes, direction, at in panels_of(panels, validation, features):
            if at is None:
                say(axes, "no threshold was chosen")
                axes.set(xticks=[], yticks=[])
            else:
                _matrix(axes, direction, at)
        plotting.caption(
            made,
            f"{_split_sizes(validation, 'Validation')}; thresholds from the hyperparameter split. Shares are of a row, "
            "with 95 % Wilson intervals.",
        )
    return made


def score_distributions(detected: Mapping[Direction, Detected], thresholds: Mapping[Direction, float | None]) -> Figure:
    """Draws how the feature's activation is distributed over solutions that passed and over those that failed.

    Bars are shares of a class. An activation of exactly 0, where it is common, has a bar of its own left of the axis.
    """
    with plotting.figure(plotting.DOUBLE, 3.2, columns=2) as (made, panels):
        for axes, direction, of in panels_of(panels, detected, features_of(detected)):
            if len(of.scores) == 0:
                say(axes, "no rows")
                continue
            passed = of.positive if direction == "correct" else ~of.positive
            _histograms(axes, of, passed)
            threshold = thresholds[direction]
            entries: dict[str, Any] = _outcomes(passed)
            if threshold is not None:
                line = axes.axvline(threshold, color=plotting.BASELINE, linestyle="--", linewidth=0.9)
                entries[f"threshold, {threshold:.3g}"] = line
            percent(axes.yaxis)
            axes.set_xlabel("activation of the feature at the last prompt token")
            axes.set_ylabel("share of the class")
            legend_below(axes, entries, tick_lines=2, handleheight=0.9)
        plotting.caption(made, f"Validation split: {sizes(detected)}.")
    return made


def panels_of(
    panels: Any, of_direction: Mapping[Direction, Any], features: Mapping[Direction, str]
) -> Iterator[tuple[Axes, Direction, Any]]:
    """Yields each panel with its direction and what it shows, its title written."""
    for axes, direction in zip(panels, DIRECTIONS, strict=True):
        head(axes, direction, f"{direction}-preferring: {features[direction]}")
        yield axes, direction, of_direction[direction]


def features_of(detected: Mapping[Direction, Detected]) -> dict[Direction, str]:
    """Returns each direction's feature in words."""
    return {direction: of.feature for direction, of in detected.items()}


def _matrix(axes: Axes, direction: Direction, at: Classification) -> None:
    negative = POSITIVE["incorrect" if direction == "correct" else "correct"]
    counts = np.array([[at.tp, at.fn], [at.fp, at.tn]])
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    tint = np.ones((2, 2, 4))
    tint[..., :3] = to_rgb(plotting.COLOUR[direction])
    tint[..., 3] = 0.06 + 0.54 * shares
    axes.imshow(tint, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, f"{count:,}\n{_share(count, totals[row])}", ha="center", va="center")
    flagged = {f"flagged as {POSITIVE[direction]}": at.n_flagged, "not flagged": at.n - at.n_flagged}
    truth = dict(zip((POSITIVE[direction], negative), totals.tolist(), strict=True))
    axes.set_xticks([0, 1], [f"{name}\n({total:,})" for name, total in flagged.items()])
    axes.set_yticks([0, 1], [f"{name}\n({total:,})" for name, total in truth.items()])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _share(count: int, total: int) -> str:
    if not total:
        return "no rows"
    low, high = wilson_interval(int(count), int(total))
    assert low is not None and high is not None
    return f"{100 * count / total:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _histograms(axes: Axes, of: Detected, passed: NDArray[np.bool_]) -> None:
    scores = np.asarray(of.scores, dtype=np.float64)
    zero = scores == 0
    own_bar = float(np.mean(zero)) >= SHARE_OF_ZEROS and scores.min() == 0 < scores.max()
    edges = np.linspace(0, scores.max(), BINS + 1) if own_bar else np.histogram_bin_edges(scores, BINS)
    left, right = -4 * edges[1], -3 * edges[1]
    for rows, style in zip((passed, ~passed), _OUTCOMES.values(), strict=True):
        n = int(np.count_nonzero(rows))
        shares = np.histogram(scores[rows & ~zero] if own_bar else scores[rows], edges)[0] / max(n, 1)
        bars = [(shares, edges)]
        if own_bar:
            share = np.count_nonzero(rows & zero) / max(n, 1)
            bars.append((np.array([share]), np.array([left, right])))
        for heights, at in bars:
            axes.stairs(heights, at, **style)
    if own_bar:
        ticks = [tick for tick in MaxNLocator(5).tick_values(0, edges[-1]) if tick <= edges[-1]]
        axes.set_xticks([(left + right) / 2, *ticks], ["exactly\n0", *(f"{tick:g}" for tick in ticks)])


def _area(colour: str, **hatch: Any) -> dict[str, Any]:
    return {"fill": True, "facecolor": (*to_rgb(colour), 0.3), "edgecolor": colour, "linewidth": 0.9, **hatch}


_OUTCOMES = {"passed": _area(plotting.CORRECT), "failed": _area(plotting.INCORRECT, hatch=plotting.HATCH)}


def _outcomes(passed: NDArray[np.bool_]) -> dict[str, Patch]:
    """Returns the legend of both outcomes, with how many there are."""
    counts = (np.count_nonzero(rows) for rows in (passed, ~passed))
    return {f"{name} (n = {n:,})": Patch(**style) for (name, style), n in zip(_OUTCOMES.items(), counts, strict=True)}


def sizes(detected: Mapping[Direction, Detected]) -> str:
    """Returns in words how many solutions and problems there are, and how many passed."""
    of = detected["correct"]
    n_passed = int(np.count_nonzero(of.positive))
    return f"n = {len(of.positive):,} solutions of {of.n_problems:,} problems, {n_passed:,} passed"


def _split_sizes(of_direction: Mapping[Direction, Any], split: str) -> str:
    of = of_direction["correct"]
    return f"{split} split: n = {of.n:,}, {of.n_positive:,} passed" if of else f"{split} split: no figures"
