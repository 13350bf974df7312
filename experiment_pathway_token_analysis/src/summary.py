"""`summary.md`: what was found, in tables; every number is taken from `integrated.json` or the tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiment_pathway_token_analysis.src.display import code_span, markdown
from experiment_pathway_token_analysis.src.integration import Row
from experiment_pathway_token_analysis.src.result_tables import COLUMNS

SHOWN_ROWS = 20
SHOWN_TOKENS = 6
CAPTIONS = {
    "network": "The pathway network",
    "effect_against_prediction": "Measured effect against prediction",
    "edges_by_layer": "Validated edges by layer",
    "token_log_odds": "Tokens by log-odds",
}


def summary_markdown(document: Mapping[str, Any], tables: Mapping[str, Sequence[Row]], plots: Sequence[Path]) -> str:
    """Returns the summary; `plots` are the pictures beside it."""
    parts = [
        _head(document),
        _counts(document),
        _edges(tables["edges"]),
        _similarity(document["similarity"]),
        _composition(document["class_composition"]),
        _bands(document["layer_bands"]),
        _tokens(tables["tokens"], document["metadata"]),
        _pathways(tables["pathways"], document["metadata"]["classes"]),
        _left_out(document["features"]),
        _pictures(plots),
        _files(tables),
    ]
    return "\n\n".join(parts) + "\n"


def _head(document: Mapping[str, Any]) -> str:
    metadata = document["metadata"]
    first, second = metadata["classes"]
    return (
        f"# Pathways and tokens: {markdown(metadata['study'].replace('_', ' '))}\n\n"
        f"Model {markdown(metadata['model']['name'])}, {metadata['n_layers']} layers; classes {markdown(first)} and "
        f"{markdown(second)}. Every number here is computed from the files in this directory."
    )


def _counts(document: Mapping[str, Any]) -> str:
    count, null = document["counts"], document["metadata"]["matched_null"]
    rows = [
        ("trials read", count["trials"], ""),
        ("causal features", count["features_listed"], ""),
        ("edges kept by gradient", count["edges"], f"into {count['targets']:,} targets"),
        ("edges replayed", count["edges_tested"], "on enough prompts"),
        (
            "edges validated",
            count["edges_validated"],
            f"{_share(count['edges_validated'], count['edges_tested'])} of those replayed; "
            f"{count['edges_computation']:,} computation, {count['edges_persistence']:,} persistence",
        ),
        ("validated edges from causal features", count["edges_from_listed"], _share_of(count, "edges_from_listed")),
        ("chains, mediated", count["chains_mediated"], f"of {count['chains']:,} chains"),
        ("features with kept tokens", count["features_with_tokens"], f"of {count['features_tokens_tested']:,} tested"),
        ("kept tokens", count["tokens_kept"], "all contrasts and levels"),
        ("features with pathway and tokens", count["features_with_both"], f"of {count['features_listed']:,}"),
        ("features with neither", count["features_with_neither"], f"of {count['features_listed']:,}"),
        ("pathways that end in tokens", count["pathways_ending_in_tokens"], "edges and mediated chains"),
    ]
    if null is not None:
        measured, n = null["false_positive_rate"], null["false_positive_rate"]["denominator"]
        found = (
            "not measured" if measured["value"] is None else f"{_percent(measured['value'])} of {n:,} matched sources"
        )
        rows.insert(5, ("false positives of the whole rule", measured["numerator"], found))
    return "## Counts\n\n" + _table(("what", "n", "of"), [(name, f"{n:,}", of) for name, n, of in rows])


def _share_of(count: Mapping[str, int], name: str) -> str:
    return f"{_share(count[name], count['edges_validated'])} of validated edges"


def _edges(edges: Sequence[Row]) -> str:
    validated = [edge for edge in edges if edge["validated"]]
    if not validated:
        tested = sum(bool(edge["tested"]) for edge in edges)
        return f"## Edges\n\nNo edge was validated, of {tested:,} tested and {len(edges):,} kept by gradient."
    validated.sort(key=lambda edge: (-abs(edge["mean_delta"]), edge["edge_id"]))
    rows = [
        (
            f"{edge['source']} → {edge['target']}",
            f"{_word(edge['source_class'])} → {_word(edge['target_class'])}",
            f"{_number(edge['mean_delta'])} [{_number(edge['ci_low'])}, {_number(edge['ci_high'])}]",
            _number(edge["predicted_delta"]),
            _number(edge["slope"]),
            str(edge["n_prompts"]),
            _number(edge["q"]),
            edge["label"],
        )
        for edge in validated[:SHOWN_ROWS]
    ]
    head = ("edge", "classes", "effect [95 %]", "predicted", "slope", "prompts", "q", "label")
    return f"## Edges\n\n{_shown(len(rows), len(validated), 'validated edges, largest effect first')}\n\n" + _table(
        head, rows
    )


def _similarity(found: Mapping[str, Any]) -> str:
    title = "## Do connected features move the same words?\n\n"
    counts = (
        f"{found['n_compared']:,} of {found['n_validated']:,} validated edges could be compared "
        f"({found['n_both_ends_measured']:,} have token effects at both ends)."
    )
    if found["reason"] is not None:
        return f"{title}{counts} Not tested: {found['reason']}."
    text = (
        f"{counts} Mean similarity (cosine of the words' effects, signed by the edge) {_number(found['mean'])}; with "
        f"the features of each layer dealt anew {_number(found['null_mean'])}, 95 % of {found['n_draws']:,} draws "
        f"between {_number(found['null_low'])} and {_number(found['null_high'])}; one-sided p = {_number(found['p'])}."
    )
    if found["strength_spearman"] is not None:
        text += (
            f" Spearman correlation of similarity with |attribution| {_number(found['strength_spearman'])}, "
            f"p = {_number(found['strength_p'])}."
        )
    return title + text


def _composition(rows: Sequence[Row]) -> str:
    body = [
        (
            f"{row['source_class']} → {row['target_class']}",
            f"{row['n_kept']:,}",
            f"{row['n_tested']:,}",
            f"{row['n_validated']:,}",
            f"{row['n_positive']:,} / {row['n_negative']:,}",
            _number(row["expected"]),
            _number(row["p"]),
        )
        for row in rows
    ]
    head = ("classes", "kept", "tested", "validated", "raise / lower", "expected", "p")
    note = "Expected, p: targets' classes shuffled among the validated edges of a pair of layers; known classes only."
    return f"## Edges by class\n\n{_table(head, body)}\n\n{note}"


def _bands(rows: Sequence[Row]) -> str:
    head = (
        "third",
        "layers",
        "causal features",
        "edges in, tested",
        "edges in",
        "edges out",
        "tokens tested",
        "tokens",
        "both",
    )
    names = (
        *("n_listed", "n_edges_in_tested", "n_edges_in_validated", "n_edges_out_validated", "n_tokens_tested"),
        *("n_with_tokens", "n_pathway_and_tokens"),
    )
    body = [(row["band"], row["layers"], *(f"{row[name]:,}" for name in names)) for row in rows]
    return "## By third of the model\n\n" + _table(head, body)


def _tokens(tokens: Sequence[Row], metadata: Mapping[str, Any]) -> str:
    contrasts = metadata["token_metadata"]["contrasts"]
    summary = [
        (
            one["name"].replace("_", " ") + ("" if one["primary"] else " *"),
            f"{one['condition_a']} against {one['condition_b']}".replace("_", " "),
            f"{one['n_tested']:,} of {one['n_features']:,}",
            f"{one['n_features_with_hits']:,}",
            f"{one['n_hits']:,}",
        )
        for one in contrasts
    ]
    head = ("contrast", "arms", "features tested", "with kept tokens", "kept tokens")
    note = "\\* against the unpatched baseline: also carries what patching as such does."
    primary = {one["name"] for one in contrasts if one["primary"]}
    rows = sorted(
        (row for row in tokens if row["contrast"] in primary),
        key=lambda row: (-abs(row["permutation_z"]), row["feature"]),
    )
    body = [
        (
            f"{row['feature']} ({_word(row['class'])})",
            code_span(row["token"]),
            row["kind"] or row["level"],
            row["direction"].replace("_", " "),
            _number(row["log_odds"]),
            f"{row['count_a']:,} / {row['total_a']:,}",
            f"{row['count_b']:,} / {row['total_b']:,}",
            _number(row["q"]),
        )
        for row in rows[:SHOWN_ROWS]
    ]
    text = f"## Tokens\n\n{_table(head, summary)}\n\n{note}"
    if not body:
        return f"{text}\n\nNo token was kept, patch against patch."
    shown = _shown(len(body), len(rows), "kept tokens, patch against patch, strongest first")
    columns = ("feature", "token", "kind", "more under", "log-odds", "first arm", "second arm", "q")
    return f"{text}\n\n{shown}\n\n{_table(columns, body)}"


def _pathways(rows: Sequence[Row], classes: Sequence[str]) -> str:
    if not rows:
        nothing = "None: no validated edge or mediated chain ends in a feature with kept tokens."
        return f"## Pathways that end in tokens\n\n{nothing}"
    body = [
        (
            row["pathway"],
            row["kind"],
            "raises" if row["sign"] > 0 else "lowers",
            *(" ".join(map(code_span, row[f"tokens_more_{side}"][:SHOWN_TOKENS])) for side in "ab"),
        )
        for row in rows[:SHOWN_ROWS]
    ]
    head = ("pathway", "kind", "last feature", *(f"tokens, more under its {name} patch" for name in classes))
    shown = _shown(len(body), len(rows), "pathways")
    note = "Hypotheses: that the tokens follow from the pathway was not tested."
    return f"## Pathways that end in tokens\n\n{shown} {note}\n\n{_table(head, body)}"


def _left_out(features: Sequence[Row]) -> str:
    reasons: dict[tuple[str, str], int] = {}
    for one in features:
        if one["listed"] and one["target_status"] != "ok":
            key = "pathways", one["target_reason"] or one["target_status"]
            reasons[key] = reasons.get(key, 0) + 1
        if one["listed"] and one["tokens_reason"]:
            reasons["tokens", one["tokens_reason"]] = reasons.get(("tokens", one["tokens_reason"]), 0) + 1
    if not reasons:
        return "## Left out\n\nNothing: every causal feature was a target and had its tokens tested."
    body = [(step, markdown(reason), f"{n:,}") for (step, reason), n in sorted(reasons.items())]
    return "## Left out\n\n" + _table(("of", "because", "causal features"), body)


def _pictures(plots: Sequence[Path]) -> str:
    return "## Plots\n\n" + "\n\n".join(f"![{CAPTIONS[path.stem]}]({path.name})" for path in plots)


def _files(tables: Mapping[str, Sequence[Row]]) -> str:
    rows = [(f"`{name}.csv`", f"{len(tables[name]):,}") for name in COLUMNS]
    return "## Tables\n\n" + _table(("file", "rows"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(n: int, total: int, what: str) -> str:
    return f"{n:,} of {total:,} {what}."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _word(value: str | None) -> str:
    return "unknown" if value is None else markdown(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(part: int, whole: int) -> str:
    return "–" if whole == 0 else _percent(part / whole)
