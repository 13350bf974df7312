"""Step 5: pathways and tokens joined by feature, with what can be asked of both, as tables, plots and a summary.

`results/integrated/` holds `integrated.json`, one CSV a table, `summary.md` (every number of it computed from the other
files) and the plots as PNG and SVG. Equal inputs give equal bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.runs.files import ensure_directory, read_parquet, sha256_file, write_bytes, write_json
from experiment_pathway_token_analysis.src.counting import edges_by_layer, layer_bands, reconciled
from experiment_pathway_token_analysis.src.edge_tests import class_composition, similarity, word_effects
from experiment_pathway_token_analysis.src.integration import Found, Row, joined_features, read_results
from experiment_pathway_token_analysis.src.pathway_plots import write_plots
from experiment_pathway_token_analysis.src.pathway_rows import pathway_rows
from experiment_pathway_token_analysis.src.result_tables import flat_edges, token_rows, write_tables
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.src.summary import summary_markdown

SCHEMA_VERSION = 1


def run_step(run: Run) -> StepResult:
    """Joins everything, writes it, and returns what was found."""
    paths = run.paths
    inputs = [paths.audit, paths.features, paths.causal_features, paths.validated, paths.tokens, paths.token_effects]
    found = read_results(run)
    document, tables = integrate(run, found)
    directory = ensure_directory(paths.integrated)
    document["metadata"]["inputs"] = {path.name: sha256_file(path) for path in inputs}
    as_json, as_markdown = directory / "integrated.json", directory / "summary.md"
    write_json(as_json, document)
    outputs = [as_json, *write_tables(directory, tables), *write_plots(directory, document, tables)]
    write_bytes(as_markdown, summary_markdown(document, tables, _plots(outputs)).encode("utf-8"))
    return StepResult(True, _message(document), inputs, [*outputs, as_markdown])


def integrate(run: Run, found: Found) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """Returns what `integrated.json` holds, and the tables."""
    settings, classes = run.settings, run.settings.study.classes
    features = joined_features(found)
    class_of = {one["feature"]: one["class"] for one in features}
    draws = settings.tokens.permutations, settings.seed
    primary = [one["name"] for one in found.tokens["metadata"]["contrasts"] if one["primary"]]
    sign = {name: 1 if one == classes[0] else -1 for name, one in class_of.items() if one in classes}
    alike = similarity(found.validated, word_effects(read_parquet(run.paths.token_effects), primary, sign), *draws)
    tables: dict[str, list[Row]] = {
        "features": features,
        "edges": flat_edges(found, features, alike),
        "targets": found.targets,
        "chains": found.chains,
        "tokens": token_rows(found, features),
        "pathways": pathway_rows(found, features, classes),
        "class_composition": class_composition(found.edges, class_of, classes, *draws),
        "layer_bands": layer_bands(features, found.edges, found.n_layers),
        "edges_by_layer": edges_by_layer(found.edges),
    }
    checks = reconciled(found, features, tables)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "study": settings.study.kind,
        "classes": list(classes),
        "model": found.tokens["metadata"]["model"],
        "n_layers": found.n_layers,
        "seed": settings.seed,
        "slopes": [settings.replay.slope_low, settings.replay.slope_high],
        "matched_null": found.matched_null,
        "token_metadata": found.tokens["metadata"],
    }
    shown = ("features", "pathways", "class_composition", "layer_bands", "edges_by_layer")
    document = {
        "metadata": metadata,
        "counts": counts(found, features, tables),
        "similarity": alike,
        **{name: tables[name] for name in shown},
        "reconciliation": checks,
    }
    return document, tables


def counts(found: Found, features: list[Row], tables: dict[str, list[Row]]) -> dict[str, int]:
    """Returns the numbers that the summary and the terminal show."""
    replayed = [edge for edge in found.edges if edge["replay"]["tested"]]
    listed = [one for one in features if one["listed"]]
    return {
        "trials": found.trials,
        "features_listed": len(listed),
        "features_joined": len(features),
        "targets": len(found.targets),
        "edges": len(found.edges),
        "edges_tested": len(replayed),
        "edges_validated": len(found.validated),
        "edges_computation": sum(edge["label"] == "computation" for edge in found.validated),
        "edges_persistence": sum(edge["label"] == "persistence" for edge in found.validated),
        "edges_from_listed": sum(edge["source"] in {one["feature"] for one in listed} for edge in found.validated),
        "chains": len(found.chains),
        "chains_mediated": sum(bool(chain["mediated"]) for chain in found.chains),
        "tokens_kept": len(found.kept),
        "features_with_tokens": sum(one["has_tokens"] for one in listed),
        "features_tokens_tested": sum(one["n_contrasts_tested"] > 0 for one in listed),
        "features_with_both": sum(one["has_tokens"] and one["has_pathway"] for one in listed),
        "features_with_neither": sum(not one["has_tokens"] and not one["has_pathway"] for one in listed),
        "pathways_ending_in_tokens": len(tables["pathways"]),
    }


def _plots(outputs: list[Path]) -> list[Path]:
    return [path for path in outputs if path.suffix == ".png"]


def _message(document: dict[str, Any]) -> str:
    count = document["counts"]
    return (
        f"{count['features_joined']:,} features, {count['edges_validated']:,} validated edges, "
        f"{count['tokens_kept']:,} kept tokens, {count['pathways_ending_in_tokens']:,} pathways that end in tokens"
    )
