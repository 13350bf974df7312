"""What a threshold gives on the validation split, with bands: drawn for the report from phase 3.8's scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common import plotting
from common.plot_parts import head, legend_below, say
from common.statistics.bootstrap import problem_multiplicities
from common.statistics.permutation import Direction

if TYPE_CHECKING:
    import pyarrow as pa

DRAWS = 1_000
POINTS = 120
ENDS = (2.5, 97.5)


class Curves(NamedTuple):
    """F1, precision and recall by threshold; each (3, n): value, low and high end of the 95 % band."""

    thresholds: NDArray[np.floating]
    f1: NDArray[np.floating]
    precision: NDArray[np.floating]
    recall: NDArray[np.floating]


def threshold_plot(scores: pa.Table, results: Mapping[str, Any]) -> Figure:
    """Draws both directions; `scores` is `scores.parquet`, `results` `evaluation_results.json`."""
    rows = scores.take([row for row, split in enumerate(scores["split"].to_pylist()) if split == "validation"])
    passed = rows["test_passed"].to_numpy().astype(bool)
    with plotting.figure(plotting.DOUBLE, 3.2, columns=2, sharey=True) as (made, panels):
        for axes, (direction, report) in zip(panels, results["directions"].items(), strict=True):
            feature = report["feature"]
            head(axes, direction, f"{direction}-preferring: layer {feature['layer']}, feature {feature['index']:,}")
            positive = passed if direction == "correct" else ~passed
            _panel(axes, direction, report, rows[f"{direction}_score"].to_numpy(), positive, results["seed"])
        n = f"n = {len(passed):,} problems, {int(passed.sum()):,} solved"
        plotting.caption(made, f"Validation split: {n}. Bands: 95 % intervals, bootstrap over problems.")
    return made


def threshold_curves(scores: NDArray, positive: NDArray[np.bool_], seed: int) -> Curves:
    """Returns the curves of one score, a row a problem; precision is nan where nothing is called positive.

    Draws are of problems, with replacement; the thresholds are quantiles of the scores where there are many.
    """
    thresholds = np.unique(scores)
    if len(thresholds) > POINTS:
        thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, POINTS), method="lower"))
    n = len(scores)
    weights = np.concatenate([np.ones((1, n)), problem_multiplicities(n, seed, DRAWS).T])
    called = (scores[:, None] >= thresholds).astype(np.float64)
    right, flagged = (weights * positive) @ called, weights @ called
    wanted = (weights @ positive)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = 2 * right / (flagged + wanted), right / flagged, right / wanted
    return Curves(thresholds, *(_banded(share) for share in shares))


def _banded(draws: NDArray) -> NDArray:
    """Returns the observed values, which stand first, with the ends of the band."""
    return np.stack([draws[0], *np.nanpercentile(draws[1:], ENDS, axis=0)])


def _panel(
    axes: Axes, direction: Direction, report: Mapping[str, Any], scores: NDArray, positive: NDArray, seed: int
) -> None:
    at = report["validation"]["classification"]
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("threshold on the feature's activation")
    axes.set_ylabel(f"share (positive: {report['positive']})")
    if at is None or not positive.any():
        say(axes, report["threshold"]["reason"] or report["validation"]["auroc"]["reason"])
        axes.set_xticks([])
        return
    found = threshold_curves(scores, positive, seed)
    for values, colour, dashes, name in (
        (found.f1, plotting.COLOUR[direction], "-", "F1"),
        (found.precision, plotting.NEUTRAL, "--", "precision"),
        (found.recall, plotting.NEUTRAL, ":", "recall"),
    ):
        axes.fill_between(found.thresholds, values[1], values[2], color=colour, alpha=0.15, linewidth=0)
        axes.plot(found.thresholds, values[0], color=colour, linestyle=dashes, label=name)
    everything = {"color": plotting.BASELINE, "linestyle": (0, (5, 2)), "linewidth": 0.9}
    axes.axhline(at["f1_all_positive"], **everything, label=f"F1, everything positive: {at['f1_all_positive']:.3f}")
    axes.axvline(at["threshold"], color=plotting.BASELINE, linewidth=0.6, label=f"chosen threshold: F1 {at['f1']:.3f}")
    legend_below(axes, ncols=2)
