"""Which SAE features go with correct and with incorrect solutions, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.runs.artifacts import FEATURE_SCORES, REPLICATION, SAE_ANALYSIS, SPLITS, TOP_FEATURES, PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.metadata import read_record
from common.statistics.permutation import DIRECTIONS
from common.wording import counted, p_value, percent
from report.blocks import Block, Details, Missing, Section, Table, Text
from report.feature_tables import Ranking, best_by_layer, chance_level, facts, replicated, top_table
from report.figures import published
from report.run import Run
from report.wording import listed, partial_notes

ID, TITLE = "features", "Which features tell correct from incorrect problems?"
SIGNIFICANT = 0.05
RANKINGS = {
    "2.5": Ranking(
        "separation_score", "separation score", "steering", "share of correct − share of incorrect it fires on"
    ),
    "2.10": Ranking("t_statistic", "Welch's t", "prediction", "of the activations, correct against incorrect problems"),
}
Best = tuple[str, str, Mapping[str, Any]]  # phase, direction, feature


def section(run: Run) -> Section | Missing | None:
    """Returns the ranked features of phases 2.5 and 2.10, with what shuffled labels reach."""
    made = [phase for phase in RANKINGS if run.record(phase) is not None]
    if not made:
        return run.missing(ID, TITLE, *RANKINGS)
    blocks: list[Block] = [*partial_notes(run, "2.2", *made)]
    for phase, ranking in RANKINGS.items():
        if phase in made:
            blocks += _of_phase(run, phase, ranking)
        else:
            words = f"Features for {ranking.purpose} have not been ranked. To rank them: {run.command(phase)}"
            blocks.append(Text(words, "warning"))
    return Section(ID, TITLE, _lead(run, made), tuple(blocks))


def _lead(run: Run, phases: list[str]) -> str:
    """Returns the best features of each ranking, and which of them could be chance."""
    found = run.json(phases[0], SAE_ANALYSIS)
    best = [(phase, name, items[0]) for phase in phases for name, items in _tops(run, phase).items() if items]
    if not best:
        return f"No feature could be ranked on {counted(found['n_problems'], 'problem')}."
    first = best[0]
    sizes = {"correct": f" of {found['n_correct']:,}", "incorrect": f" of {found['n_incorrect']:,}"}
    words = [
        _best_words(phase, [item for item in best if item[0] == phase], sizes if phase == first[0] else {})
        for phase in phases
    ]
    return " ".join([*filter(None, words), _verdict(best, found)])


def _tops(run: Run, phase: str) -> Mapping[str, list[Mapping[str, Any]]]:
    return run.json(phase, TOP_FEATURES)


def _best_words(phase: str, best: list[Best], sizes: Mapping[str, str]) -> str:
    """Returns a ranking's best features; the first that is named says of how many problems its shares are."""
    parts = []
    for _, direction, item in best:
        correct, incorrect = percent(item["f_correct"], 0), percent(item["f_incorrect"], 0)
        if parts or not sizes:
            fires = f"({correct} and {incorrect})"
        else:
            n_correct, n_incorrect = sizes["correct"], sizes["incorrect"]
            fires = f"(fires on {correct}{n_correct} correct and {incorrect}{n_incorrect} incorrect problems)"
        parts.append(f"{direction}-preferring layer {item['layer']}, feature {item['feature_idx']} {fires}")
    return f"Best for {RANKINGS[phase].purpose}, by {RANKINGS[phase].words}: {listed(parts)}." if parts else ""


def _verdict(best: list[Best], found: Mapping[str, Any]) -> str:
    """Returns which of the best features could be chance, by the permutation p that decides."""
    chance = [item for item in best if item[2]["p_max_permutation"] > SIGNIFICANT]
    how = f"the best of {found['n_ranked']:,} features under shuffled labels"
    if not chance:
        largest = max(item["p_max_permutation"] for _, _, item in best)
        return f"All of them exceed {how} (max-permutation p ≤ {p_value(largest)})."
    words = [
        f"layer {item['layer']}, feature {item['feature_idx']} by {RANKINGS[phase].words} "
        f"(p = {p_value(item['p_max_permutation'])})"
        for phase, _, item in chance
    ]
    return f"It could be chance, for {how} do as well: {listed(words)}."


def _of_phase(run: Run, phase: str, ranking: Ranking) -> list[Block]:
    found, tops = run.json(phase, SAE_ANALYSIS), run.json(phase, TOP_FEATURES)
    head = f"Features for {ranking.purpose} (phase {phase}): {ranking.formula}."
    blocks: list[Block] = [Text(head), *(Text(f"{text}.", "warning") for text in found["site_misfits"])]
    blocks.append(facts(found, ranking))
    blocks += published(run, phase, f"{ranking.score}_by_layer", *_landscape(found, ranking))
    blocks += published(run, phase, "firing_frequencies", *_frequencies(found))
    places = _places_elsewhere(run, phase)
    blocks += [top_table(phase, name, tops[name], found, ranking, places[name]) for name in DIRECTIONS]
    blocks.append(Details(f"Best feature of each layer, by {ranking.words}", (best_by_layer(found, ranking),)))
    if phase == "2.5":
        blocks += [Details(f"Measured again on the {split} split", (table,)) for split, table in _replications(run)]
    blocks.append(Text(f"Every feature of every layer: {run.root(phase) / FEATURE_SCORES}", "note"))
    return blocks


def _places_elsewhere(run: Run, phase: str) -> dict[str, dict[tuple[int, int], int]]:
    """Returns the rank of each direction's features in the other ranking, none where that has not been made."""
    other = next(name for name in RANKINGS if name != phase)
    if run.record(other) is None:
        return {name: {} for name in DIRECTIONS}
    return {
        name: {(item["layer"], item["feature_idx"]): rank for rank, item in enumerate(items, start=1)}
        for name, items in run.json(other, TOP_FEATURES).items()
    }


def _landscape(found: Mapping[str, Any], ranking: Ranking) -> tuple[str, str]:
    null = found["permutation_null"]
    caption = (
        f"Best {ranking.words} of each layer in either direction; n = {counted(found['n_problems'], 'problem')}, "
        f"{found['n_ranked']:,} ranked features. Dashed: what the best of all features reaches in 5\u00a0% of "
        f"{null['n_permutations']:,} shuffles of the labels."
    )
    words = [_best_layer(found, name) for name in DIRECTIONS]
    return caption, f"Line plot by layer. {'; '.join(filter(None, words)) or 'No feature was ranked'}."


def _best_layer(found: Mapping[str, Any], direction: str) -> str:
    scores = {row["layer"]: row[direction]["score"] for row in found["best_by_layer"]}
    known = {layer: score for layer, score in scores.items() if score is not None}
    if not known:
        return ""
    layer = max(known, key=lambda one: known[one])
    chance = chance_level(found, direction).text
    return f"{direction}-preferring features are best in layer {layer} ({known[layer]:.3f}; by chance {chance})"


def _frequencies(found: Mapping[str, Any]) -> tuple[str, str]:
    caption = (
        f"How often each of {found['n_features']:,} features fires before correct (n = {found['n_correct']:,}) and "
        f"before incorrect solutions (n = {found['n_incorrect']:,}), also those not ranked; the top ones are marked."
    )
    return (
        caption,
        "Scatter plot: features on the diagonal fire equally often in both classes, the marked ones lie off it.",
    )


def _replications(run: Run) -> list[tuple[str, Table]]:
    """Returns the tables of `--split`, which stand beside phase 2.5's own output with records of their own."""
    found = []
    for split in SPLITS:
        paths = PhasePaths(run.root("2.5") / "by_split" / split)
        record = read_record(paths)
        if record is not None:
            found.append((split, replicated(PhaseOutput("2.5", paths, record).json(REPLICATION))))
    return found
