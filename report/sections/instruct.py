"""What of the base model's features holds on the instruction-tuned sibling (phases 7.3 and 7.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.runs.artifacts import CROSS_MODEL_COMPARISON, STEERING_ANALYSIS, PhasePaths
from common.steering_comparison import P_LIMIT
from common.wording import p_value
from report.blocks import Block, Cell, Column, Details, Facts, Figure, Missing, Number, Section, Table, Text
from report.run import Run
from report.sections.steering import nothing_steered, steering_blocks
from report.steering_findings import points
from report.steering_words import (
    OUTCOME_WORDS,
    effect_sentences,
    figure,
    median_cell,
    net_cell,
    place_words,
    span_words,
    whole,
)
from report.wording import (
    because,
    count_cell,
    difference_cell,
    estimate_cell,
    listed,
    number_cell,
    p_cell,
    partial_notes,
    percent_cell,
    rate,
    rate_cell,
    share_cell,
)

ID, TITLE = "instruct", "Does it hold for the instruction-tuned model?"
BASELINE, STEERED = "7.3", "7.6"
MODELS = {"base": "base", "instruct": "instruct"}
RATES = {"correction": "fixed, of failing", "corruption": "broken, of passing", "preservation": "kept, of passing"}

Comparison = Mapping[str, Any]


def section(run: Run) -> Section | Missing | None:
    """Returns both models side by side; None where the profile names no instruction-tuned model."""
    record = run.record(BASELINE)
    if record is None:
        no_model = run.config.phase7_3_model_name is None
        return None if no_model else run.missing(ID, TITLE, BASELINE)
    blocks: list[Block] = [*partial_notes(run, BASELINE, STEERED), _pass_rates(record), *_fit(run, record)]
    lead = _rate_sentence(record)
    if run.record(STEERED) is None:
        found = run.missing(ID, TITLE, STEERED)
        assert found is not None
        return Section(ID, TITLE, f"{lead} {found.why}", (*blocks, Text(f"To steer it, run: {found.command}", "note")))
    if not run.has(STEERED, CROSS_MODEL_COMPARISON):
        return Section(ID, TITLE, f"{lead} {nothing_steered(run, STEERED)}", tuple(blocks))
    comparison = run.json(STEERED, CROSS_MODEL_COMPARISON)
    return Section(ID, TITLE, f"{lead} {_transfer_sentence(comparison)}", (*blocks, *_compared(run, comparison)))


def _rate_sentence(record: Mapping[str, Any]) -> str:
    own, base = record["pass_rates"]["instruct"], record["pass_rates"]["base"]
    return f"The instruction-tuned model solves {_rate_words(own)}, the base model {_rate_words(base)}."


def _rate_words(found: Mapping[str, Any]) -> str:
    if found["pass_rate"] is None:
        return f"a share that is not known ({found['reason']})"
    return rate(found["passed"], found["judged"])


def _transfer_sentence(comparison: Comparison) -> str:
    parts = [_verdicts("predictors", comparison["detection"]), _verdicts("steering directions", comparison["steering"])]
    part = "" if comparison["complete"] else " Part of the split was run, so no steering direction has a verdict."
    return f"Of the base model's features, {'; '.join(parts)}{_few_controls(comparison)}.{part}"


def _few_controls(comparison: Comparison) -> str:
    """Returns the caveat that a verdict on steering rests on too few controls for a p of 0.05."""
    ranks = [entry["instruct"]["rank_among_controls"] for entry in comparison["steering"].values()]
    smallest = max((rank["smallest_p"] for rank in ranks if rank["p"] is not None), default=0.0)
    if smallest <= P_LIMIT or not any(entry["transferred"] for entry in comparison["steering"].values()):
        return ""
    return f" (by a rank that so few controls can bring to p = {p_value(smallest)} at best)"


def _verdicts(what: str, found: Mapping[str, Comparison]) -> str:
    """Returns how many of `found` transferred, by name where they differ."""
    of: dict[bool | None, list[str]] = {}
    for direction, entry in found.items():
        of.setdefault(entry["transferred"], []).append(direction)
    if len(of) == 1:
        return f"{'both' if len(found) == 2 else 'all'} {what} {_ALL[next(iter(of))]}"
    return ", ".join(f"the {listed(names)} of the {what} {_ONE[verdict]}" for verdict, names in of.items())


_ALL = {True: "transferred", False: "failed to transfer", None: "cannot be told to transfer or not"}
_ONE = {True: "transferred", False: "did not transfer", None: "cannot be told to transfer or not"}


def _pass_rates(record: Mapping[str, Any]) -> Table:
    rates, base = record["pass_rates"], record["base"]
    names = {"instruct": record["model"]["name"], "base": "not run" if base is None else base["model"]}
    forms = {"instruct": record["prompt_format"], "base": "–" if base is None else base["prompt_format"]}
    rows = tuple(
        (word, names[key], forms[key], count_cell(rates[key]["judged"]), _rate_cell(rates[key]))
        for key, word in (("instruct", "instruction-tuned"), ("base", "base"))
    )
    columns = (
        *(Column("model"), Column("name"), Column("prompts", "the form in which problems are put")),
        *(Column("n", "judged problems", True), Column("solved", "at temperature 0", True)),
    )
    return Table("Pass rates on the same problems of the validation split; brackets: 95 % Wilson.", columns, rows)


def _rate_cell(found: Mapping[str, Any]) -> Number:
    if found["pass_rate"] is None:
        return Number(None, because(found["reason"]))
    return rate_cell(found["passed"], found["judged"])


def _fit(run: Run, record: Mapping[str, Any]) -> tuple[Block, ...]:
    """Returns how well the base model's SAEs read the instruction-tuned model's stream, beside the base model's."""
    fit = record["sae_fit"]
    if fit["layers"] is None:
        return (Text(f"How well the SAEs fit this model was not measured: {fit['reason']}.", "note"),)
    base = _base_fit(run)
    rows = tuple(_fit_row(entry, base.get(entry["layer"])) for entry in fit["layers"])
    columns = (
        Column("layer", "", True),
        Column("unexplained, instruct", "fraction of variance that the SAE leaves unexplained", True),
        Column("unexplained, base", "the same on the model that the SAE was trained on (phase 1.0)", True),
        Column("L0, instruct", "features that fire on a token, mean", True),
        Column("L0, base", "", True),
        Column("dead, instruct", "features that fire on no token", True),
        Column("dead, base", "", True),
        Column("tokens", "of the instruction-tuned model", True),
    )
    caption = f"Fit of the base model's SAEs on {fit['n_problems']} prompts. Reported only: {record['sae_note']}."
    return (Table(caption, columns, rows),)


def _base_fit(run: Run) -> dict[int, Mapping[str, Any]]:
    name = PhasePaths(run.root("1.0")).sae_fit.name
    return {entry["layer"]: entry for entry in run.json("1.0", name)["layers"]} if run.has("1.0", name) else {}


def _fit_row(own: Mapping[str, Any], base: Mapping[str, Any] | None) -> tuple[Cell, ...]:
    reason = "phase 1.0 has no figure of this layer"
    cells: list[Cell] = [count_cell(own["layer"])]
    for key, cell, decimals in (
        ("fraction_unexplained", number_cell, 3),
        ("mean_l0", number_cell, 1),
        ("dead_share", percent_cell, 1),
    ):
        cells += [cell(own[key], decimals), cell(None if base is None else base[key], decimals, reason)]
    return (*cells, count_cell(own["n_tokens"]))


def _compared(run: Run, comparison: Comparison) -> tuple[Block, ...]:
    caption = (
        "Detection and steering of both models, same features, thresholds and coefficients, with 95 % intervals; n of "
        "each figure stands at the right."
    )
    analysis = run.json(STEERED, STEERING_ANALYSIS)
    steered = effect_sentences(analysis["directions"])
    return (
        Facts(tuple(_statements(comparison))),
        Figure(run.svg(STEERED, "both_models.svg"), caption, f"{caption} The figures stand in the tables below."),
        _detection_table(comparison),
        _steering_table(comparison),
        _rank_table(comparison),
        Text(f"Rules. Detection: {_rule(comparison['detection'])}. Steering: {_rule(comparison['steering'])}.", "note"),
        Details(
            "Steering the instruction-tuned model, in full", (Text(steered), *steering_blocks(run, STEERED, analysis))
        ),
    )


def _rule(found: Mapping[str, Comparison]) -> str:
    return next(iter(found.values()))["rule"]


def _statements(comparison: Comparison) -> list[tuple[str, Cell]]:
    rows: list[tuple[str, Cell]] = []
    for what, key in (("Detection", "detection"), ("Steering", "steering")):
        for name, entry in comparison[key].items():
            rows.append((f"{what}, {name}-preferring", entry["statement"]))
    return rows


def _detection_table(comparison: Comparison) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for direction, entry in comparison["detection"].items():
        for key, model in MODELS.items():
            difference = difference_cell(entry["auroc_difference"]) if key == "instruct" else Number(None, "–")
            rows.append((direction, model, *_detection_cells(entry[key]), difference))
    columns = (
        *(Column("predictor"), Column("model"), Column("n", "problems", True)),
        Column("AUROC", "95 % interval: bootstrap over problems", True),
        Column("random", "median AUROC of random directions", True),
        Column("regression", "AUROC of logistic regression on the raw residual of the base model's sae split", True),
        Column("F1", "at the threshold tuned on the base model's hyperparameter split", True),
        Column("F1, all so", "of calling everything positive: the trivial baseline", True),
        Column("balanced", "accuracy; 0.5 is chance", True),
        Column("AUROC, instruct − base", "paired over problems that have a label in both models", True),
    )
    places = "; ".join(f"{name}: {place_words(entry['feature'])}" for name, entry in comparison["detection"].items())
    return Table(f"Detection on either model's validation solutions ({places}).", columns, tuple(rows))


def _detection_cells(found: Mapping[str, Any]) -> tuple[Cell, ...]:
    at, rivals = found["classification"], found["rivals"]
    reason = found["reason"] or "no threshold"
    return (
        count_cell(found["n"]),
        estimate_cell(found["auroc"]),
        *(number_cell(rivals[name]["auroc"]["median"], 3, rivals[name]["reason"]) for name in _RIVALS),
        *(number_cell(None if at is None else at[key], 3, reason) for key in _FIGURES),
    )


_RIVALS = ("random directions", "logistic regression")
_FIGURES = ("f1", "f1_all_positive", "balanced_accuracy")


def _steering_table(comparison: Comparison) -> Table:
    rows = tuple(
        (
            direction,
            word,
            share_cell(entry["base"]["effect"][key]),
            share_cell(entry["instruct"]["effect"][key]),
            _points_cell(entry["differences"][key]),
        )
        for direction, entry in comparison["steering"].items()
        for key, word in RATES.items()
    )
    columns = (
        *(Column("direction"), Column("share"), Column("base", "", True), Column("instruction-tuned", "", True)),
        Column("instruct − base", "Newcombe's 95 % interval; approximate, since the problems overlap", True),
    )
    return Table("Steering both models with the same directions and coefficients.", columns, rows)


def _points_cell(difference: Mapping[str, Any]) -> Number:
    if difference["value"] is None:
        return Number(None, because(difference["reason"]))
    return Number(difference["value"], points(difference))


def _rank_table(comparison: Comparison) -> Table:
    rows = tuple(
        (f"{direction}: {OUTCOME_WORDS[direction]}", model, *_rank_cells(entry[key]))
        for direction, entry in comparison["steering"].items()
        for key, model in MODELS.items()
    )
    columns = (
        *(Column("direction: outcome"), Column("model"), Column("net", "fixes − breaks, all problems", True)),
        *(Column("n", "problems of the controls", True), Column("reaches", "on these problems", True)),
        *(Column("controls", "", True), Column("their median", "", True), Column("least to most")),
        Column("rank p", "among the kind of control that it does worse against", True),
        Column("smallest p", "what so many controls can reach at best", True),
    )
    norms = "; ".join(
        f"{name}: {listed(figure(norm, '.2f') for norm in entry['in_residual_norms'].values())}"
        for name, entry in comparison["steering"].items()
    )
    caption = (
        "Both models' primary outcome beside their controls. The coefficients in mean norms of either model's stream"
    )
    return Table(f"{caption}: {norms}.", columns, rows)


def _rank_cells(found: Mapping[str, Any]) -> tuple[Cell, ...]:
    rank, outcome = found["rank_among_controls"], found["outcome_on_control_problems"]
    return (
        net_cell(found["effect"]["net"]),
        count_cell(found["n_control_problems"]),
        Number(outcome, whole(outcome)),
        count_cell(rank["n_controls"]),
        median_cell(rank),
        span_words(rank),
        p_cell(rank["p"], rank["reason"]),
        number_cell(rank["smallest_p"]),
    )
