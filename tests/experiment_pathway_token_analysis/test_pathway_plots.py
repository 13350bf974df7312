from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from common import plotting
from experiment_pathway_token_analysis.src.network_plot import MAX_EDGES, MAX_NAMED, network_figure
from experiment_pathway_token_analysis.src.pathway_plots import (
    MAX_PANELS,
    MAX_TOKENS,
    effect_figure,
    layer_figure,
    token_figure,
)
from tests.common.figures import caption_of, crowded

pytestmark = pytest.mark.unit

CLASSES = ("correct", "incorrect")
WORDS = ("return", " $10", "\n\n", "\N{HEBREW LETTER ALEF}", "日", "==", "$x^2$", "\x07", "for i in range(n)", "if")


def graph(
    n_edges: int, n_layers: int, n_targets: int, seed: int = 1
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Validated edges among random features, as many again that were tested in vain, and the features."""
    random = np.random.default_rng(seed)
    targets = [f"L{1 + place % (n_layers - 1)}-{place}" for place in range(n_targets)]
    edges: dict[tuple[str, str], dict[str, Any]] = {}
    while len(edges) < 2 * n_edges:
        end = targets[random.integers(n_targets)]
        source = f"L{random.integers(int(end[1:].partition('-')[0]))}-{random.integers(60) + 1000}"
        if (source, end) in edges:
            continue
        size = float(random.normal())
        edges[source, end] = {
            "source": source,
            "target": end,
            "mean_delta": size,
            "ci_low": size - 0.1,
            "ci_high": size + 0.2,
            "predicted_delta": size * float(random.normal(1, 0.2)),
            "label": "persistence" if random.random() < 0.3 else "computation",
            "validated": len(edges) < n_edges,
            "tested": True,
        }
    features = [
        {
            "feature": name,
            "class": (*CLASSES, None)[place % 3],
            "has_tokens": place % 2 == 0,
            "tokens_more_a": [WORDS[place % len(WORDS)], WORDS[(place + 3) % len(WORDS)]] if place % 2 == 0 else [],
            "tokens_more_b": [],
        }
        for place, name in enumerate(sorted({end for pair in edges for end in pair}))
    ]
    return list(edges.values()), features


def numbered(made: Figure) -> int:
    return sum(text.get_text().isdigit() for text in made.axes[0].texts)


@pytest.mark.parametrize(("n_edges", "n_layers", "n_targets"), [(1, 2, 1), (10, 4, 4), (10, 26, 6), (60, 26, 20)])
def test_a_network_names_its_features_and_nothing_overlaps(n_edges: int, n_layers: int, n_targets: int) -> None:
    edges, features = graph(n_edges, n_layers, n_targets)
    made = network_figure(edges, features, {}, CLASSES)
    assert crowded(made) == []
    (lines,) = (one for one in made.axes[0].collections if isinstance(one, LineCollection))
    assert len(lines.get_segments()) == n_edges
    nodes = {end for one in edges if one["validated"] for end in (one["source"], one["target"])}
    assert numbered(made) == min(len(nodes), MAX_NAMED) == len(made.axes[1].texts)
    assert f"{n_edges} validated edges (of {2 * n_edges} tested) between {len(nodes)} features" in caption_of(made)


def test_a_large_network_stays_on_the_page_and_a_larger_one_shows_the_strongest() -> None:
    edges, features = graph(700, 26, 120)
    made = network_figure(edges, features, {}, CLASSES)
    (lines,) = (one for one in made.axes[0].collections if isinstance(one, LineCollection))
    assert len(lines.get_segments()) == MAX_EDGES and "the 500 strongest of 700" in caption_of(made).lower()
    assert made.get_figwidth() == plotting.DOUBLE and made.get_figheight() < 7.5
    assert [name for name in crowded(made) if "leaves" in name] == [] and numbered(made) == MAX_NAMED


def test_effects_are_divided_by_the_targets_deviation() -> None:
    edges, features = graph(1, 2, 1)
    size = abs(edges[0]["mean_delta"])
    made = network_figure(edges, features, {edges[0]["target"]: 0.5}, CLASSES)
    assert f"the widest {size / 0.5:.2g} standard deviations" in caption_of(made)


def test_raising_and_lowering_edges_and_classes_are_told_apart_without_colour() -> None:
    edges, features = graph(30, 5, 6)
    made = network_figure(edges, features, {}, CLASSES)
    (lines,) = (one for one in made.axes[0].collections if isinstance(one, LineCollection))
    assert {dashes is None for _, dashes in lines.get_linestyle()} == {True, False}  # solid and dashed
    legend = {text.get_text() for text in made.legends[0].get_texts()}
    assert legend >= {
        "raises",
        "lowers",
        "persistence",
        "more active on correct",
        "more active on incorrect",
        "class unknown",
    }
    assert {one["mean_delta"] > 0 for one in edges if one["validated"]} == {True, False}


@pytest.mark.parametrize(
    ("made", "note", "caption"),
    [
        (network_figure([], [], {}, CLASSES), "no edge was validated", "n = 0 tested edges, none validated"),
        (effect_figure([], {}, (0.5, 2.0)), "no edge was tested", "n = 0 of 0 edges"),
        (layer_figure([], 26), "no edge was tested", "n = 0 edges"),
    ],
)
def test_without_edges_a_note_stands_in_place_of_an_empty_figure(made: Figure, note: str, caption: str) -> None:
    assert [text.get_text() for text in made.axes[0].texts] == [note] and not made.axes[0].axison
    assert caption in caption_of(made)


def test_effect_against_prediction_shows_every_tested_edge_once() -> None:
    edges, _ = graph(40, 8, 6)
    edges.append({**edges[0], "tested": False})
    scales = {one["target"]: 0.5 for one in edges}
    made = effect_figure(edges, scales, (0.5, 2.0))
    points = np.concatenate(
        [
            np.asarray(one.get_offsets())
            for one in made.axes[0].collections
            if len(one.get_offsets()) > 1 or one.get_label()[0] != "_"
        ]
    )
    expected = [(one["predicted_delta"] / 0.5, one["mean_delta"] / 0.5) for one in edges[:-1]]
    assert sorted(map(tuple, points.round(9).tolist())) == sorted(map(tuple, np.array(expected).round(9).tolist()))
    assert "n = 80 tested edges" in caption_of(made) and crowded(made) == []
    low, high = made.axes[0].get_xlim()
    assert low == -high and high > np.abs(points).max()


def test_many_points_are_an_image_inside_the_drawing(tmp_path: Path) -> None:
    edges, _ = graph(1200, 20, 40)
    scales = {one["target"]: 1.0 for one in edges}
    made = effect_figure(edges, scales, (0.5, 2.0))
    paths = plotting.save(made, tmp_path / "effects")
    assert paths[1].stat().st_size < 300_000 and "<image" in paths[1].read_text()


def pairs(n_layers: int) -> list[dict[str, Any]]:
    return [
        {"source_layer": source, "target_layer": target, "n_tested": 3 + source, "n_validated": (source * target) % 4}
        for target in range(n_layers)
        for source in range(target)
    ]


@pytest.mark.parametrize("n_layers", [2, 4, 26, 32])
def test_the_heat_map_counts_validated_edges_of_earlier_on_later_layers(n_layers: int) -> None:
    rows = pairs(n_layers)
    made = layer_figure(rows, n_layers)
    assert crowded(made) == []
    n_validated, n_tested = (sum(row[name] for row in rows) for name in ("n_validated", "n_tested"))
    assert f"n = {n_validated:,} validated of {n_tested:,} tested" in caption_of(made)
    shown = np.asarray(made.axes[0].images[-1].get_array())
    assert shown.shape == (n_layers, n_layers)
    if n_validated:
        assert np.nansum(np.ma.filled(shown, np.nan)) == n_validated
        target, source = next((row["target_layer"], row["source_layer"]) for row in rows if row["n_validated"])
        assert shown[target, source] == (source * target) % 4


def metadata() -> dict[str, Any]:
    contrasts = [
        {
            "name": f"{name}_patch_against_patch",
            "primary": True,
            "prompt_class": name,
            "condition_a": "first",
            "n_features_with_hits": 4,
            "n_tested": 31,
        }
        for name in CLASSES
    ]
    return {"classes": list(CLASSES), "settings": {"alpha": 0.05}, "contrasts": contrasts}


def tokens(n_features: int, n_tokens: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(4)
    return [
        {
            "feature": f"L{10 + feature}-{12_345 + feature}",
            "contrast": f"{CLASSES[feature % 2]}_patch_against_patch",
            "level": "word",
            "token": word,
            "permutation_z": z,
            "log_odds": z / 3,
            "n_a": 100,
            "n_b": 99,
            "direction": "first" if z > 0 else "second",
        }
        for feature in range(n_features)
        for word in WORDS[:n_tokens]
        for z in [float(random.choice((-1, 1)) * (3 + random.random()))]
    ]


@pytest.mark.parametrize(("n_features", "n_tokens"), [(1, 1), (1, 10), (2, 3), (4, 8), (9, 10)])
def test_tokens_are_labels_that_fit_and_are_never_formulas(n_features: int, n_tokens: int) -> None:
    made = token_figure(tokens(n_features, n_tokens), metadata())
    assert crowded(made) == []
    shown = [axes for axes in made.axes if axes.axison]
    assert len(shown) == min(n_features, MAX_PANELS)
    for axes in shown:
        labels = axes.get_yticklabels()
        assert len(labels) == min(n_tokens, MAX_TOKENS)
        assert not any(label.get_parse_math() for label in labels)
    assert "Features with kept tokens: 4 of n = 31 on correct prompts" in caption_of(made)
    if n_tokens == 10:
        labels = {label.get_text() for axes in shown for label in axes.get_yticklabels()}
        assert "$x^2$" in labels and labels & {"\\n\\n", "\\u05d0", "\\u65e5", "\\u0007"}


def test_without_kept_tokens_a_note_says_so() -> None:
    made = token_figure([], metadata())
    assert [text.get_text() for text in made.axes[0].texts] == ["no token was kept (q ≤ 0.05, patch against patch)"]


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        edges, features = graph(60, 12, 9)
        files.append(
            [
                path.read_bytes()
                for path in plotting.save(network_figure(edges, features, {}, CLASSES), tmp_path / place / "network")
            ]
        )
    assert files[0] == files[1]
