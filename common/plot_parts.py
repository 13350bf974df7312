"""What the plots of several phases share: reasons in place of figures, intervals, ticks, legends, titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from common import plotting
from common.statistics.permutation import Direction

LABEL_GAP = 0.05  # inches left free between labels
BELOW = 0.4  # inches from a panel down to its legend: labels of ticks and axis stand between
LINE = 0.13  # inches, of a line of small text


def say(axes: Axes, reason: str) -> None:
    """Writes `reason` in the middle of a panel in which nothing can be drawn."""
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, reason, color=plotting.NEUTRAL, bbox=box, **place)
    axes.grid(visible=False)


def head(axes: Axes, direction: Direction, text: str) -> None:
    """Writes a panel's title at its left, in the ink of a direction."""
    axes.set_title(text, loc="left", color=plotting.INK[direction])


def ends(figures: Sequence[Mapping[str, Any]]) -> tuple[NDArray, NDArray, NDArray]:
    """Returns values, lower and upper ends of figures, each of shape (n_figures,), nan where there is none."""
    values, low, high = (
        np.array([np.nan if one[end] is None else one[end] for one in figures], dtype=np.float64)
        for end in ("value", "low", "high")
    )
    return values, low, high


def reason_of(figures: Iterable[Mapping[str, Any]]) -> str | None:
    """Returns why none of the figures has a value, None where one has."""
    given = list(figures)
    if any(one["value"] is not None for one in given):
        return None
    return next((one["reason"] for one in given), "nothing was measured")


def percent(axis: Any) -> None:
    """Labels an axis of shares in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))


def layer_axis(axes: Axes, layers: Sequence[int] | NDArray, name: str = "layer") -> None:
    """Names the horizontal axis of layers and marks whole ones only, also where there is but one."""
    axes.set_xlabel(name)
    axes.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def merged(of: Mapping[str, str]) -> str:
    """Returns a sentence of what holds for each name; what holds for all alike is said once, without names."""
    parts = [f"{name}: {text}" for name, text in of.items()]
    sentence = next(iter(of.values())) if len(set(of.values())) == 1 else "; ".join(parts)
    return f"{sentence}." if sentence.startswith("n =") else f"{sentence[:1].upper()}{sentence[1:]}."


def legend_below(axes: Axes, entries: Mapping[str, Any] | None = None, *, tick_lines: int = 1, **style: Any) -> Legend:
    """Puts a legend below a panel's axis label, at a distance that does not depend on the panel's height.

    `entries` maps each label to its handle, to several drawn on each other where a tuple; without it, all that is
    labelled counts. `tick_lines` says how many lines the labels of the axis above have.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = ScaledTranslation(0, -BELOW - LINE * (tick_lines - 1), figure.dpi_scale_trans)
    given = {} if entries is None else {"handles": list(entries.values()), "labels": list(entries)}
    return axes.legend(
        **given,
        **{"loc": "upper left", "bbox_to_anchor": (0.0, 0.0), "bbox_transform": axes.transAxes + below},
        **{"borderaxespad": 0.0, "alignment": "left", "title_fontsize": plotting.SMALL, **style},
    )


def text_inches(text: str) -> float:
    """Returns the width in inches of the longest line of a small text."""
    plain = text.replace("$", "S")  # which is as wide, and opens no formula
    widths = [TextPath((0, 0), line, size=plotting.SMALL).get_extents().width for line in plain.split("\n") if line]
    return max(widths, default=0.0) / 72


def fitting(inches: Mapping[float, float], labels: Mapping[float, str]) -> dict[float, str]:
    """Returns the labels that do not touch each other, taken greedily in their order.

    `inches` gives where each value stands.
    """
    half = {value: text_inches(text) / 2 for value, text in labels.items()}
    kept: dict[float, str] = {}
    for value, text in labels.items():
        if all(abs(inches[value] - inches[other]) > half[value] + half[other] + LABEL_GAP for other in kept):
            kept[value] = text
    return kept
