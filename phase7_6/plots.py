"""The plot of phase 7.6: the base and the instruction-tuned model side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common import plotting
from common.plot_parts import say
from common.statistics.permutation import Direction

LANE_INCHES = 0.32
GAP = 0.4  # of a lane, above each new kind of figures
AUROC, CHANCE = "AUROC", 0.5


class Model(NamedTuple):
    """One of the two models: its key in a row, its name, how markers are filled, and its shift, in lanes."""

    key: str
    name: str
    fill: Literal["full", "none"]
    shift: float


MODELS = (Model("base", "base model", "full", -0.16), Model("instruct", "instruction-tuned model", "none", 0.16))


def comparison_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws each figure of both models, with its 95 % interval, one below the other.

    A row holds `what` (AUROC, correction …), `direction`, and for each model (`base`, `instruct`) `value`, `low`,
    `high` and `n`. Rows of one `what` should follow each other. A value of None leaves a note in its place.
    """
    places = _places(rows)
    bottom = places[-1] + 0.6 if places else 0.6
    with plotting.figure(plotting.DOUBLE, 1.2 + LANE_INCHES * (bottom + 0.6)) as (made, axes):
        axes.set(xlim=(-0.02, 1.02), ylim=(bottom, -0.6))
        axes.set_xlabel("share of problems, or area under the curve")
        axes.grid(visible=False, axis="y")
        for place, row in zip(places, rows, strict=True):
            for model in MODELS:
                _point(axes, place + model.shift, row[model.key], model, row["direction"])
            if row["what"] == AUROC:
                axes.vlines(CHANCE, place - 0.5, place + 0.5, color=plotting.BASELINE, linewidth=0.6)
        _sides(axes, places, rows)
        if not rows:
            say(axes, "nothing to compare")
        made.legend(handles=_legend(rows), loc="outside upper left", ncols=4)
        plotting.caption(made, "Right: n of the base and of the instruction-tuned model. Bars: 95 % intervals.")
    return made


def _places(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    places = [0.0] * bool(rows)
    for before, row in pairwise(rows):
        places.append(places[-1] + 1 + GAP * (row["what"] != before["what"]))
    return places


def _point(axes: Axes, place: float, of: Mapping[str, Any], model: Model, direction: Direction) -> None:
    colour = plotting.COLOUR[direction]
    if of["value"] is None:
        style: dict[str, Any] = {"va": "center", "color": plotting.NEUTRAL, "fontsize": plotting.SMALL}
        axes.text(0, place, f"{model.name}: no figure", **style)
        return
    if of["low"] is not None and of["high"] is not None:
        axes.hlines(place, of["low"], of["high"], color=colour)
    axes.plot(of["value"], place, plotting.MARKER[direction], color=colour, fillstyle=model.fill)


def _sides(axes: Axes, places: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> None:
    """Names each row at the left, and gives its numbers of problems at the right."""
    axes.set_yticks(places, [f"{row['what']}, {row['direction']} direction" for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(plotting.INK[row["direction"]])
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [" / ".join(_n(row[model.key]) for model in MODELS) for row in rows])
    right.spines[:].set_visible(False)
    for side in (axes, right):
        side.tick_params(axis="y", length=0)


def _n(of: Mapping[str, Any]) -> str:
    return "–" if of["n"] is None else f"{of['n']:,}"


def _legend(rows: Sequence[Mapping[str, Any]]) -> list[Line2D]:
    style: dict[str, Any] = {"color": plotting.NEUTRAL, "linewidth": 1.2}
    handles = [Line2D([], [], marker="o", fillstyle=one.fill, **style, label=one.name) for one in MODELS]
    if any(row["what"] == AUROC for row in rows):
        handles.append(Line2D([], [], color=plotting.BASELINE, linewidth=0.6, label="chance"))
    return handles
