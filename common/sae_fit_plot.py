"""How well the SAEs fit, by layer: the plot beside `sae_fit.json` (phases 1.0 and 7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from common import plotting
from common.plot_parts import layer_axis, percent, say
from common.runs.fit_gate import NEIGHBOURS

LOG_FROM = 20.0  # largest over smallest, from which on an axis is logarithmic
SITE: dict[str, Any] = {"color": plotting.BASELINE, "marker": "o", "markersize": 3, "linewidth": 0.9}
BESIDE: dict[int, dict[str, Any]] = {
    -1: {**SITE, "color": plotting.CONTROL, "marker": "v", "linestyle": "--"},
    1: {**SITE, "color": plotting.CONTROL, "marker": "^", "linestyle": ":"},
}


def sae_fit_figure(report: Mapping[str, Any]) -> Figure:
    """Draws `sae_fit.json`: variance unexplained at the site and one block to either side, L0 and dead features.

    The neighbouring sites are the control: an SAE that fits there as well is read at the wrong site. A layer without a
    figure leaves a gap; the report's `note`, where it has one, stands in the caption.
    """
    layers = report["layers"]
    with plotting.figure(plotting.COLUMN, 4.3, rows=3, sharex=True, height_ratios=[2.2, 1, 1]) as (made, panels):
        if layers:
            _unexplained(panels[0], layers)
            _one(panels[1], layers, "mean_l0", least=1)
            _one(panels[2], layers, "dead_share", least=0.05)
            layer_axis(panels[2], [entry["layer"] for entry in layers])
        else:
            say(panels[0], "no layer was measured")
        for axes, name in zip(panels, ("variance\nunexplained", "mean L0\n(features)", "dead\nfeatures"), strict=True):
            axes.set_ylabel(name)
        percent(panels[2].yaxis)
        made.align_ylabels(panels)
        made.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, handlelength=2)
        plotting.caption(made, f"{_sizes(report)}{_note(report)}")
    return made


def _unexplained(axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    at = [entry["layer"] for entry in layers]
    drawn = [_number(entry["fraction_unexplained"]) for entry in layers]
    axes.plot(at, drawn, **SITE, zorder=3, label="declared site")
    for offset, name in NEIGHBOURS.items():
        beside = [_beside(entry, offset) for entry in layers]
        axes.plot(at, beside, **BESIDE[offset], label=name)
        drawn = [*drawn, *beside]
    known = np.array([one for one in drawn if np.isfinite(one)])
    if not len(known):
        say(axes, next(entry["reason"] for entry in layers))
        axes.set_ylim(0, 1)
    elif known.min() > 0 and known.max() > LOG_FROM * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(bottom=0)


def _one(axes: Axes, layers: Sequence[Mapping[str, Any]], key: str, least: float) -> None:
    """Draws one figure by layer, from 0 up to at least `least`, so that next to nothing does not fill the panel."""
    values = [_number(entry[key]) for entry in layers]
    axes.plot([entry["layer"] for entry in layers], values, **SITE)
    top = np.nanmax([least, *values])
    axes.set_ylim(-0.05 * top, 1.15 * top)


def _beside(entry: Mapping[str, Any], offset: int) -> float:
    found = [one["fraction_unexplained"] for one in entry["neighbours"] if one["offset"] == offset]
    return _number(found[0]) if found else np.nan


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _sizes(report: Mapping[str, Any]) -> str:
    tokens = sorted({entry["n_tokens"] for entry in report["layers"]})
    n_tokens = " to ".join(f"{n:,}" for n in dict.fromkeys((*tokens[:1], *tokens[-1:]))) or "0"
    left_out = report.get("n_problems_left_out") or 0
    besides = f" ({left_out:,} left out)" if left_out else ""
    n = f"n = {n_tokens} prompt tokens (all but BOS) of {report['n_problems']:,} problems{besides}."
    return f"{n} Unexplained: 1 is what the mean alone leaves; dead: fires on none of these tokens."


def _note(report: Mapping[str, Any]) -> str:
    note = report.get("note", "")
    return f" {note[:1].upper()}{note[1:]}." if note else ""
