"""What the pathway analysis leaves in a data directory, made by hand in its schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.runs.files import sha256_file, write_bytes, write_json
from experiment_pathway_token_analysis.src.display import csv_text
from experiment_pathway_token_analysis.src.result_tables import COLUMNS
from tests.report.sections.steering_artifacts import SVG

PLOTS = ("network", "effect_against_prediction", "edges_by_layer", "token_log_odds")
COUNTS = {
    "trials": 1234,
    "features_listed": 4,
    "targets": 3,
    "edges": 12,
    "edges_tested": 8,
    "edges_validated": 2,
    "edges_computation": 1,
    "edges_persistence": 1,
    "chains": 4,
    "chains_mediated": 1,
    "tokens_kept": 5,
    "features_with_tokens": 2,
    "features_tokens_tested": 4,
    "pathways_ending_in_tokens": 1,
}
NULL = {"false_positive_rate": {"value": 0.25, "numerator": 1, "denominator": 4, "reason": None}}
SIMILARITY = {
    **{"n_validated": 2, "n_compared": 2, "mean": 0.5, "null_mean": 0.125, "null_low": -0.25, "null_high": 0.4},
    **{"p": 0.04, "n_draws": 2000, "reason": None},
}


def edge(source: str, target: str, effect: float, **changes: Any) -> dict[str, Any]:
    """Returns a validated edge as a row of `edges.csv`."""
    known = {
        **{"edge_id": f"{source}->{target}", "source": source, "target": target, "source_class": "correct"},
        **{"target_class": "incorrect", "label": "computation", "n_prompts": 40, "mean_delta": effect},
        **{"ci_low": effect - 0.5, "ci_high": effect + 0.5, "predicted_delta": effect, "slope": 1.0},
        **{"sign_agreement": 0.975, "q": 0.001, "tested": True, "validated": True, **changes},
    }
    return {name: known.get(name) for name in COLUMNS["edges"]}


def token(text: str, z: float, contrast: str = "correct_patch_against_patch") -> dict[str, Any]:
    """Returns a kept token as a row of `tokens.csv`."""
    known = {
        **{"feature": "L1-4", "class": "correct", "contrast": contrast, "level": "piece", "token": text},
        **{"kind": "name", "count_a": 30, "count_b": 10, "total_a": 1200, "total_b": 1000, "n_a": 40, "n_b": 40},
        **{"log_odds": 1.25, "permutation_z": z, "q": 0.002, "direction": "correct_amplification"},
    }
    return {name: known.get(name) for name in COLUMNS["tokens"]}


def document(**changes: Any) -> dict[str, Any]:
    """Returns `integrated.json`; changed counts go beside the others."""
    counts = {**COUNTS, **changes.pop("counts", {})}
    contrast = {"condition_a": "correct_amplification", "n_tested": 4, "n_features_with_hits": 2, "n_hits": 5}
    contrasts = [
        {
            "name": "correct_patch_against_patch",
            "condition_b": "correct_with_incorrect_patch",
            "primary": True,
            **contrast,
        },
        {"name": "against_baseline", "condition_b": "correct_baseline", "primary": False, **contrast},
    ]
    metadata = {
        "model": {"name": "tiny", "revision": None},
        "n_layers": 4,
        "classes": ["correct", "incorrect"],
        "matched_null": changes.pop("matched_null", NULL),
        "token_metadata": {
            "contrasts": contrasts,
            "settings": {"alpha": 0.05, "min_log_odds": 0.5},
            "n_responses": 160,
        },
    }
    pathway = {"pathway": "L0-1 → L1-4", "kind": "edge", "sign": 1, "tokens_more_a": [" nums"], "tokens_more_b": []}
    row = {"source_class": None, "target_class": "correct", "n_tested": 4, "n_validated": 1, "n_positive": 1}
    composition = [{**row, "n_negative": 0, "expected": None, "p": None}]
    return {
        "metadata": metadata,
        "counts": counts,
        "similarity": SIMILARITY,
        "class_composition": composition,
        "pathways": [pathway],
        **changes,
    }


def write_pathway(
    data_dir: Path,
    content: dict[str, Any] | None = None,
    edges: list[dict[str, Any]] | None = None,
    tokens: list[dict[str, Any]] | None = None,
    steps: Mapping[int, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes the analysis with all of its steps passed, but for what `steps` changes in their manifests.

    A step that `steps` maps to nothing has not been run.
    """
    root = data_dir / "pathway"
    where = root / "results" / "integrated"
    write_json(where / "integrated.json", content or document())
    found = {"edges": edges if edges is not None else [edge("L0-1", "L1-4", 2.0)]}
    found["tokens"] = tokens if tokens is not None else [token("nums", 3.0)]
    for name, rows in found.items():
        write_bytes(where / f"{name}.csv", csv_text(rows, COLUMNS[name]).encode())
    for name in PLOTS:
        write_bytes(where / f"{name}.svg", SVG.encode())
    for step in range(6):
        if steps is None or steps.get(step, {"kept": True}):
            own = {name: value for name, value in (steps or {}).get(step, {}).items() if name != "kept"}
            outputs = (
                {str(path.relative_to(root)): sha256_file(path) for path in sorted(where.iterdir())}
                if step == 5
                else {}
            )
            manifest = {
                "status": "passed",
                "message": "done",
                "limit": None,
                "forced": False,
                "inputs": {},
                "outputs": outputs,
            }
            write_json(root / "steps" / f"step_{step}.json", {**manifest, **own})
    return root
