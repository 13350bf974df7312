"""Plots of steering effects, of the base model as of the instruction-tuned one.

They draw the dictionaries of `common.steering_effects.direction_effects`, one a direction. A figure that could not be
computed leaves a gap, and a panel without anything to draw says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common import plotting
from common.conditions import CONTROLS, RANDOM_DIRECTION, RANDOM_FEATURE
from common.plot_parts import ends, head, merged, percent, say
from common.statistics.permutation import Direction
from common.statistics.steering import share

NAMES = {RANDOM_FEATURE: "random features", RANDOM_DIRECTION: "random directions"}
CONTROL_MARKER = {RANDOM_FEATURE: plotting.FEATURES_MARKER, RANDOM_DIRECTION: plotting.DIRECTIONS_MARKER}
INTERVALS = "Bars: 95 % Wilson intervals."
READING = " Dots: controls; line: the feature on the same problems. p = (1 + at least as good)/(1 + controls)."
MARGIN = 0.08  # of the drawn range, left free at either end
LEAST_RANGE = 0.05  # so that one problem among hundreds does not fill a panel
COLUMN_GAP = 0.06  # of a panel, so that the label of preservation is seen to belong to the panel at its left
LANE = 0.8  # width of a lane of dots, where 1 is the distance of lanes
APART = 0.09  # of a lane, between two dots of the same height
COUNTABLE = 9  # dots of the same height; of more, the number stands beside them


class Measure(NamedTuple):
    """A share that is shown: its name, what it is a share of, and where it stands in an effect."""

    name: str
    of: str
    key: str


MEASURES = (
    Measure("correction", "initially failing", "correction"),
    Measure("corruption", "initially passing", "corruption"),
    Measure("breaks that still parse", "initially passing", "breaks_that_parse"),
)


def effects_figure(effects: Mapping[Direction, Mapping[str, Any]], noise_floor: Mapping[str, Any] | None) -> Figure:
    """Draws correction, corruption with preservation, its complement, and breaks that still parse, beside controls.

    A row of panels a direction. The filled marker is the feature on all problems; the open one, where the controls ran
    on fewer, the feature on theirs; each control is a dot; `noise_floor` (the flips of the zero arm, or None) a line.
    """
    height, grid = 0.9 + 2.0 * len(effects), {"squeeze": False, "gridspec_kw": {"wspace": COLUMN_GAP}}
    with plotting.figure(plotting.DOUBLE, height, len(effects), len(MEASURES), **grid) as (made, panels):
        for row, (direction, of) in zip(panels, effects.items(), strict=True):
            for axes, measure in zip(row, MEASURES, strict=True):
                _effect_panel(axes, direction, of, measure, noise_floor)
            head(row[0], direction, _feature(direction, of))
        handles = _effect_legend(effects, noise_floor)
        made.legend(handles=handles, loc="outside upper left", ncols=3 if len(handles) > 4 else 4)
        plotting.caption(made, f"{_sizes(effects)} {_control_sizes(effects)} {INTERVALS}{_numbers(panels)}")
    return made


def controls_figure(effects: Mapping[Direction, Mapping[str, Any]]) -> Figure:
    """Draws the primary outcome of every control, a lane of dots a kind, and the target's as a line; ranks and p.

    Every dot and line counts problems among those that all controls share.
    """
    height = 1.3 + 1.1 * len(effects)
    with plotting.figure(plotting.DOUBLE, height, rows=len(effects), squeeze=False) as (made, panels):
        for axes, (direction, of) in zip(panels[:, 0], effects.items(), strict=True):
            head(axes, direction, f"{_feature(direction, of)}\n{_rank(of)}")
            axes.set_xlabel(f"{of['primary_outcome']} (problems)")
            if of["controls"]["rank"]["n_controls"]:
                _control_lanes(axes, direction, of["controls"])
            else:
                say(axes, "no controls were run")
                axes.set(xticks=[], yticks=[])
        ran = any(of["controls"]["rank"]["n_controls"] for of in effects.values())
        reading = f"{READING if ran else ''}{_numbers(panels)}"
        plotting.caption(made, f"{_sizes(effects)} {_control_sizes(effects)}{reading}")
    return made


def difficulty_figure(effects: Mapping[Direction, Mapping[str, Any]]) -> Figure:
    """Draws correction and corruption by cyclomatic complexity of the reference solution, with intervals and n."""
    with plotting.figure(plotting.DOUBLE, 2.9, columns=len(effects), squeeze=False, sharey=True) as (made, panels):
        for axes, (direction, of) in zip(panels[0], effects.items(), strict=True):
            head(axes, direction, _feature(direction, of).replace(": ", "\n"))
            _difficulty_panel(axes, of["by_difficulty"])
        panels[0, 0].set_ylabel("share of the group")
        made.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        plotting.caption(
            made, f"{_sizes(effects)} Groups by cyclomatic complexity of the reference solution. {INTERVALS}"
        )
    return made


def spread(values: Sequence[float], cell: float) -> list[float]:
    """Returns how far to shift each dot sideways, within half a lane, so that those of equal height do not cover.

    Values count as equal height within a `cell`; the order of equal values is kept, from left to right.
    """
    cells = [round(value / cell) for value in values]
    counts, seen, shifts = Counter(cells), Counter[int](), []
    for at in cells:
        step = min(APART, LANE / counts[at])
        shifts.append(step * (seen[at] - (counts[at] - 1) / 2))
        seen[at] += 1
    return shifts


def tallies(values: Sequence[float], cell: float) -> dict[float, int]:
    """Returns how many dots there are where they lie too close to be counted, by their mean height."""
    stacks: dict[int, list[float]] = {}
    for value in values:
        stacks.setdefault(round(value / cell), []).append(value)
    return {float(np.mean(stack)): len(stack) for stack in stacks.values() if len(stack) > COUNTABLE}


def _numbers(panels: np.ndarray) -> str:
    """Says what the numbers in the panels are, where there are any."""
    there = any(text.get_text().isdigit() for axes in panels.flat for text in axes.texts)
    return " Numbers: how many controls lie there." if there else ""


def _effect_panel(
    axes: Axes, direction: Direction, of: Mapping[str, Any], measure: Measure, noise_floor: Mapping[str, Any] | None
) -> None:
    own = _share(of["effect"], measure)
    axes.set_ylabel(f"{measure.name}\n({own['numerator']:,} of {own['denominator']:,} {measure.of})")
    if own["value"] is None:
        say(axes, own["reason"])
        axes.set(xticks=[], yticks=[])
        return
    lanes, drawn = _lanes(of, measure), _target(axes, direction, 0, own, "full")
    for kind, values in lanes.items():
        same = _share(of["controls"]["target"], measure)
        drawn += values if kind in CONTROLS else _target(axes, direction, 1, same, "none")
    floor = None if noise_floor is None else _share(noise_floor, measure)["value"]
    if floor is not None:
        axes.axhline(floor, color=plotting.BASELINE, linestyle="--", linewidth=0.9, zorder=1)
        drawn.append(floor)
    low, high = _limits(drawn)
    for lane, (kind, values) in enumerate(lanes.items(), start=1):
        if kind in CONTROLS:
            at = lane + np.array(spread(values, (high - low) / 40))
            axes.plot(at, values, CONTROL_MARKER[kind], **_DOT)
            for value, n in tallies(values, (high - low) / 40).items():
                axes.annotate(f"{n}", (lane, value), ha="center", va="bottom", **_tally(0, 3))
    axes.set(xlim=(-0.6, len(lanes) + 0.6), ylim=(low, high), xticks=[])
    percent(axes.yaxis)
    if measure.key == "corruption":
        _preservation_axis(axes)


_DOT: dict[str, Any] = {"color": plotting.CONTROL, "markersize": 3, "markeredgewidth": 0}


def _tally(right: float, up: float) -> dict[str, Any]:
    style = {"color": plotting.NEUTRAL, "fontsize": plotting.SMALL}
    return {"xytext": (right, up), "textcoords": "offset points", **style}


def _target(axes: Axes, direction: Direction, at: float, share: Mapping[str, Any], fill: Any) -> list[float]:
    """Draws a share of the feature with its interval; returns the value and both ends."""
    colour = plotting.COLOUR[direction]
    axes.vlines(at, share["low"], share["high"], color=colour)
    axes.plot(at, share["value"], plotting.MARKER[direction], color=colour, fillstyle=fill)
    return [share["value"], share["low"], share["high"]]


def _lanes(of: Mapping[str, Any], measure: Measure) -> dict[str, list[float]]:
    """Returns the dots of each lane right of the target; the lane `same` is the target's own, on fewer problems."""
    controls = of["controls"]
    lanes: dict[str, list[float]] = {}
    own = _share(controls["target"], measure)["value"]
    if controls["rank"]["n_controls"] and not controls["all_problems"] and own is not None:
        lanes["same"] = [own]
    for kind in CONTROLS:
        shares = [_share(one["effect"], measure)["value"] for one in controls[kind]["conditions"]]
        values = [value for value in shares if value is not None]
        if values:
            lanes[kind] = values
    return lanes


def _share(effect: Mapping[str, Any], measure: Measure) -> Mapping[str, Any]:
    if measure.key == "breaks_that_parse":
        return share(effect["breaks_that_parse"], effect["n_passing"], f"{measure.of} problems").as_dict()
    return effect[measure.key]


def _limits(drawn: Iterable[float]) -> tuple[float, float]:
    """Returns limits around shares: from 0 up to where the largest stands, never more than 0 to 1 and a margin."""
    high = max(*drawn, LEAST_RANGE)
    return -MARGIN * high / 2, high * (1 + MARGIN)


def _preservation_axis(axes: Axes) -> None:
    right = axes.secondary_yaxis("right", functions=(_complement, _complement))
    right.set_ylabel("preservation")
    percent(right.yaxis)


def _complement(value: Any) -> Any:
    return 1 - value


def _effect_legend(
    effects: Mapping[Direction, Mapping[str, Any]], noise_floor: Mapping[str, Any] | None
) -> list[Line2D]:
    of_all = list(effects.values())
    style: dict[str, Any] = {"color": plotting.NEUTRAL, "linestyle": "none"}
    handles = [Line2D([], [], marker="o", **style, label="feature, all problems")]
    if any(of["controls"]["rank"]["n_controls"] and not of["controls"]["all_problems"] for of in of_all):
        handles.append(Line2D([], [], marker="o", fillstyle="none", **style, label="feature, the controls' problems"))
    for kind in CONTROLS:
        if any(of["controls"][kind]["conditions"] for of in of_all):
            handles.append(Line2D([], [], linestyle="none", marker=CONTROL_MARKER[kind], **_DOT, label=NAMES[kind]))
    if noise_floor is not None:
        line: dict[str, Any] = {"color": plotting.BASELINE, "linestyle": "--", "linewidth": 0.9}
        handles.append(Line2D([], [], **line, label="coefficient 0 (noise floor)"))
    return handles


def _control_lanes(axes: Axes, direction: Direction, controls: Mapping[str, Any]) -> None:
    labels = []
    for lane, kind in enumerate(CONTROLS):
        of = controls[kind]
        outcomes = [one["outcome"] for one in of["conditions"]]
        axes.plot(outcomes, lane + np.array(spread(outcomes, 1)), CONTROL_MARKER[kind], **_DOT)
        for value, n in tallies(outcomes, 1).items():
            axes.annotate(f"{n}", (value, lane), ha="left", va="center", **_tally(4, 0))
        labels.append(f"{NAMES[kind]}\n{_rank_of(of['rank'])}")
    axes.axvline(controls["outcome"], color=plotting.COLOUR[direction], linewidth=1.6, zorder=1)
    axes.set_yticks(range(len(CONTROLS)), labels)
    axes.set_ylim(len(CONTROLS) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(visible=False, axis="y")
    every = [controls["outcome"], 0, *(one["outcome"] for kind in CONTROLS for one in controls[kind]["conditions"])]
    room = MARGIN * max(max(every) - min(every), 5)
    axes.set_xlim(min(every) - room, max(every) + room)


def _rank(of: Mapping[str, Any]) -> str:
    outcome = f"{of['primary_outcome']}: {of['controls']['outcome']}"
    rank = of["controls"]["rank"]
    return f"{outcome}; rank p = {rank['p']:.2g}, the worse of both kinds" if rank["n_controls"] else outcome


def _rank_of(rank: Mapping[str, Any]) -> str:
    if rank["p"] is None:
        return "none were run"
    return f"{rank['n_at_least']} of {rank['n_controls']} at least as good, p = {rank['p']:.2g}"


def _difficulty_panel(axes: Axes, groups: Sequence[Mapping[str, Any]]) -> None:
    for key, colour, marker, of, shift in (
        ("correction", plotting.CORRECT, "o", "failing", -0.12),
        ("corruption", plotting.INCORRECT, "s", "passing", 0.12),
    ):
        values, low, high = ends([group[key] for group in groups])
        at = np.arange(len(groups)) + shift
        axes.vlines(at, low, high, color=colour)
        axes.plot(at, values, marker, color=colour, label=f"{key} (of initially {of})")
    names = [group["group"].replace("-", "–") for group in groups]
    counts = [f"{group['n_failing']:,} failing\n{group['n_passing']:,} passing" for group in groups]
    axes.set_xticks(range(len(groups)), [f"{name}\n{count}" for name, count in zip(names, counts, strict=True)])
    axes.set(xlim=(-0.5, len(groups) - 0.5), ylim=(-0.03, 1.03))
    axes.set_xlabel("cyclomatic complexity")
    axes.grid(visible=False, axis="x")
    percent(axes.yaxis)


def _feature(direction: Direction, of: Mapping[str, Any]) -> str:
    feature = of["feature"]
    where = f"layer {feature['layer']}, feature {feature['index']:,}"
    return f"{direction}-preferring: {where}, coefficient {of['coefficient']:g}"


def _sizes(effects: Mapping[Direction, Mapping[str, Any]]) -> str:
    return merged({f"{name} direction": f"n = {of['effect']['n']:,} problems" for name, of in effects.items()})


def _control_sizes(effects: Mapping[Direction, Mapping[str, Any]]) -> str:
    return merged({f"{name} direction": _control_size(of["controls"]) for name, of in effects.items()})


def _control_size(controls: Mapping[str, Any]) -> str:
    rank = controls["rank"]
    if not rank["n_controls"]:
        return "no controls"
    n_controls = sum(len(controls[kind]["conditions"]) for kind in CONTROLS)
    on = f"{n_controls} controls on n = {controls['n_problems']:,} problems"
    return f"{on} (smallest reachable p {rank['smallest_p']:.2g})"
