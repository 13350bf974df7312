"""Which earlier features drive the causal ones, and which tokens these put out (the pathway analysis)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.wording import SPACE, p_value, percent, signed
from report.blocks import Block, Cell, Column, Details, Figure, Missing, Number, Section, Table, Text
from report.pathway_results import PathwayResults, pathway_results
from report.run import Run
from report.steering_words import figure
from report.wording import count_cell, p_cell, rate, rate_cell

ID, TITLE = "pathway", "Which features drive the causal ones, and which tokens do they move?"
MOST_ROWS = 200
MOST_TOKENS = 6

Document = Mapping[str, Any]
Row = Mapping[str, str]


def section(run: Run) -> Section | Missing | None:
    """Returns the network of validated edges and the tokens; None where the analysis has not been run."""
    found = pathway_results(run.config)
    if found is None:
        return None
    if not found.whole:
        return Missing(ID, TITLE, found.unfinished(), found.command)
    document = found.json("integrated.json")
    doubts = found.doubts()
    warnings = [Text(f"Read with care: {'; '.join(doubts)}.", "warning")] if doubts else []
    blocks = (*warnings, _counts(document), *_edges(found, document), *_tokens(found, document), _where(found))
    return Section(ID, TITLE, _lead(document), blocks)


def _lead(document: Document) -> str:
    count = document["counts"]
    if not count["features_listed"]:
        return "No feature was found to be causal, so there was nothing to trace."
    tokens = (
        f"Of {count['features_tokens_tested']:,} causal features tested, {count['features_with_tokens']:,} move tokens "
        f"({count['tokens_kept']:,} in all contrasts)."
    )
    if not count["edges_tested"]:
        return f"No edge could be replayed ({count['edges']:,} were kept by gradient). {tokens}"
    if not count["edges_validated"]:
        return f"No edge was validated, of {count['edges_tested']:,} replayed{_chance(document)}. {tokens}"
    return (
        f"{rate(count['edges_validated'], count['edges_tested'])} of the replayed edges into "
        f"{count['targets']:,} causal features were validated{_chance(document)}: {count['edges_computation']:,} are "
        f"computation, {count['edges_persistence']:,} one direction that the stream carries on. {tokens}"
    )


def _chance(document: Document) -> str:
    """Returns beside the edges how many matched sources pass the same rule."""
    null = document["metadata"]["matched_null"]
    measured = None if null is None else null["false_positive_rate"]
    if measured is None or measured["value"] is None:
        return " (how many matched sources would pass was not measured)"
    return f", where {rate(measured['numerator'], measured['denominator'])} of matched sources pass the same rule"


def _counts(document: Document) -> Table:
    count = document["counts"]
    rows = [
        ("trials read", count["trials"], "–"),
        ("causal features", count["features_listed"], "–"),
        ("edges kept by gradient", count["edges"], f"into {count['targets']:,} targets"),
        ("edges replayed", count["edges_tested"], "on enough prompts"),
        ("edges validated", count["edges_validated"], _part(count["edges_validated"], count["edges_tested"])),
        ("– computation", count["edges_computation"], _part(count["edges_computation"], count["edges_validated"])),
        ("– persistence", count["edges_persistence"], _part(count["edges_persistence"], count["edges_validated"])),
        *_null_rows(document),
        ("chains mediated", count["chains_mediated"], _part(count["chains_mediated"], count["chains"])),
        (
            "causal features with tokens",
            count["features_with_tokens"],
            _part(count["features_with_tokens"], count["features_tokens_tested"]),
        ),
        ("tokens kept", count["tokens_kept"], "all contrasts and levels"),
        ("pathways that end in tokens", count["pathways_ending_in_tokens"], "validated edges and mediated chains"),
    ]
    cells = tuple((name, count_cell(n), of) for name, n, of in rows)
    columns = (Column("what"), Column("n", "", True), Column("of"))
    model = document["metadata"]["model"]["name"]
    return Table(f"What was found in {model}, {document['metadata']['n_layers']} layers.", columns, cells)


def _null_rows(document: Document) -> list[tuple[str, int, str]]:
    null = document["metadata"]["matched_null"]
    if null is None or null["false_positive_rate"]["value"] is None:
        return []
    measured = null["false_positive_rate"]
    return [("matched sources that pass", measured["numerator"], _part(measured["numerator"], measured["denominator"]))]


def _part(n: int, of: int) -> str:
    return f"of {of:,}: {rate_cell(n, of).text.rpartition(' (')[0]}" if of else "of none"


def _edges(found: PathwayResults, document: Document) -> list[Block]:
    edges = [edge for edge in found.rows("edges.csv") if edge["validated"] == "True"]
    count = document["counts"]
    strongest = f"n = {count['edges_validated']:,} validated of {count['edges_tested']:,} replayed edges"
    network = f"The pathway network, {strongest}; width: effect in standard deviations of the target."
    against = f"Measured effect against what the gradient predicts, {strongest}."
    blocks: list[Block] = [_figure(found, "network", network)]
    if edges:
        blocks.append(_edge_table(edges))
    by_layer = f"Validated edges by layer, {strongest}."
    return [
        *blocks,
        Details("Effect against prediction, and edges by layer", (
            _figure(found, "effect_against_prediction", against),
            _figure(found, "edges_by_layer", by_layer),
        )),
        _composition(document["class_composition"]),
        Text(_same_words(document["similarity"])),
    ]  # fmt: skip


def _figure(found: PathwayResults, name: str, caption: str) -> Figure:
    return Figure(found.text(f"{name}.svg"), caption, f"{caption} The figures stand in the tables beside it.")


def _edge_table(edges: Sequence[Row]) -> Table:
    ordered = sorted(edges, key=lambda edge: (-abs(float(edge["mean_delta"])), edge["edge_id"]))
    rows = tuple(
        (
            f"{edge['source']} → {edge['target']}",
            f"{edge['source_class'] or 'unknown'} → {edge['target_class'] or 'unknown'}",
            edge["label"],
            count_cell(int(edge["n_prompts"])),
            Number(float(edge["mean_delta"]), f"{_figures(edge, 'mean_delta')} [{_figures(edge, 'ci_low')}, "
                   f"{_figures(edge, 'ci_high')}]"),
            _number(edge, "predicted_delta"),
            _number(edge, "slope"),
            Number(float(edge["sign_agreement"]), percent(float(edge["sign_agreement"]), 0)),
            p_cell(float(edge["q"])),
        )
        for edge in ordered[:MOST_ROWS]
    )  # fmt: skip
    columns = (
        *(Column("edge"), Column("classes"), Column("label", "computation, or persistence of one direction")),
        Column("n", "prompts that selected nothing", True),
        Column("effect", "mean change of the target's pre-activation; brackets: 95 % bootstrap over prompts", True),
        Column("predicted", "derivative × change of the source", True),
        Column("slope", "measured over predicted", True),
        Column("sign agrees", "share of prompts", True),
        Column("q", "Benjamini–Hochberg over all edges", True),
    )
    return Table(
        _first(len(rows), len(edges), "validated edges, largest effect first", "edges.csv"), columns, rows, True
    )


def _first(shown: int, total: int, what: str, name: str) -> str:
    every = f"All {total:,} {what}" if shown == total else f"The first {shown:,} of {total:,} {what}"
    return f"{every}; with every figure in pathway/results/integrated/{name}."


def _figures(row: Row, name: str) -> str:
    return figure(float(row[name]), "+#.3g").rstrip(".")


def _number(row: Row, name: str) -> Number:
    return Number(float(row[name]), _figures(row, name).removeprefix("+")) if row[name] else Number(None, "–")


def _composition(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = tuple(
        (
            f"{row['source_class'] or 'unknown'} → {row['target_class'] or 'unknown'}",
            *(count_cell(row[name]) for name in ("n_tested", "n_validated", "n_positive", "n_negative")),
            Number(row["expected"], "–" if row["expected"] is None else f"{row['expected']:.3g}"),
            p_cell(row["p"]) if row["p"] is not None else Number(None, "–"),
        )
        for row in rows
    )
    columns = (
        *(Column("classes"), Column("replayed", "", True), Column("validated", "", True)),
        *(Column("raise", "validated edges with a positive effect", True), Column("lower", "", True)),
        Column("expected", "targets' classes shuffled among the validated edges of a pair of layers", True),
        Column("p", "of the same shuffles", True),
    )
    return Table("Edges by the classes of their ends; known classes only are tested.", columns, cells)


def _same_words(found: Mapping[str, Any]) -> str:
    counts = f"{found['n_compared']:,} of {found['n_validated']:,} validated edges could be compared"
    if found["reason"] is not None:
        return f"Whether connected features move the same words was not tested: {found['reason']} ({counts})."
    return (
        f"Do connected features move the same words? Mean similarity {found['mean']:.3f}, {found['null_mean']:.3f} "
        f"with features dealt anew (95{SPACE}% of {found['n_draws']:,} draws {signed(found['null_low'], 3)} to "
        f"{signed(found['null_high'], 3)}), one-sided p = {p_value(found['p'])}; {counts}."
    )


def _tokens(found: PathwayResults, document: Document) -> list[Block]:
    metadata = document["metadata"]["token_metadata"]
    contrasts = {one["name"]: one for one in metadata["contrasts"]}
    rows = [row for row in found.rows("tokens.csv") if contrasts[row["contrast"]]["primary"]]
    caption = f"Tokens that the patches of a feature move, by log-odds; n = {metadata['n_responses']:,} responses."
    blocks: list[Block] = [_contrast_table(metadata), _figure(found, "token_log_odds", caption)]
    if rows:
        blocks.append(_token_table(rows))
    else:
        blocks.append(Text("No token was kept where the two patches of a feature are compared.", "note"))
    if document["pathways"]:
        blocks.append(_pathway_table(document["pathways"], document["metadata"]["classes"]))
    return blocks


def _contrast_table(metadata: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            _words(one["condition_a"]),
            _words(one["condition_b"]),
            "yes" if one["primary"] else "no",
            count_cell(one["n_tested"]),
            count_cell(one["n_features_with_hits"]),
            count_cell(one["n_hits"]),
        )
        for one in metadata["contrasts"]
    )
    columns = (
        *(
            Column("first arm"),
            Column("second arm"),
            Column("patch against patch", "a baseline in its place lets in what patching as such does"),
        ),
        *(Column("features tested", "", True), Column("with tokens", "", True), Column("tokens kept", "", True)),
    )
    settings = metadata["settings"]
    rule = f"q ≤ {settings['alpha']:g} and |log-odds| > {settings['min_log_odds']:g}"
    return Table(f"Tokens kept by contrast ({rule}); unit: the response.", columns, rows)


def _token_table(tokens: Sequence[Row]) -> Table:
    ordered = sorted(tokens, key=lambda row: (-abs(float(row["permutation_z"])), row["feature"], row["token"]))
    rows = tuple(
        (
            row["feature"],
            row["class"] or "unknown",
            shown(row["token"].removeprefix("'") if row["token"].startswith("'") else row["token"]),
            row["kind"] or row["level"],
            _words(row["direction"]),
            Number(float(row["log_odds"]), _figures(row, "log_odds")),
            f"{int(row['count_a']):,} of {int(row['total_a']):,} in {int(row['n_a']):,}",
            f"{int(row['count_b']):,} of {int(row['total_b']):,} in {int(row['n_b']):,}",
            p_cell(float(row["q"])),
        )
        for row in ordered[:MOST_ROWS]
    )
    columns = (
        *(Column("feature"), Column("class"), Column("token", "␣ is a space"), Column("kind"), Column("more under")),
        Column("log-odds", "informative Dirichlet prior (Monroe et al. 2008)", True),
        Column("first arm", "occurrences of all tokens in responses"),
        Column("second arm", "occurrences of all tokens in responses"),
        Column("q", "over the features of a contrast", True),
    )
    what = "kept tokens, patch against patch, strongest first"
    return Table(_first(len(rows), len(tokens), what, "tokens.csv"), columns, rows, searchable=True)


def _pathway_table(pathways: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Details:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            one["pathway"],
            one["kind"],
            "raises" if one["sign"] > 0 else "lowers",
            *(" ".join(shown(token) for token in one[f"tokens_more_{side}"][:MOST_TOKENS]) or "–" for side in "ab"),
        )
        for one in pathways[:MOST_ROWS]
    )
    columns = (
        *(Column("pathway"), Column("kind"), Column("last feature")),
        *(Column(f"more under its {name} patch") for name in classes),
    )
    caption = _first(len(rows), len(pathways), "pathways that end in tokens", "pathways.csv")
    note = Text("Hypotheses: that the tokens follow from the pathway was not tested.", "note")
    return Details(f"{len(pathways):,} pathways that end in tokens", (note, Table(caption, columns, rows, True)))


def shown(token: str) -> str:
    """Returns a token with the spaces at its ends, and what does not print, made visible."""
    inner = token.strip(" ")
    if not inner:
        return "␣" * len(token) if token else "(empty)"
    before, after = len(token) - len(token.lstrip(" ")), len(token) - len(token.rstrip(" "))
    visible = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in inner)
    return f"{'␣' * before}{visible}{'␣' * after}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _where(found: PathwayResults) -> Text:
    return Text(f"All tables, plots and a summary: {found.root.name}/results/integrated/.", "note")
