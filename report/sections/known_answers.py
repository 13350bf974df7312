"""What the phases found against the planted truth of the bundled tiny model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from common.runs.artifacts import STEERING_ANALYSIS, TOP_FEATURES
from common.wording import NOT_DEFINED, percent, signed
from report.blocks import Block, Cell, Column, Details, Missing, Number, Section, Table, Text
from report.run import Run
from report.steering_words import ONE, brief_cell, place_words
from report.truth_findings import SECTION, control_shares, known_answers
from report.wording import count_cell, difference_cell, estimate_cell, estimated, number_cell, p_cell, rate

ID, TITLE = SECTION, "Did the pipeline find what was planted?"
WHO = {"base": "base", "instruct": "instruction-tuned"}

Answers = Mapping[str, Any]


def section(run: Run) -> Section | Missing | None:
    """Returns the findings beside the planted truth; None without `known_answers.json`."""
    answers = known_answers(run)
    if answers is None:
        return None
    blocks: list[Block] = [*_outdated(run, answers), Text(EXPLAINED), _pass_table(answers)]
    blocks.append(_feature_table(answers))
    if "detection" in answers:
        blocks.append(_detection_table(answers["detection"]))
    steering = answers["steering"]
    if steering:
        blocks += [_bug_table(steering), Text(BUGS, "note"), *_every_control(steering)]
    return Section(ID, TITLE, _lead(answers), tuple(blocks))


EXPLAINED = (
    "The tiny model was trained so that a hidden variable of each prompt, how carelessly it is asked, decides whether "
    "the solution carries a bug. No phase reads that variable; this page compares what they found with it. Features "
    "are judged on the problems that they were chosen on, predictors on held-out ones."
)
BUGS = (
    "Each problem has a bug that the tiny model was trained to make where it was asked carelessly. Any large push "
    "breaks solutions; only a push along what was planted should break them in that way. The correct direction is not "
    "expected to: it is judged by what it fixes."
)


def _lead(answers: Answers) -> str:
    parts = []
    if "detection" in answers:
        found = answers["detection"]
        told = [
            f"the {direction}-preferring predictor has {estimated(item['auroc'])}, {item['share_of_ceiling']:.2f} of it"
            for direction, item in found["features"].items()
        ]
        allow = f"the wording cues allow an AUROC of {found['ceiling_auroc']:.3f} at best"
        parts.append(f"Held out (n = {found['n']:,}), {allow}: {', and '.join(told)}.")
    else:
        parts.append(
            "Phase 3.8 has not been run, so nothing held out can be compared; the features are judged in-sample."
        )
    first = next(iter(answers["steering"].values()), None)
    parts.append("No steering phase has been run." if first is None else _bug_sentence(first))
    return " ".join(parts)


def _bug_sentence(found: Answers) -> str:
    entry = found["directions"]["incorrect"]
    own, shares = entry["control_problems"]["target"], control_shares(entry)
    who = WHO[found["model"]["role"]]
    if not own["breaks"]:
        return f"Steering the {who} model along the incorrect direction broke nothing, so no bug can be looked for."
    planted = rate(own["intended"], own["breaks"])
    beside = "no control broke anything" if entry["control_problems"]["controls"] else "no controls were run"
    if shares:
        beside = (
            f"{len(shares)} controls: {percent(shares[0])} to {percent(shares[-1])}, median {percent(median(shares))}"
        )
    return (
        f"Of the solutions of the {who} model that steering along the incorrect direction broke, {planted} carry the "
        f"planted bug ({beside})."
    )


def _outdated(run: Run, answers: Answers) -> tuple[Text, ...]:
    """Returns a warning where a phase has been run again since the answers were written."""
    changed = [phase for phase, same in _compared_with_phases(run, answers) if not same]
    if not changed:
        return ()
    phases = ", ".join(dict.fromkeys(changed))
    words = f"This page is older than phase {phases}: its figures are of an earlier run. Run the pipeline again"
    return (Text(f"{words} to renew it.", "warning"),)


def _compared_with_phases(run: Run, answers: Answers) -> Iterator[tuple[str, bool]]:
    if run.has("2.5", TOP_FEATURES):
        best = {name: items[0] for name, items in run.json("2.5", TOP_FEATURES).items() if items}
        for direction, item in answers["features"].items():
            names = ("layer", "feature_idx", "p_max_permutation")
            yield "2.5", direction in best and all(best[direction][name] == item[name] for name in names)
    for phase, found in answers["steering"].items():
        if run.has(phase, STEERING_ANALYSIS):
            for direction, entry in run.json(phase, STEERING_ANALYSIS)["directions"].items():
                own, now = found["directions"][direction]["all_problems"], entry["effect"]
                yield phase, all(own[name] == now[name] for name in ("n_failing", "n_passing", "fixes", "breaks"))


def _pass_table(answers: Answers) -> Table:
    rows = tuple(
        (_CARE[name], count_cell(found["n"]), _pass_cell(found)) for name, found in answers["pass_rate"].items()
    )
    columns = (Column("problems"), Column("n", "", True), Column("solved", "95 % Wilson interval", True))
    return Table(f"Pass rate on the {answers['split']} split by how the problem was asked.", columns, rows)


_CARE = {"all": "all", "careful": "asked with care", "careless": "asked carelessly"}


def _pass_cell(found: Answers) -> Number:
    if found["rate"] is None:
        return Number(None, f"{NOT_DEFINED} (no such problem)")
    return Number(found["rate"], f"{percent(found['rate'])} [{percent(found['low'])}, {percent(found['high'])}]")


def _feature_table(answers: Answers) -> Table:
    rows = tuple(
        (
            direction,
            place_words({"layer": item["layer"], "index": item["feature_idx"]}),
            count_cell(item["n"]),
            number_cell(item["auroc_for_label"]),
            number_cell(answers["ceiling"]["auroc"]),
            number_cell(item["auroc_for_carelessness"]),
            Number(item["spearman_with_carelessness"], signed(item["spearman_with_carelessness"])),
            p_cell(item["p_max_permutation"]),
        )
        for direction, item in answers["features"].items()
    )
    columns = (
        *(Column("feature"), Column("place"), Column("n", "problems of the split", True)),
        Column("AUROC for the label", "whether the solution passes (or fails)", True),
        Column("what cues allow", answers["ceiling"]["what"], True),
        Column("AUROC for care", "whether the hidden variable is below (or above) 0", True),
        Column("rank correlation", "of the activation with carelessness", True),
        Column("max-permutation p", "among every feature that was ranked", True),
    )
    return Table(
        f"The best steering features on the {answers['split']} split, on which they were chosen.", columns, rows
    )


def _detection_table(found: Answers) -> Table:
    rows = tuple(
        (
            direction,
            estimate_cell(item["auroc"]),
            number_cell(found["ceiling_auroc"]),
            number_cell(item["share_of_ceiling"], 2),
            "yes" if item["reaches_0_9_of_ceiling"] else "no",
            difference_cell(item["ahead_of_random_directions"]),
            difference_cell(item["ahead_of_matched_features"]),
            Number(item["spearman_with_carelessness"], signed(item["spearman_with_carelessness"])),
        )
        for direction, item in found["features"].items()
    )
    columns = (
        *(Column("predictor"), Column("AUROC", "95 % interval: bootstrap over problems", True)),
        Column(
            "what cues allow", "AUROC of the exact posterior of a bug given the wording cues and the difficulty", True
        ),
        *(Column("share of it", "", True), Column("≥ 0.9", "whether it reaches 0.9 of what the cues allow")),
        Column("ahead of random", "AUROC less the median of the random directions", True),
        Column(
            "ahead of matched",
            "AUROC less the median of the layer's features nearest in firing rate, which may fire far less often",
            True,
        ),
        Column("rank correlation", "of the score with carelessness", True),
    )
    return Table(f"The predictors held out, on the {found['split']} split; n = {found['n']:,} problems.", columns, rows)


def _bug_table(steering: Mapping[str, Answers]) -> Table:
    rows = tuple(
        (f"{phase}, {found['model']['role']}", direction, *_bug_cells(entry))
        for phase, found in steering.items()
        for direction, entry in found["directions"].items()
    )
    columns = (
        *(Column("phase, model"), Column("direction")),
        Column("planted, of breaks", "breaks that carry the planted bug, on all problems", True),
        Column("n", "problems of the controls", True),
        Column("planted, there", "the same on these problems", True),
        Column("controls", "median share of the planted bug in breaks, of controls that broke anything", True),
        Column("least to most", "of the same shares"),
        Column("beats all", "whether it beats every control on the primary outcome"),
        Column("rank p", "by the number of planted bugs, among both kinds of controls", True),
        Column("smallest p", "", True),
    )
    return Table("How many of the broken solutions carry the planted bug. Brackets: 95 % Wilson.", columns, rows)


def _bug_cells(entry: Answers) -> tuple[Cell, ...]:
    shares, rank, beats = control_shares(entry), entry["rank_by_intended_bugs"], entry["beats_every_control"]
    there = entry["control_problems"]
    return (
        brief_cell(entry["all_problems"]["intended_share_of_breaks"]),
        count_cell(there["n"]),
        brief_cell(there["target"]["intended_share_of_breaks"]),
        Number(median(shares), percent(median(shares), 0)) if shares else Number(None, NOT_DEFINED),
        f"{percent(shares[0], 0)} to {percent(shares[-1], 0)}" if shares else "no control broke anything",
        "no controls" if beats is None else "yes" if beats else "no",
        p_cell(rank["p"], rank["reason"]),
        number_cell(rank["smallest_p"]),
    )


def _every_control(steering: Mapping[str, Answers]) -> tuple[Block, ...]:
    rows = tuple(
        (
            *(phase, direction, ONE[item["kind"]], name),
            *(count_cell(item[key]) for key in ("fixes", "breaks", "intended")),
            brief_cell(item["intended_share_of_breaks"]),
        )
        for phase, found in steering.items()
        for direction, entry in found["directions"].items()
        for name, item in entry["control_problems"]["controls"].items()
    )
    columns = (
        *(Column("phase"), Column("direction"), Column("control"), Column("condition")),
        *(Column("fixes", "", True), Column("breaks", "", True), Column("planted bug", "", True)),
        Column("share of breaks", "95 % Wilson interval", True),
    )
    if not rows:
        return ()
    table = Table(f"{len(rows)} controls against the planted bugs.", columns, rows, searchable=True)
    return (Details(f"All {len(rows)} controls against the planted bugs", (table,)),)
