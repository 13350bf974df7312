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
from matplotlib.ticker import FuncFormatter, MaxNLocator

from common import plotting
from common.conditions import CONTROLS, RANDOM_DIRECTION, RANDOM_FEATURE
from common.statistics.permutation import Direction
from common.statistics.steering import share

COLOUR: dict[Direction, str] = {"correct": plotting.CORRECT, "incorrect": plotting.INCORRECT}
MARKER: dict[Direction, str] = {"correct": "o", "incorrect": "s"}
NAMES = {RANDOM_FEATURE: "random features", RANDOM_DIRECTION: "random directions"}
CONTROL_MARKER = {RANDOM_FEATURE: "o", RANDOM_DIRECTION: "^"}
INTERVALS = "Bars: 95 % Wilson intervals."
READING = " Dots: controls; line: the feature on the same problems. p = (1 + at least as good)/(1 + controls)."
MARGIN = 0.08  # of the drawn range, left free at either end
LEAST_RANGE = 0.05  # so that one problem among hundreds does not fill a panel
LANE = 0.8  # width of a lane of dots, where 1 is the distance of lanes
APART = 0.09  # of a lane, between two dots of the same height


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
    height = 0.9 + 2.0 * len(effects)
    with plotting.figure(plotting.DOUBLE, height, rows=len(effects), columns=3, squeeze=False) as (made, panels):
        for row, (direction, of) in zip(panels, effects.items(), strict=True):
            for axes, measure in zip(row, MEASURES, strict=True):
                _effect_panel(axes, direction, of, measure, noise_floor)
            for axes, part in zip(row, _feature(direction, of), strict=True):
                axes.set_title(part, loc="left", color=COLOUR[direction])
        handles = _effect_legend(effects, noise_floor)
        made.legend(handles=handles, loc="outside upper left", ncols=3 if len(handles) > 4 else 4)
        plotting.caption(made, f"{_sizes(effects)} {_control_sizes(effects)} {INTERVALS}")
    return made


def controls_figure(effects: Mapping[Direction, Mapping[str, Any]]) -> Figure:
    """Draws the primary outcome of every control, a lane of dots a kind, and the target's as a line; ranks and p.

    Every dot and line counts problems among those that all controls share.
    """
    height = 1.3 + 1.1 * len(effects)
    with plotting.figure(plotting.DOUBLE, height, rows=len(effects), squeeze=False) as (made, panels):
        for axes, (direction, of) in zip(panels[:, 0], effects.items(), strict=True):
            axes.set_title(f"{', '.join(_feature(direction, of))}\n{_rank(of)}", loc="left", color=COLOUR[direction])
            axes.set_xlabel(f"{of['primary_outcome']} (problems)")
            if of["controls"]["rank"]["n_controls"]:
                _control_lanes(axes, direction, of["controls"])
            else:
                say(axes, "no controls were run")
                axes.set(xticks=[], yticks=[])
        ran = any(of["controls"]["rank"]["n_controls"] for of in effects.values())
        plotting.caption(made, f"{_sizes(effects)} {_control_sizes(effects)}{READING if ran else ''}")
    return made


def difficulty_figure(effects: Mapping[Direction, Mapping[str, Any]]) -> Figure:
    """Draws correction and corruption by cyclomatic complexity of the reference solution, with intervals and n."""
    with plotting.figure(plotting.DOUBLE, 2.9, columns=len(effects), squeeze=False, sharey=True) as (made, panels):
        for axes, (direction, of) in zip(panels[0], effects.items(), strict=True):
            name, *rest = _feature(direction, of)
            axes.set_title(f"{name}\n{', '.join(rest)}", loc="left", color=COLOUR[direction])
            _difficulty_panel(axes, of["by_difficulty"])
        panels[0, 0].set_ylabel("share of the group")
        made.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        plotting.caption(
            made, f"{_sizes(effects)} Groups by cyclomatic complexity of the reference solution. {INTERVALS}"
        )
    return made


def say(axes: Axes, reason: str) -> None:
    """Writes `reason` in the middle of a panel in which nothing can be drawn."""
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, reason, color=plotting.NEUTRAL, bbox=box, **place)
    axes.grid(visible=False)


def ends(shares: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns values, lower and upper ends of shares, each of shape (n_shares,), nan where there is none."""
    values, low, high = (
        np.array([np.nan if one[end] is None else one[end] for one in shares], dtype=np.float64)
        for end in ("value", "low", "high")
    )
    return values, low, high


def percent(axis: Any) -> None:
    """Labels an axis of shares in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))


def merged(of: Mapping[str, str]) -> str:
    """Returns a sentence of what holds for each name; what holds for all alike is said once, without names."""
    parts = [f"{name}: {text}" for name, text in of.items()]
    sentence = next(iter(of.values())) if len(set(of.values())) == 1 else "; ".join(parts)
    return f"{sentence}." if sentence.startswith("n =") else f"{sentence[:1].upper()}{sentence[1:]}."


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


def _effect_panel(
    axes: Axes, direction: Direction, of: Mapping[str, Any], measure: Measure, noise_floor: Mapping[str, Any] | None
) -> None:
    own = _share(of["effect"], measure)
    axes.set_ylabel(f"{measure.name}\n({own['numerator']:,} of {own['denominator']:,} {measure.of})")
    if own["value"] is None:
        say(axes, own["reason"])
        axes.set(xticks=[], yticks=[])
        return
    lanes, drawn = _lanes(of, measure), [own["value"], own["low"], own["high"]]
    axes.vlines(0, own["low"], own["high"], color=COLOUR[direction])
    axes.plot(0, own["value"], MARKER[direction], color=COLOUR[direction])
    for values, _ in lanes.values():
        drawn += values
    floor = None if noise_floor is None else _share(noise_floor, measure)["value"]
    if floor is not None:
        axes.axhline(floor, color=plotting.BASELINE, linestyle="--", linewidth=0.9, zorder=1)
        drawn.append(floor)
    low, high = _limits(drawn)
    for lane, (kind, (values, same)) in enumerate(lanes.items(), start=1):
        if same is not None:
            axes.plot(lane, same, MARKER[direction], color=COLOUR[direction], fillstyle="none")
        else:
            at = lane + np.array(spread(values, (high - low) / 40))
            axes.plot(at, values, CONTROL_MARKER[kind], **_DOT)
    axes.set(xlim=(-0.6, len(lanes) + 0.6), ylim=(low, high), xticks=[])
    percent(axes.yaxis)
    if measure.key == "corruption":
        _preservation_axis(axes)


_DOT: dict[str, Any] = {"color": plotting.CONTROL, "markersize": 3, "alpha": 0.75, "markeredgewidth": 0}


def _lanes(of: Mapping[str, Any], measure: Measure) -> dict[str, tuple[list[float], float | None]]:
    """Returns, per lane right of the target: its dots, and the target's height where the lane is its own."""
    controls = of["controls"]
    lanes: dict[str, tuple[list[float], float | None]] = {}
    own = _share(controls["target"], measure)["value"]
    if controls["rank"]["n_controls"] and not controls["all_problems"] and own is not None:
        lanes["same"] = ([own], own)
    for kind in CONTROLS:
        shares = [_share(one["effect"], measure)["value"] for one in controls[kind]["conditions"]]
        values = [value for value in shares if value is not None]
        if values:
            lanes[kind] = (values, None)
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
        labels.append(f"{NAMES[kind]}\n{_rank_of(of['rank'])}")
    axes.axvline(controls["outcome"], color=COLOUR[direction], linewidth=1.6, zorder=1)
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


def _feature(direction: Direction, of: Mapping[str, Any]) -> tuple[str, str, str]:
    feature = of["feature"]
    where = f"layer {feature['layer']}, feature {feature['index']:,}"
    return f"{direction}-preferring", where, f"coefficient {of['coefficient']:g}"


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
