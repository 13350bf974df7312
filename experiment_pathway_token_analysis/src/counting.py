"""Counts of step 5: edges by pair of layers, features and edges by third of the model; and whether it all adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import PipelineError
from experiment_pathway_token_analysis.src.integration import BANDS, Found, Row, band_of


def edges_by_layer(edges: Sequence[Row]) -> list[Row]:
    """Returns one row a pair of layers that has edges: how many were kept, tested, validated, and their signs."""
    found: dict[tuple[int, int], Row] = {}
    for edge in edges:
        pair = edge["source_layer"], edge["target_layer"]
        names = ("n_kept", "n_tested", "n_validated", "n_computation", "n_positive", "n_negative")
        row = found.setdefault(pair, {"source_layer": pair[0], "target_layer": pair[1], **dict.fromkeys(names, 0)})
        row["n_kept"] += 1
        row["n_tested"] += bool(edge["replay"]["tested"])
        if edge["validated"]:
            row["n_validated"] += 1
            row["n_computation"] += edge["label"] == "computation"
            row["n_positive" if edge["gradient"]["mean"] > 0 else "n_negative"] += 1
    return [found[pair] for pair in sorted(found)]


def layer_bands(features: Sequence[Row], edges: Sequence[Row], n_layers: int) -> list[Row]:
    """Returns one row a third of the model: its layers, features, edges into and out of it, features with tokens."""
    table = []
    for band in BANDS:
        layers = [layer for layer in range(n_layers) if band_of(layer, n_layers) == band]
        own = [one for one in features if one["band"] == band]
        listed = [one for one in own if one["listed"]]
        ends = {end: [edge for edge in edges if edge[f"{end}_layer"] in layers] for end in ("source", "target")}
        table.append(
            {
                "band": band,
                "layers": f"{layers[0]}–{layers[-1]}" if layers else "",
                "n_listed": len(listed),
                "n_targets_with_edges": sum(one["n_validated_in"] > 0 for one in listed),
                "n_edges_in_tested": sum(bool(edge["replay"]["tested"]) for edge in ends["target"]),
                "n_edges_in_validated": sum(bool(edge["validated"]) for edge in ends["target"]),
                "n_edges_out_validated": sum(bool(edge["validated"]) for edge in ends["source"]),
                "n_tokens_tested": sum(one["n_contrasts_tested"] > 0 for one in listed),
                "n_with_tokens": sum(one["has_tokens"] for one in listed),
                "n_pathway_and_tokens": sum(one["has_tokens"] and one["has_pathway"] for one in listed),
            }
        )
    return table


def reconciled(found: Found, features: Sequence[Row], tables: dict[str, list[Row]]) -> list[Row]:
    """Returns the sums that must agree between steps; raises PipelineError where one does not."""
    metadata, validated = found.tokens["metadata"], len(found.validated)
    sums: dict[str, tuple[int, int]] = {
        "listed features of step 1 = listed rows": (len(found.features), sum(one["listed"] for one in features)),
        "edges of step 3 = edges by pair of layers": (len(found.edges), _sum(tables["edges_by_layer"], "n_kept")),
        "validated edges = by pair of layers": (validated, _sum(tables["edges_by_layer"], "n_validated")),
        "validated edges = by class": (validated, _sum(tables["class_composition"], "n_validated")),
        "validated edges = edges into features": (validated, _sum(features, "n_validated_in")),
        "validated edges = edges out of features": (validated, _sum(features, "n_validated_out")),
        "validated edges = edges into thirds": (validated, _sum(tables["layer_bands"], "n_edges_in_validated")),
        "kept tokens of step 4 = kept rows": (metadata["n_kept"], len(found.kept)),
        "kept tokens of step 4 = hits of features": (metadata["n_kept"], _sum(features, "n_token_hits")),
        "features of step 4 = its rows": (metadata["n_features"], len(found.tokens["features"])),
        "listed features = by third": (len(found.features), _sum(tables["layer_bands"], "n_listed")),
    }
    wrong = [f"{name} ({one:,} and {other:,})" for name, (one, other) in sums.items() if one != other]
    if wrong:
        raise PipelineError(f"the steps' counts do not agree: {'; '.join(wrong)}; run steps 1 to 5 again with --fresh")
    return [{"check": name, "one": one, "other": other} for name, (one, other) in sums.items()]


def _sum(rows: Sequence[Any], name: str) -> int:
    return sum(row[name] for row in rows)
