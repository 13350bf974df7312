"""The plot of phase 4.5: what each steering coefficient did, in either direction, beside random directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from common import plotting
from common.plot_parts import ends, fitting, head, merged, percent, say
from common.statistics.permutation import Direction
from common.steering_plots import INTERVALS
from phase4_5.choice import FLIP_RATE_LOOKED_FOR, PARSING_LOOKED_FOR

UNEVEN = 10  # gaps between coefficients that differ by this factor ask for a logarithmic axis
PANEL_INCHES = 2.3  # width of a panel, for how many labels fit
BESIDE_POINTS = 4  # how far random directions stand beside the feature
COLUMN_GAP = 0.08  # of a panel, so that the labels of neighbouring columns do not meet
LIGHT = 0.15

ROWS = {
    "correction": "correction\n(of failing)",
    "corruption": "corruption\n(of passing)",
    "flip_rate": "flip rate\n(of all)",
    "parsing": "outputs\n(of all)",
    "similarity": "similarity to\nthe baseline",
}
BANDS = {"flip_rate": FLIP_RATE_LOOKED_FOR, "parsing": (PARSING_LOOKED_FOR, 1.0)}


def coefficient_analysis(directions: Mapping[Direction, Mapping[str, Any]]) -> Figure:
    """Draws, a column a direction, what every coefficient did; the coefficients also in norms of the residual stream.

    Each direction holds `feature`, `residual_norm`, `chosen` (a coefficient and how it came about, or None),
    `coefficients` (the reports of `phase4_5.choice.coefficient_report`) and `noise_floor` (flips, or None).
    """
    grid: dict[str, Any] = {"squeeze": False, "sharex": "col", "sharey": "row", "gridspec_kw": {"wspace": COLUMN_GAP}}
    with plotting.figure(plotting.DOUBLE, 8.2, len(ROWS), len(directions), **grid) as (made, panels):
        for column, (direction, of) in zip(panels.T, directions.items(), strict=True):
            _column(dict(zip(ROWS, column, strict=True)), direction, of)
        for axes, name in zip(panels[:, 0], ROWS.values(), strict=True):
            axes.set_ylabel(name)
        _legends(dict(zip(ROWS, panels[:, -1], strict=True)), directions)
        made.align_ylabels(panels[:, 0])
        plotting.caption(made, _caption(directions))
    return made


def scale_for(coefficients: Sequence[float]) -> dict[str, Any]:
    """Returns the arguments of `set_xscale` that set coefficients apart: linear, log, or symlog around zero."""
    values = np.unique(coefficients)
    gaps = np.diff(values)
    if len(gaps) == 0 or gaps.max() < UNEVEN * gaps.min():
        return {"value": "linear"}
    if values[0] > 0:
        return {"value": "log"}
    return {"value": "symlog", "linthresh": float(np.abs(values[values != 0]).min())}


def _column(column: Mapping[str, Axes], direction: Direction, of: Mapping[str, Any]) -> None:
    reports = sorted(of["coefficients"], key=lambda report: report["coefficient"])
    for key, axes in column.items():
        if key in BANDS:
            axes.axhspan(*BANDS[key], color=plotting.NEUTRAL, alpha=LIGHT, linewidth=0)
        if of["chosen"] is not None:
            axes.axvline(of["chosen"]["coefficient"], color=plotting.COLOUR[direction], linestyle=":", linewidth=1.0)
        axes.set_ylim(-0.05, 1.05)
        percent(axes.yaxis)
        axes.grid(visible=False, axis="x")
        if key == "similarity":
            _similarity(axes, direction, reports)
        else:
            _shares(axes, direction, reports, key, of["noise_floor"])
    head(column["correction"], direction, _title(direction, of))
    _coefficient_axis(column["similarity"], reports, of["chosen"])


def _shares(
    axes: Axes,
    direction: Direction,
    reports: Sequence[Mapping[str, Any]],
    key: str,
    noise_floor: Mapping[str, Any] | None,
) -> None:
    """Draws one share of the feature and of each random direction; those that parse with those that define."""
    if all(report["effect"][key]["value"] is None for report in reports):
        say(axes, next((report["effect"][key]["reason"] for report in reports), "no coefficient was tried"))
        return
    if noise_floor is not None and noise_floor[key]["value"] is not None:
        axes.axhline(noise_floor[key]["value"], color=plotting.BASELINE, linestyle="--", linewidth=0.9, zorder=1)
    draws = sorted({one["draw"] for report in reports for one in report["random_directions"]})
    for place, draw in enumerate(draws):
        at, found = _draw(reports, draw)
        aside = _aside(axes, BESIDE_POINTS * (1 + place) / len(draws))
        _series(axes, at, [one["effect"][key] for one in found], _CONTROL, aside, bars=len(draws) == 1)
        if key == "parsing":
            _series(axes, at, [one["defines_function"] for one in found], {**_CONTROL, **_DEFINES}, aside, bars=False)
    own: dict[str, Any] = {"color": plotting.COLOUR[direction], "marker": plotting.MARKER[direction]}
    at = [one["coefficient"] for one in reports]
    _series(axes, at, [one["effect"][key] for one in reports], own, axes.transData, bars=True)
    if key == "parsing":
        defining = [one["defines_function"] for one in reports]
        _series(axes, at, defining, {**own, **_DEFINES}, _aside(axes, -BESIDE_POINTS), bars=True)


def _draw(reports: Sequence[Mapping[str, Any]], draw: int) -> tuple[list[float], list[Mapping[str, Any]]]:
    """Returns where one random direction was tried, and what it did there."""
    pairs = [(report["coefficient"], one) for report in reports for one in report["random_directions"]]
    found = [(at, one) for at, one in pairs if one["draw"] == draw]
    return [at for at, _ in found], [one for _, one in found]


_CONTROL: dict[str, Any] = {"color": plotting.CONTROL, "marker": "^", "markersize": 3}
_COMPLETE: dict[str, Any] = {"fillstyle": "full", "linestyle": "-"}
_DEFINES: dict[str, Any] = {"fillstyle": "none", "linestyle": "--"}


def _series(
    axes: Axes,
    at: Sequence[float],
    shares: Sequence[Mapping[str, Any]],
    style: Mapping[str, Any],
    where: Transform,
    *,
    bars: bool,
) -> None:
    values, low, high = ends(shares)
    axes.plot(at, values, **{"linewidth": 0.9, **style}, transform=where)
    if bars:
        axes.vlines(at, low, high, color=style["color"], linewidth=0.9, transform=where)


def _aside(axes: Axes, points: float) -> Transform:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _similarity(axes: Axes, direction: Direction, reports: Sequence[Mapping[str, Any]]) -> None:
    at = [report["coefficient"] for report in reports]
    own: dict[str, Any] = {"color": plotting.COLOUR[direction], "marker": plotting.MARKER[direction], "linewidth": 0.9}
    drawn = []
    for key, style in (("mean_token_similarity", _COMPLETE), ("mean_char_similarity", _DEFINES)):
        values = [np.nan if report[key] is None else report[key] for report in reports]
        axes.plot(at, values, **own, **style)
        drawn += values
    if np.isnan(drawn).all():
        say(axes, "no pair of solutions")


def _coefficient_axis(axes: Axes, reports: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None) -> None:
    """Sets scale, limits and ticks; of coefficients too close to be labelled all, the chosen one comes first."""
    norms = {report["coefficient"]: report["in_residual_norms"] for report in reports}
    first = [] if chosen is None else [chosen["coefficient"]]
    values = sorted({*norms, *first})
    if not values:
        return
    scale = scale_for(values)
    if scale["value"] != "linear":
        axes.set_xlim(values[0], values[-1])  # a new scale would first be fitted to what is drawn: perhaps one line
        axes.set_xscale(**scale)
    transform = axes.xaxis.get_transform()
    places = dict(zip(values, np.asarray(transform.transform(np.array(values, dtype=np.float64))), strict=True))
    low, high = places[values[0]], places[values[-1]]
    room = 0.07 * (high - low) or 0.5
    axes.set_xlim(*transform.inverted().transform(np.array([low - room, high + room])))
    inches = {value: PANEL_INCHES * (place - low + room) / (high - low + 2 * room) for value, place in places.items()}
    order = [*first, values[-1], *(value for value in values[:-1] if value not in first)]
    names = fitting(inches, {value: _number(value) for value in order})
    below = fitting(
        inches, {value: f"({_number(norms[value], '.2g')})" for value in order if value in names and value in norms}
    )
    axes.set_xticks(list(names), [f"{name}\n{below.get(value, '')}" for value, name in names.items()])
    axes.set_xticks(values, minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("coefficient\n(in norms of the residual stream)")


def _number(value: float, digits: str = "g") -> str:
    return f"{value:{digits}}".replace("-", "−")


def _legends(right: Mapping[str, Axes], directions: Mapping[Direction, Mapping[str, Any]]) -> None:
    """Puts the legends right of the last column, each in the row that it belongs to."""
    both = tuple(
        Line2D([], [], color=plotting.COLOUR[name], marker=plotting.MARKER[name], linewidth=0.9) for name in directions
    )
    handles: dict[str, Any] = {"feature": both, "random direction": Line2D([], [], linewidth=0.9, **_CONTROL)}
    if not any(report["random_directions"] for of in directions.values() for report in of["coefficients"]):
        del handles["random direction"]
    if any(of["noise_floor"] is not None for of in directions.values()):
        line: dict[str, Any] = {"color": plotting.BASELINE, "linestyle": "--", "linewidth": 0.9}
        handles["coefficient 0\n(noise floor)"] = Line2D([], [], **line)
    if any(of["chosen"] is not None for of in directions.values()):
        dotted = [Line2D([], [], color=plotting.COLOUR[name], linestyle=":", linewidth=1.0) for name in directions]
        handles["coefficient taken"] = tuple(dotted)
    _legend(right["correction"], handles)
    _legend(right["flip_rate"], {"range looked for": Patch(color=plotting.NEUTRAL, alpha=LIGHT, linewidth=0)})
    solid: dict[str, Any] = {"color": plotting.NEUTRAL, "marker": "o", "linewidth": 0.9}
    _legend(
        right["parsing"],
        {"parse": Line2D([], [], **solid), "define the\nfunction": Line2D([], [], **solid, **_DEFINES)},
    )
    _legend(right["similarity"], {"tokens": Line2D([], [], **solid), "characters": Line2D([], [], **solid, **_DEFINES)})


def _legend(axes: Axes, handles: Mapping[str, Any]) -> None:
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.03, 1.0), "borderaxespad": 0.0}
    tuples = {tuple: HandlerTuple(ndivide=None, pad=0.3)}
    axes.legend(list(handles.values()), list(handles), **place, handlelength=2.2, handler_map=tuples)


def _title(direction: Direction, of: Mapping[str, Any]) -> str:
    feature = f"layer {of['feature']['layer']}, feature {of['feature']['index']:,}"
    taken = "no coefficient taken yet"
    if of["chosen"] is not None:
        taken = f"taken: {_number(of['chosen']['coefficient'])} ({of['chosen']['how']})"
    return f"{direction}-preferring\n{feature}\n{taken}"


def _caption(directions: Mapping[Direction, Mapping[str, Any]]) -> str:
    parts = {f"{name} direction": _counts(of) for name, of in directions.items()}
    return f"{merged(parts)} {INTERVALS}"


def _counts(of: Mapping[str, Any]) -> str:
    effects = [report["effect"] for report in of["coefficients"]]
    if not effects:
        return "no coefficient was tried"
    n, failing, passing = (_from_to([one[key] for one in effects]) for key in ("n", "n_failing", "n_passing"))
    norm = f"mean norm of the residual stream {of['residual_norm']:.3g}"
    return f"n = {n} problems at each coefficient, {failing} failing and {passing} passing before, {norm}"


def _from_to(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"
