"""The tables of step 5, one CSV each; every table has its columns even where it has no rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.runs.files import write_bytes
from experiment_pathway_token_analysis.src.display import csv_text
from experiment_pathway_token_analysis.src.integration import Found, Row

_ENDS = ("edge_id", "source", "target", "source_layer", "source_id", "target_layer", "target_id")
_REPLAY = (
    *("mean_delta", "ci_low", "ci_high", "slope", "pearson", "spearman", "sign_agreement", "p_effect", "class_delta"),
    *("p_class", "p", "q", "matched_p", "small_step_slope", "linear_ok", "ablation_delta", "activation_delta"),
    *("gate_flip_rate", "tested", "reason"),
)
COLUMNS: dict[str, tuple[str, ...]] = {
    "features": (
        *("feature", "layer", "feature_id", "band", "listed", "class", "cohen_d", "has_pathway", "n_edges_in"),
        *("n_validated_in", "n_edges_out", "n_validated_out", "target_status", "target_reason", "has_tokens"),
        *("n_token_hits", "n_contrasts_tested", "tokens_reason", "tokens_more_a", "tokens_more_b"),
        *("lens_top", "lens_bottom"),
    ),
    "edges": (
        *_ENDS,
        *("source_class", "target_class", "label", "n_prompts", "gradient_mean", "gradient_sd", "attribution", "rank"),
        *("skip_share", "decoder_cosine", "predicted_delta", *_REPLAY, "similarity", "validated"),
    ),
    "targets": (
        *("feature", "layer", "feature_id", "class", "status", "reason", "n_active_prompts", "scale", "n_candidates"),
        *("n_kept", "n_tested", "n_validated", "n_controls"),
    ),
    "chains": (
        *("source", "middle", "target", "n", "total_effect", "frozen_effect", "mediated_share", "score", "mediated"),
    ),
    "tokens": (
        *("feature", "class", "contrast", "level", "token", "token_id", "kind", "count_a", "count_b", "total_a"),
        *("total_b", "docs_a", "docs_b", "n_a", "n_b", "log_odds", "z", "permutation_z", "plain_log_ratio"),
        *("p", "q", "direction"),
    ),
    "pathways": (
        *("kind", "pathway", "classes", "labels", "gradients", "mean_deltas", "sign", "mediated_share"),
        *("tokens_more_a", "tokens_more_b", "reading"),
    ),
    "class_composition": (
        *("source_class", "target_class", "n_kept", "n_tested", "n_validated", "share_low", "share_high"),
        *("n_positive", "n_negative", "expected", "p"),
    ),
    "layer_bands": (
        *("band", "layers", "n_listed", "n_targets_with_edges", "n_edges_in_tested", "n_edges_in_validated"),
        *("n_edges_out_validated", "n_tokens_tested", "n_with_tokens", "n_pathway_and_tokens"),
    ),
    "edges_by_layer": (
        *("source_layer", "target_layer", "n_kept", "n_tested", "n_validated", "n_computation"),
        *("n_positive", "n_negative"),
    ),
}


def flat_edges(found: Found, features: Sequence[Row], similarity: Mapping[str, Any]) -> list[Row]:
    """Returns every edge as one row, with the classes of its ends and how alike the words are that they move."""
    class_of = {one["feature"]: one["class"] for one in features}
    alike = {one["edge_id"]: one["similarity"] for one in similarity["edges"]}
    return [
        {
            **{name: value for name, value in edge.items() if name not in ("gradient", "replay")},
            "source_class": class_of[edge["source"]],
            "target_class": class_of[edge["target"]],
            "gradient_mean": edge["gradient"]["mean"],
            "gradient_sd": edge["gradient"]["sd"],
            **{name: edge["replay"].get(name) for name in _REPLAY},  # an edge that was not replayed has none
            "similarity": alike.get(edge["edge_id"]),
        }
        for edge in found.edges
    ]


def token_rows(found: Found, features: Sequence[Row]) -> list[Row]:
    """Returns the kept token associations with the class of their feature."""
    class_of = {one["feature"]: one["class"] for one in features}
    return [{**row, "class": class_of[row["feature"]]} for row in found.kept]


def write_tables(directory: Path, tables: Mapping[str, Sequence[Row]]) -> list[Path]:
    """Writes one CSV a table and returns their paths."""
    assert set(tables) == set(COLUMNS), set(tables) ^ set(COLUMNS)
    paths = []
    for name, columns in COLUMNS.items():
        path = directory / f"{name}.csv"
        write_bytes(path, csv_text(tables[name], columns).encode("utf-8"))
        paths.append(path)
    return paths
