"""Tables of ranked features: the top of either direction, the best of each layer, and the same on another split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from common.statistics.permutation import DIRECTIONS
from common.wording import counted, percent
from report.blocks import Cell, Column, Facts, Link, Number, Table
from report.wording import count_cell, number_cell, numeric, p_cell, percent_cell


class Ranking(NamedTuple):
    """One way to rank features: its column, its name in words, what the features are for, and its formula."""

    score: str
    words: str
    purpose: str
    formula: str


Item = Mapping[str, Any]


def facts(found: Item, ranking: Ranking) -> Facts:
    """Returns how the features were ranked and tested."""
    null = found["permutation_null"]
    rows: list[tuple[str, Cell]] = [
        ("problems", f"{found['n_problems']:,}: {found['n_correct']:,} correct, {found['n_incorrect']:,} incorrect"),
        ("features", f"{found['n_features']:,} in all layers, {found['n_ranked']:,} ranked"),
        ("general text", _filter_words(found)),
        ("chance", f"{null['statistic']}, {null['n_permutations']:,} shuffles of the labels, seed {null['seed']}"),
        (f"{ranking.words} at p = 0.05", _levels(found)),
        ("p of one feature", found["per_feature_test"]),
    ]
    return Facts(tuple(rows))


def _levels(found: Item) -> str:
    return ", ".join(f"{chance_level(found, name).text} for {name}-preferring" for name in DIRECTIONS)


def chance_level(found: Item, direction: str) -> Number:
    """Returns the score that a direction's best feature must exceed for a max-permutation p of 0.05 or less."""
    null = found["permutation_null"]
    too_few = f"{null['n_permutations']:,} shuffles are too few for it"
    return number_cell(null["score_at_p_0_05"][direction], 3, too_few)


def top_table(
    phase: str,
    direction: str,
    items: list[Item],
    found: Item,
    ranking: Ranking,
    places_elsewhere: Mapping[tuple[int, int], int],
) -> Table:
    """Returns a direction's best features in rank order, with links to Neuronpedia where they have a page."""
    filtered = found["general_text_filter"]["applied"]
    rows = tuple(_row(rank, item, ranking, places_elsewhere, filtered=filtered) for rank, item in enumerate(items, 1))
    n = len(items)
    above = found["n_significant_among_top"][direction]
    caption = (
        f"Top {n} {direction}-preferring features by {ranking.words}, phase {phase}; n = {found['n_correct']:,} "
        f"correct and {found['n_incorrect']:,} incorrect problems. {above} of {n} exceed what the best of "
        f"{found['n_ranked']:,} features reaches by chance (max-permutation p of 0.05 or less)."
    )
    return Table(caption, _columns(ranking, filtered=filtered), rows)


def _columns(ranking: Ranking, *, filtered: bool) -> tuple[Column, ...]:
    general = (numeric("general text", "share of general texts on which it fires"),) if filtered else ()
    return (
        numeric("rank"),
        numeric("layer"),
        Column("feature", "its index in the layer's SAE; a link leads to Neuronpedia"),
        numeric(ranking.words, ranking.formula),
        numeric("p max", "share of label shuffles whose best feature does as well; this p decides"),
        numeric("fires: correct", "share of correct problems on which it fires"),
        numeric("fires: incorrect", "share of incorrect problems on which it fires"),
        numeric("mean: correct", "mean activation before correct solutions"),
        numeric("mean: incorrect", "mean activation before incorrect solutions"),
        *general,
        numeric("p", "of this feature alone, untouched by how many there are"),
        numeric("q", "Benjamini–Hochberg over all testable features"),
        numeric("rank elsewhere", "in the other ranking's top list of this direction"),
    )


def _row(
    rank: int, item: Item, ranking: Ranking, places_elsewhere: Mapping[tuple[int, int], int], *, filtered: bool
) -> tuple[Cell, ...]:
    general = (percent_cell(item["general_text_frequency"], 2, "not measured"),) if filtered else ()
    return (
        count_cell(rank),
        count_cell(item["layer"]),
        feature_cell(item),
        number_cell(item[ranking.score]),
        p_cell(item["p_max_permutation"]),
        percent_cell(item["f_correct"]),
        percent_cell(item["f_incorrect"]),
        number_cell(item["mean_activation_correct"]),
        number_cell(item["mean_activation_incorrect"]),
        *general,
        p_cell(item["p_value"], "it fires on all problems or on none"),
        p_cell(item["q_value"], "it fires on all problems or on none"),
        _place(places_elsewhere.get((item["layer"], item["feature_idx"]))),
    )


def feature_cell(item: Item) -> Cell:
    """Returns a feature's index, as a link where it has a page that may be linked to."""
    text, url = str(item["feature_idx"]), item["neuronpedia_url"]
    if url is not None and urlsplit(url).scheme == "https":
        return Link(text, url)
    return Number(item["feature_idx"], text)


def _place(rank: int | None) -> Number:
    return Number(None, "–") if rank is None else count_cell(rank)


def best_by_layer(found: Item, ranking: Ranking) -> Table:
    """Returns the best feature of each layer in either direction."""
    columns = [numeric("layer"), numeric("ranked features")]
    for name in DIRECTIONS:
        columns.append(numeric(f"{name}-preferring feature"))
        columns.append(numeric(f"{name}: {ranking.words}"))
    rows = []
    for row in found["best_by_layer"]:
        cells: list[Cell] = [count_cell(row["layer"]), count_cell(row["n_ranked"])]
        for name in DIRECTIONS:
            cells += [_index(row[name]["feature_idx"]), number_cell(row[name]["score"], 3, "no feature is ranked")]
        rows.append(tuple(cells))
    n = counted(found["n_problems"], "problem")
    return Table(f"The best ranked feature of each layer, n = {n}.", tuple(columns), tuple(rows))


def _index(feature: int | None) -> Number:
    return Number(None, "none") if feature is None else Number(feature, str(feature))


def replicated(found: Item) -> Table:
    """Returns the ranked features' separation scores on another split beside those on which they were chosen."""
    columns = (
        Column("direction"),
        numeric("rank"),
        numeric("layer"),
        numeric("feature"),
        numeric("score here", "separation score on this split"),
        numeric("score on sae", "where it was chosen, so the higher one is to be expected there"),
        numeric("fires: correct"),
        numeric("fires: incorrect"),
    )
    rows = [
        (
            direction,
            count_cell(rank),
            count_cell(item["layer"]),
            _index(item["feature_idx"]),
            number_cell(item["separation_score"], 3, item["reason"]),
            number_cell(item["separation_score_sae"]),
            percent_cell(item["f_correct"], 1, item["reason"]),
            percent_cell(item["f_incorrect"], 1, item["reason"]),
        )
        for direction, items in found["features"].items()
        for rank, item in enumerate(items, start=1)
    ]
    caption = (
        f"Separation scores of the ranked features on the {found['split']} split, n = "
        f"{counted(found['n_problems'], 'problem')} ({percent(found['share_correct'])} of the labels correct). "
        "Nothing was chosen here."
    )
    return Table(caption, columns, tuple(rows))


def _filter_words(found: Item) -> str:
    filtered = found["general_text_filter"]
    if not filtered["applied"]:
        return f"no feature is left out: {filtered['reason']}"
    limit = f"{percent(filtered['left_out_from'], 0)} of {filtered['n_texts']:,} texts"
    return f"features that fire on {limit} or more are left out"
