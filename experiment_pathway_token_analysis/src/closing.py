"""The table that closes a run of the pathway analysis: what was found, of how many, and where to look."""

from __future__ import annotations

from collections import Counter
from typing import Any

from common.runs.files import read_json
from common.text_table import text_table
from experiment_pathway_token_analysis.src.steps import NAMES, PASSED, Run, changed_inputs, command, standing_manifest
from experiment_pathway_token_analysis.src.study_state import study_record_found

Row = tuple[str, str, str]
SHOWN_EDGES = 5


def closing_table(run: Run) -> str:
    """Returns what the steps that have run found; a step that did not pass says why."""
    rows: list[Row] = []
    for step, rows_of in enumerate((_audit, _causal, _prototype, _pathways, _tokens, _integrated)):
        manifest = standing_manifest(run, step)
        if manifest is None:
            continue
        if step and changed_inputs(run, step):
            rows.append((NAMES[step], "not of these files", f"run: {command(run)} --from {step}"))
            break
        if manifest["status"] != PASSED:
            rows.append((NAMES[step], "did not pass", manifest["message"]))
        if manifest["outputs"]:
            rows.extend(rows_of(run))
        if manifest["status"] != PASSED and not run.force:
            break  # what stands of later steps was made before
    record = study_record_found(run)
    study = [] if record is None else [_study(record)]
    table = text_table([*study, *rows], ("what", "found", "of / how sure")) if study or rows else "nothing was run"
    return "\n".join(["", table, "", "Where to look", *(f"  {line}" for line in _places(run))])


def _study(record: dict[str, Any]) -> Row:
    found = record["found"]
    return (
        "patching study",
        f"{found['n_causal']} causal features",
        f"of {found['n_features']} tested on {found['n_problems']} problems, exact McNemar, q ≤ {found['alpha']:g}",
    )


def _audit(run: Run) -> list[Row]:
    report = read_json(run.paths.audit)
    results = report["audit_results"]
    counts = ", ".join(f"{len(results[kind])} {kind}" for kind in ("errors", "warnings"))
    rate = report["join_rate_percent"]
    share = "" if rate is None else f" ({rate:.1f} %)"
    joined = f"{report['joinable_features']:,} causal features have trials{share}"
    return [("data audit", f"{report['total_trials']:,} trials, {counts}", joined)]


def _causal(run: Run) -> list[Row]:
    found = read_json(run.paths.causal_features)
    layers = Counter(item["layer"] for item in found["features"])
    fdr = sum(item["fdr_causal"] is True for item in found["features"])
    by_layer = ", ".join(f"{layer}: {count}" for layer, count in sorted(layers.items()))
    return [
        ("causal features", f"{len(found['features'])} selected", f"{fdr} also by FDR; by layer {by_layer or 'none'}")
    ]


def _prototype(run: Run) -> list[Row]:
    found = read_json(run.paths.prototype)
    return [("prototype", f"{found['feature']}: self-test passed", f"{len(found['upstream_candidates'])} candidates")]


def _pathways(run: Run) -> list[Row]:
    found = read_json(run.paths.validated)
    edges = found["edges"]
    validated = [edge for edge in edges if edge["validated"]]
    labels = Counter(edge["label"] for edge in validated)
    kinds = ", ".join(f"{count} {label}" for label, count in sorted(labels.items())) or "none"
    tested = sum(bool(edge["replay"]["tested"]) for edge in edges)
    null = found["metadata"]["matched_null"]["false_positive_rate"]
    passing = (
        "not measured" if null["value"] is None else f"{null['value']:.1%} [{null['low']:.1%}, {null['high']:.1%}]"
    )
    rows = [
        ("edges", f"{len(validated)} validated ({kinds})", f"of {tested} replayed, {len(edges)} kept by gradient"),
        ("", f"matched sources that pass: {passing}", f"of {null['denominator']}"),
        (
            "chains",
            f"{sum(bool(chain.get('mediated')) for chain in found['chains'])} mediated",
            f"of {len(found['chains'])}",
        ),
    ]
    return [*rows, *(_edge(edge) for edge in sorted(validated, key=_strength)[:SHOWN_EDGES])]


def _strength(edge: dict[str, Any]) -> tuple[float, str]:
    return -abs(edge["replay"]["mean_delta"]), edge["edge_id"]


def _edge(edge: dict[str, Any]) -> Row:
    replay = edge["replay"]
    interval = f"[{replay['ci_low']:.3g}, {replay['ci_high']:.3g}]"
    return (
        f"  {edge['source']} → {edge['target']}",
        f"{replay['mean_delta']:+.3g} {interval}, slope {replay['slope']:.2f}",
        f"n = {edge['n_prompts']}, q = {replay['q']:.2g}, {edge['label']}",
    )


def _tokens(run: Run) -> list[Row]:
    found = read_json(run.paths.tokens)
    kept = [item for item in found["associations"] if item["kept"]]
    features = {item["feature"] for item in kept}
    return [("token associations", f"{len(kept)} kept", f"of {len(features)} of {len(found['features'])} features")]


def _integrated(run: Run) -> list[Row]:
    return [("integration", "tables, summary and plots", str(run.paths.integrated))]


def _places(run: Run) -> list[str]:
    places = {
        run.paths.audit: "what the audit checked and found",
        run.paths.causal_features: "the features that go on",
        run.paths.validated: "every edge with its figures, targets and chains",
        run.paths.tokens: "tokens by feature and contrast",
        run.paths.integrated: "integrated.json, one CSV a table, the summary, plots",
    }
    return [f"{path}  {what}" for path, what in places.items() if path.exists()]
