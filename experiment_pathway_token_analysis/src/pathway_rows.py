"""Pathways that end in words: a validated edge, or a chain of two, whose last feature moves tokens.

The reading of each is made from its fields by a template, and is a hypothesis: that the words follow from the pathway
was not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiment_pathway_token_analysis.src.display import token_label
from experiment_pathway_token_analysis.src.integration import Found, Row, chain_links

SHOWN_WORDS = 5


def pathway_rows(found: Found, features: Sequence[Row], classes: Sequence[str]) -> list[Row]:
    """Returns validated edges and mediated chains whose last feature has kept tokens, the strongest first."""
    by_name = {one["feature"]: one for one in features}
    edges = {(edge["source"], edge["target"]): edge for edge in found.validated}
    rows = [_row([edge["source"], edge["target"]], [edge], None, by_name, classes) for edge in edges.values()]
    for chain in found.chains:
        links = [edges.get(link) for link in chain_links(chain)]
        if chain["mediated"] and None not in links:
            names = [chain["source"], chain["middle"], chain["target"]]
            rows.append(_row(names, [one for one in links if one], chain["mediated_share"], by_name, classes))
    with_words = [row for row in rows if row["tokens_more_a"] or row["tokens_more_b"]]
    return sorted(with_words, key=lambda row: (row["kind"], -min(map(abs, row["mean_deltas"])), row["pathway"]))


def _row(
    names: list[str], links: Sequence[Row], share: float | None, features: Mapping[str, Row], classes: Sequence[str]
) -> Row:
    last = features[names[-1]]
    sign = 1
    for link in links:
        sign *= 1 if link["gradient"]["mean"] > 0 else -1
    row: Row = {
        "kind": "edge" if len(links) == 1 else "chain",
        "pathway": " → ".join(names),
        "features": names,
        "classes": [features[name]["class"] for name in names],
        "edge_ids": [link["edge_id"] for link in links],
        "labels": [link["label"] for link in links],
        "gradients": [link["gradient"]["mean"] for link in links],
        "mean_deltas": [link["replay"]["mean_delta"] for link in links],
        "sign": sign,
        "mediated_share": share,
        "tokens_more_a": last["tokens_more_a"],
        "tokens_more_b": last["tokens_more_b"],
    }
    return {**row, "reading": reading(row, classes)}


def reading(row: Row, classes: Sequence[str]) -> str:
    """Returns a pathway in a sentence, made from its fields."""
    first, last = row["features"][0], row["features"][-1]
    through = f" through {row['features'][1]}" if row["kind"] == "chain" else ""
    moves = "raises" if row["sign"] > 0 else "lowers"
    words = [
        f"more under the {name} patch of {last}: {' '.join(token_label(one) for one in own[:SHOWN_WORDS])}"
        for name, own in zip(classes, (row["tokens_more_a"], row["tokens_more_b"]), strict=True)
        if own
    ]
    return f"Hypothesis: raising {first} {moves} {last}{through}; {'; '.join(words)}"
