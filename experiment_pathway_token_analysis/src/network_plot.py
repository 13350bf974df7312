"""The pathway network: validated edges between features, layers from left to right.

The order inside a layer is that of the neighbours' mean place, swept there and back (Sugiyama, Tagawa & Toda, IEEE
Trans. Syst. Man Cybern. 11, 1981). The features with most edges carry a number, and a key below says who they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from common import plotting
from common.plot_parts import say, text_inches
from experiment_pathway_token_analysis.src.display import figure_label
from experiment_pathway_token_analysis.src.integration import Row, place_of

MAX_EDGES = 500
MAX_NAMED = 16
SWEEPS = 8
LOOSEST = 2.5
KEY_WORDS = 3
KEY_CHARACTERS = 12
KEY_INCHES = 3.35  # width of a column of the key
CURVE_POINTS = 16
DASHES = (0, (3, 1.5))
ROW = 0.14  # inches, of a line of the key
AXIS = 0.5  # inches below the network, for the layers
DOT, NUMBERED = 3.2, 10.5  # points across
MARKERS = ("o", "s", "D")  # of both classes, and of features whose class is unknown
Place = tuple[float, float]


class Strength(NamedTuple):
    """An edge that is drawn: its ends, sign, size in standard deviations of the target, and label."""

    source: str
    target: str
    positive: bool
    size: float
    label: str


def network_figure(
    edges: Sequence[Row], features: Sequence[Row], scales: Mapping[str, float], classes: Sequence[str]
) -> Figure:
    """Draws validated edges, the strongest where there are more than MAX_EDGES; with none a note says so.

    `scales` are the targets' standard deviations over prompts, by which effects are divided.
    """
    drawn = _strongest(edges, scales)
    if not drawn:
        return note_figure("no edge was validated", f"n = {_tested(edges):,} tested edges, none validated.")
    by_name = {one["feature"]: one for one in features}
    places = _places(drawn)
    tallest = max(Counter(x for x, _ in places.values()).values())
    height = min(5.0, max(1.7, 0.9 + 0.17 * tallest))
    named = _named(drawn, places, unit_points=72 * (height - AXIS) / (tallest + 0.6))
    n_rows = -(-len(named) // 2)
    sizes = [height, max(0.05, ROW * n_rows)]
    with plotting.figure(plotting.DOUBLE, sum(sizes) + 0.5, rows=2, height_ratios=sizes) as (made, (axes, key)):
        key.set_axis_off()
        _draw_edges(axes, drawn, places)
        _draw_nodes(axes, places, by_name, named, classes)
        _draw_key(key, named, by_name, n_rows)
        _layer_axis(axes, places)
        handles = _legend(drawn, [by_name[name] for name in places], classes)
        made.legend(handles=handles, loc="outside upper left", ncols=4, columnspacing=1.2)
        plotting.caption(made, _caption(edges, drawn, places, named))
    return made


def note_figure(note: str, caption: str) -> Figure:
    """Returns what stands for a plot of which there is nothing to draw."""
    with plotting.figure(plotting.COLUMN, 1.0) as (made, axes):
        say(axes, note)
        axes.set_axis_off()
        plotting.caption(made, caption)
    return made


def _strongest(edges: Sequence[Row], scales: Mapping[str, float]) -> list[Strength]:
    """Returns the validated edges that are drawn, weakest first, so that the strongest lie on top."""
    found = [
        Strength(
            edge["source"],
            edge["target"],
            edge["mean_delta"] > 0,
            abs(edge["mean_delta"]) / (scales.get(edge["target"]) or 1.0),
            edge["label"],
        )
        for edge in edges
        if edge["validated"]
    ]
    found.sort(key=lambda one: (one.size, one.source, one.target))
    return found[-MAX_EDGES:]


def _places(drawn: Sequence[Strength]) -> dict[str, Place]:
    """Returns where each feature stands: its column (a layer that has features) and its height, 0 in the middle."""
    names = sorted({name for one in drawn for name in (one.source, one.target)}, key=place_of)
    layers = sorted({place_of(name)[0] for name in names})
    columns = [[name for name in names if place_of(name)[0] == layer] for layer in layers]
    neighbours: dict[str, list[str]] = {name: [] for name in names}
    for one in drawn:
        neighbours[one.source].append(one.target)
        neighbours[one.target].append(one.source)
    tallest = max(map(len, columns))
    heights = {
        name: height for column in columns for name, height in zip(column, _heights(len(column), tallest), strict=True)
    }
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            column.sort(key=lambda name: (float(np.mean([heights[one] for one in neighbours[name]])), place_of(name)))
            heights.update(zip(column, _heights(len(column), tallest), strict=True))
    return {name: (float(x), heights[name]) for x, column in enumerate(columns) for name in column}


def _heights(n: int, tallest: int) -> list[float]:
    """Returns `n` heights around 0, one unit apart in the tallest column and at most LOOSEST in shorter ones."""
    apart = min(LOOSEST, tallest / n)
    return [apart * ((n - 1) / 2 - place) for place in range(n)]


def _named(drawn: Sequence[Strength], places: Mapping[str, Place], unit_points: float) -> list[str]:
    """Returns the features that get a number: those with most edges, of equal ones those of the strongest.

    `unit_points` is the distance of neighbours in the tallest column: of two too close for their numbers, one has none.
    """
    degree, strongest = Counter[str](), dict[str, float]()
    for one in drawn:
        for name in (one.source, one.target):
            degree[name] += 1
            strongest[name] = max(strongest.get(name, 0.0), one.size)
    kept: list[str] = []
    for name in sorted(degree, key=lambda name: (-degree[name], -strongest[name], place_of(name))):
        x, y = places[name]
        beside = [places[other][1] for other in kept if places[other][0] == x]
        if len(kept) < MAX_NAMED and all(abs(y - height) * unit_points >= NUMBERED for height in beside):
            kept.append(name)
    return sorted(kept, key=place_of)


def _draw_edges(axes: Axes, drawn: Sequence[Strength], places: Mapping[str, Place]) -> None:
    largest = max(one.size for one in drawn)
    crowded = len(drawn) > 60
    widths = [(0.35 if crowded else 0.6) + (0.9 if crowded else 1.4) * one.size / largest for one in drawn]
    lines = LineCollection(
        [_curve(places[one.source], places[one.target]) for one in drawn],
        linewidths=widths,
        colors=[plotting.BASELINE if one.label == "computation" else plotting.FAINT for one in drawn],
        linestyles=["solid" if one.positive else DASHES for one in drawn],
        alpha=0.4 if crowded else 0.8,
        zorder=1,
    )
    axes.add_collection(lines)


def _curve(start: Place, end: Place) -> NDArray[np.float64]:
    """Returns a curve from node to node that leaves and enters level, shape (points, 2)."""
    t = np.linspace(0, 1, CURVE_POINTS)[:, None]
    bend = (end[0] - start[0]) / 2
    corners = np.array([start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end])
    return (
        (1 - t) ** 3 * corners[0]
        + 3 * (1 - t) ** 2 * t * corners[1]
        + 3 * (1 - t) * t**2 * corners[2]
        + t**3 * corners[3]
    )


def _look(of_class: str | None, classes: Sequence[str]) -> dict[str, Any]:
    """Returns colour and marker of a class."""
    looks = zip((*classes, None), (*plotting.INK.values(), plotting.NEUTRAL), MARKERS, strict=True)
    found = {name: {"color": colour, "marker": marker} for name, colour, marker in looks}
    return found.get(of_class, found[None])


def _draw_nodes(
    axes: Axes, places: Mapping[str, Place], features: Mapping[str, Row], named: Sequence[str], classes: Sequence[str]
) -> None:
    """Draws the nodes, those of one look together, and the numbers of those that have one."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name in places:
        alike.setdefault((features[name]["class"], features[name]["has_tokens"], name in named), []).append(name)
    for (of_class, has_tokens, numbered), names in alike.items():
        look = _look(of_class, classes)
        size = (NUMBERED if numbered else DOT) * (0.9 if look["marker"] != "o" else 1.0)  # corners reach far
        fill = look["color"] if has_tokens else "white"
        x, y = np.array([places[name] for name in names]).T
        axes.plot(x, y, **look, linestyle="none", markersize=size, markerfacecolor=fill, markeredgewidth=0.9, zorder=2)
        style: dict[str, Any] = {"color": "white" if has_tokens else plotting.BASELINE, "fontsize": plotting.SMALL}
        for name in names if numbered else ():
            number = str(named.index(name) + 1)
            axes.annotate(number, places[name], ha="center", va="center_baseline", zorder=3, **style)


def _draw_key(key: Axes, named: Sequence[str], features: Mapping[str, Row], n_rows: int) -> None:
    key.set(xlim=(0, 2), ylim=(n_rows, 0))
    for place, name in enumerate(named):
        at = place // n_rows, place % n_rows + 0.5
        key.text(*at, _key(place + 1, features[name]), fontsize=plotting.SMALL, va="center", parse_math=False)


def _key(number: int, one: Row) -> str:
    """Says who a numbered feature is, with as many of its tokens as its column holds."""
    who = f"{number}  {one['feature']}, {one['class'] or 'class unknown'}"
    labels = [figure_label(word, KEY_CHARACTERS) for word in (*one["tokens_more_a"], *one["tokens_more_b"])]
    for kept in range(min(KEY_WORDS, len(labels)), 0, -1):
        text = f"{who}: {', '.join(labels[:kept])}"
        if text_inches(text) <= KEY_INCHES:
            return text
    return who if labels else f"{who}: no tokens kept"


def _layer_axis(axes: Axes, places: Mapping[str, Place]) -> None:
    layers = sorted({place_of(name)[0] for name in places})
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_xlabel("layer")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    heights = [height for _, height in places.values()]
    axes.set(xlim=(-0.4, len(layers) - 0.6), ylim=(min(heights) - 0.8, max(heights) + 0.8))


def _legend(drawn: Sequence[Strength], nodes: Sequence[Row], classes: Sequence[str]) -> list[Line2D]:
    node: dict[str, Any] = {"linestyle": "none", "markersize": 5}
    of_class = {one["class"] for one in nodes}
    handles = [
        Line2D([], [], **node, **_look(name, classes), label=f"more active on {name}")
        for name in classes
        if name in of_class
    ]
    if of_class - set(classes):
        handles.append(Line2D([], [], **node, **_look(None, classes), label="class unknown"))
    if any(not one["has_tokens"] for one in nodes):
        hollow: dict[str, Any] = {"marker": "o", "color": plotting.NEUTRAL, "markerfacecolor": "white"}
        handles.append(Line2D([], [], **node, **hollow, label="open: no tokens kept"))
    for positive, name in ((True, "raises"), (False, "lowers")):
        if any(one.positive is positive for one in drawn):
            style = "solid" if positive else DASHES
            handles.append(Line2D([], [], color=plotting.BASELINE, linestyle=style, label=name))
    if any(one.label != "computation" for one in drawn):
        handles.append(Line2D([], [], color=plotting.FAINT, label="persistence"))
    return handles


def _tested(edges: Sequence[Row]) -> int:
    return sum(bool(edge["tested"]) for edge in edges)


def _caption(edges: Sequence[Row], drawn: Sequence[Strength], places: Mapping[str, Place], named: Sequence[str]) -> str:
    n_validated = sum(edge["validated"] for edge in edges)
    which = "" if len(drawn) == n_validated else f"the {len(drawn):,} strongest of "
    key = "Numbered: all" if len(named) == len(places) else f"Numbered: {len(named)} with many edges"
    widest = max(one.size for one in drawn)
    return (
        f"n = {which}{n_validated:,} validated edges (of {_tested(edges):,} tested) between {len(places):,} features. "
        f"Width: effect, the widest {widest:.2g} standard deviations of the target. {key}; tokens: those kept, patch "
        "against patch."
    )
