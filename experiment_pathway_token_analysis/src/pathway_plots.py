"""The plots of step 5: network, effect against prediction, edges by layer, log-odds of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common import plotting
from common.plot_parts import text_inches
from experiment_pathway_token_analysis.src.display import figure_label
from experiment_pathway_token_analysis.src.integration import Row, words_or_pieces
from experiment_pathway_token_analysis.src.network_plot import network_figure, note_figure

RASTER_ABOVE = 1_000  # points; more would make the SVG large
MAX_PANELS = 6
MAX_TOKENS = 8
LABEL_CHARACTERS = 14
MAX_COUNTED_LAYERS = 12
MAP_INCHES = 2.0  # of the heat map's width, for how large counts fit its cells
Z_95 = 1.959964


def write_plots(directory: Path, document: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> list[Path]:
    """Writes every plot as PNG and SVG and returns the paths."""
    metadata, classes = document["metadata"], document["metadata"]["classes"]
    scales = {one["feature"]: one["scale"] for one in tables["targets"] if one["scale"]}
    figures = {
        "network": network_figure(tables["edges"], tables["features"], scales, classes),
        "effect_against_prediction": effect_figure(tables["edges"], scales, metadata["slopes"]),
        "edges_by_layer": layer_figure(tables["edges_by_layer"], metadata["n_layers"]),
        "token_log_odds": token_figure(tables["tokens"], metadata["token_metadata"]),
    }
    return [path for name, made in figures.items() for path in plotting.save(made, directory / name)]


def effect_figure(edges: Sequence[Row], scales: Mapping[str, float], slopes: tuple[float, float]) -> Figure:
    """Draws each tested edge's measured effect against what its gradient predicts, both in the target's deviations.

    `slopes` bound the measured over the predicted effect of a validated edge: the shaded wedge.
    """
    shown = [edge for edge in edges if edge["tested"] and scales.get(edge["target"])]
    if not shown:
        return note_figure("no edge was tested", f"n = 0 of {len(edges):,} edges were tested.")
    with plotting.figure(plotting.COLUMN, 3.5) as (made, axes):
        axes.set_xlabel("predicted by the gradient (SD of the target)")
        axes.set_ylabel("measured by replay (SD of the target)")
        scale = np.array([scales[edge["target"]] for edge in shown])
        predicted, measured, lowest, highest = (
            np.array([edge[name] for edge in shown], dtype=np.float64) / scale
            for name in ("predicted_delta", "mean_delta", "ci_low", "ci_high")
        )
        limit = 1.06 * float(np.nanmax(np.abs([predicted, measured, lowest, highest])))
        _wedge(axes, limit, slopes)
        groups = np.array([_group(edge) for edge in shown])
        for name, style in _GROUPS.items():
            own = groups == name
            if own.any():
                label, raster = f"{name} ({own.sum():,})", len(shown) > RASTER_ABOVE
                axes.scatter(predicted[own], measured[own], label=label, rasterized=raster, **style)
        bars: dict[str, Any] = {"color": plotting.NEUTRAL, "linewidth": 0.5, "alpha": 0.6, "zorder": 1.5}
        axes.vlines(predicted, lowest, highest, rasterized=len(shown) > RASTER_ABOVE, **bars)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        made.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, columnspacing=1.0)
        low, high = slopes
        plotting.caption(
            made,
            f"n = {len(shown):,} tested edges, each a mean over its prompts with a 95 % interval; positive: target and "
            f"source move alike. Line: as predicted; shaded: slopes {low:g} to {high:g}.",
        )
    return made


_GROUPS: dict[str, dict[str, Any]] = {
    "not validated": {"s": 6, "color": plotting.NEUTRAL, "alpha": 0.35, "linewidth": 0, "zorder": 2},
    "persistence": {"s": 9, "facecolor": "white", "edgecolor": plotting.BASELINE, "linewidth": 0.7, "zorder": 3},
    "computation": {"s": 8, "color": plotting.BASELINE, "alpha": 0.8, "linewidth": 0, "zorder": 4},
}


def _group(edge: Row) -> str:
    return edge["label"] if edge["validated"] else "not validated"


def _wedge(axes: Axes, limit: float, slopes: tuple[float, float]) -> None:
    x = np.array([-limit, 0.0, limit])
    axes.fill_between(x, slopes[0] * x, slopes[1] * x, color=plotting.NEUTRAL, alpha=0.14, linewidth=0, zorder=0)
    axes.plot([-limit, limit], [-limit, limit], color=plotting.NEUTRAL, linewidth=0.7, zorder=1)


def layer_figure(pairs: Sequence[Row], n_layers: int) -> Figure:
    """Draws how many edges were validated between each pair of layers; tested pairs without any are grey."""
    counts, tested = np.zeros((n_layers, n_layers)), np.zeros((n_layers, n_layers), dtype=bool)
    for row in pairs:
        place = row["target_layer"], row["source_layer"]
        counts[place], tested[place] = row["n_validated"], row["n_tested"] > 0
    n_validated, n_tested = int(counts.sum()), sum(row["n_tested"] for row in pairs)
    if not n_tested:
        return note_figure("no edge was tested", "n = 0 edges were tested.")
    with plotting.figure(plotting.COLUMN, 3.3) as (made, axes):
        axes.set_xlabel("layer of the source")
        axes.set_ylabel("layer of the target")
        axes.grid(visible=False)
        axes.imshow(np.where(tested, 0.0, np.nan), cmap="Greys", vmin=-1, vmax=8, origin="lower")
        if n_validated:
            image = axes.imshow(
                np.where(counts > 0, counts, np.nan),
                cmap=colormaps["cividis_r"],
                vmin=1,
                vmax=max(2, counts.max()),
                origin="lower",
            )
            made.colorbar(
                image, ax=axes, label="validated edges", shrink=0.8, aspect=25, pad=0.03
            ).ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        widest = n_layers * text_inches(f"{int(counts.max()):,}")
        if n_layers <= MAX_COUNTED_LAYERS and widest <= MAP_INCHES:
            _write_counts(axes, counts, tested)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        plotting.caption(
            made,
            f"n = {n_validated:,} validated of {n_tested:,} tested edges. Grey: tested, none validated; white: none "
            "tested.",
        )
    return made


def _write_counts(axes: Axes, counts: np.ndarray, tested: np.ndarray) -> None:
    for target, source in zip(*np.nonzero(tested), strict=True):
        count = int(counts[target, source])
        ink = "white" if count > 0.6 * max(2, counts.max()) else plotting.BASELINE
        axes.text(source, target, f"{count:,}", ha="center", va="center", fontsize=plotting.SMALL, color=ink)


def token_figure(tokens: Sequence[Row], metadata: Mapping[str, Any]) -> Figure:
    """Draws the strongest kept tokens, patch against patch, a panel a feature and prompt class."""
    sides = {one["name"]: one for one in metadata["contrasts"] if one["primary"]}
    panels = _panels([row for row in tokens if row["contrast"] in sides and row["level"] != "kind"])
    if not panels:
        note = f"no token was kept (q ≤ {metadata['settings']['alpha']:g}, patch against patch)"
        return note_figure(note, _tested_words(metadata))
    columns, rows = min(3, len(panels)), -(-len(panels) // 3)
    lines = max(4, *(len(own) for own in panels.values()))
    width, height = plotting.COLUMN if columns == 1 else plotting.DOUBLE, 1.1 + rows * (0.55 + 0.15 * lines)
    with plotting.figure(width, height, rows=rows, columns=columns, squeeze=False) as (made, grid):
        cells = list(grid.ravel())
        for axes, ((feature, contrast), own) in zip(cells, panels.items(), strict=False):
            _token_panel(axes, own, sides[contrast])
            prompts = sides[contrast]["prompt_class"]
            axes.set_title(
                f"{feature}, {prompts} prompts\n(n = {own[0]['n_a']:,} and {own[0]['n_b']:,} responses)", loc="left"
            )
        for axes in cells[len(panels) :]:
            axes.set_axis_off()
        for axes in cells[max(0, len(panels) - columns) : len(panels)]:
            axes.set_xlabel("log-odds")
        made.legend(handles=_sides(metadata["classes"]), loc="outside upper left", ncols=min(2, columns))
        n_panels = _n_panels(tokens, sides)
        plotting.caption(
            made,
            f"{_tested_words(metadata)} Shown: {len(panels)} of {n_panels} pairs of a feature and a prompt "
            f"class with kept tokens (the strongest), at most {MAX_TOKENS} each. Bars: "
            "±1.96 SD, scaled to the spread over shuffles, not corrected for many tokens.",
        )
    return made


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Returns the rows of each panel, strongest first: a feature's words on one prompt class, or its pieces."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in words_or_pieces(rows, ("feature", "contrast")):
        grouped.setdefault((row["feature"], row["contrast"]), []).append(row)
    chosen = sorted(grouped, key=lambda key: (-abs(grouped[key][0]["permutation_z"]), key))[:MAX_PANELS]
    return {key: grouped[key][:MAX_TOKENS] for key in chosen}


def _n_panels(tokens: Sequence[Row], sides: Mapping[str, Any]) -> int:
    return len(
        {(row["feature"], row["contrast"]) for row in tokens if row["contrast"] in sides and row["level"] != "kind"}
    )


def _sides(classes: Sequence[str]) -> list[Line2D]:
    style: dict[str, Any] = {"linestyle": "none"}
    return [
        Line2D([], [], **style, marker=marker, color=colour, label=f"more under the {name} patch")
        for name, (colour, marker) in zip(classes, _SIDES, strict=True)
    ]


_SIDES = ((plotting.CORRECT, "o"), (plotting.INCORRECT, "s"))


def _token_panel(axes: Axes, rows: Sequence[Row], contrast: Mapping[str, Any]) -> None:
    ordered = sorted(rows, key=lambda row: row["log_odds"])
    for place, row in enumerate(ordered):
        towards_first = row["direction"] == contrast["condition_a"]
        colour, marker = _SIDES[0 if towards_first else 1]
        half = Z_95 * abs(row["log_odds"] / row["permutation_z"])
        axes.hlines(place, row["log_odds"] - half, row["log_odds"] + half, color=colour)
        axes.plot(row["log_odds"], place, marker, color=colour)
    axes.axvline(0, color=plotting.BASELINE, linewidth=0.6)
    axes.set_yticks(range(len(ordered)), [figure_label(row["token"], LABEL_CHARACTERS) for row in ordered])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(-0.6, max(len(ordered), 3) - 0.4)
    axes.grid(visible=False, axis="y")


def _tested_words(metadata: Mapping[str, Any]) -> str:
    primary = [one for one in metadata["contrasts"] if one["primary"]]
    tested = ", ".join(
        f"{one['n_features_with_hits']} of n = {one['n_tested']} on {one['prompt_class']} prompts" for one in primary
    )
    return f"Features with kept tokens: {tested}."
