"""The findings on steering and on the instruction-tuned model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from common.runs.artifacts import CROSS_MODEL_COMPARISON, SELECTED_COEFFICIENTS, STEERING_ANALYSIS
from common.wording import NOT_DEFINED, counted, interval, p_value, percent, signed, signed_interval
from report.finding import Finding, f1_words, rate_words
from report.run import Run
from report.steering_words import KINDS, OUTCOME_WORDS, figure, place_words, span_words, whole

ROLES = {"4.8": "base", "7.6": "instruct"}
SECTIONS = {"4.8": "steering", "7.6": "instruct"}
VERDICTS = {True: "transferred", False: "not transferred", None: "cannot be told"}


def coefficients(run: Run) -> Iterator[Finding]:
    """Yields which coefficients phase 4.5 has, and how they came about; nothing while it has chosen none."""
    if not run.has("4.5", SELECTED_COEFFICIENTS):
        return
    chosen = run.json("4.5", SELECTED_COEFFICIENTS)
    for direction, entry in chosen.items():
        where = place_words({"layer": entry["layer"], "index": entry["feature_idx"]})
        norms = f"{figure(entry['in_residual_norms'], '.2f')} of the residual stream's norm"
        words = f"{figure(entry['coefficient'])} ({entry['chosen']}) along {where}, {norms}"
        yield Finding(
            "coefficients", f"coefficient, {direction}", words, _n_of(entry["on_other_problems"]), headline=False
        )


def _n_of(effect: Mapping[str, Any] | None) -> str:
    return "" if effect is None else f"tried on {effect['n']} others"


def steering(run: Run, phase: str) -> Iterator[Finding]:
    """Yields what both directions did to a model's solutions, beside their controls and coefficient 0."""
    if not run.has(phase, STEERING_ANALYSIS):
        return
    analysis = run.json(phase, STEERING_ANALYSIS)
    for direction, entry in analysis["directions"].items():
        effect, name = entry["effect"], f"steering {ROLES[phase]}: {direction}"
        yield Finding(
            SECTIONS[phase],
            name,
            f"net {signed(effect['net'], 0)}: fixed {_of(effect['correction'])}, broke {_of(effect['corruption'])}; "
            f"McNemar p {p_value(effect['mcnemar_p'])}",
            f"n = {effect['n']}",
            control=_controls(direction, entry["controls"]),
            ahead=_rank_words(entry["controls"]["rank"], entry["controls"]["n_problems"]),
            trivial=_floor(analysis["noise_floor"]),
            headline=phase == "4.8",
        )
        yield from _selective(SECTIONS[phase], name, entry["selective"])


def instruct(run: Run) -> Iterator[Finding]:
    """Yields the instruction-tuned model's pass rate beside the base model's."""
    record = run.record("7.3")
    if record is None:
        return
    own, base = record["pass_rates"]["instruct"], record["pass_rates"]["base"]
    n = counted(own["judged"], "problem")
    beside = f"base model {rate_words(base)}, n = {base['judged']}"
    yield Finding("instruct", "pass rate, instruct", rate_words(own), n, control=beside)


def transfer(run: Run) -> Iterator[Finding]:
    """Yields what transferred to the instruction-tuned model."""
    if not run.has("7.6", CROSS_MODEL_COMPARISON):
        return
    comparison = run.json("7.6", CROSS_MODEL_COMPARISON)
    for direction, entry in comparison["detection"].items():
        yield _predictor(direction, entry)
    for direction, entry in comparison["steering"].items():
        own, rank = entry["instruct"], entry["instruct"]["rank_among_controls"]
        outcome = f"{OUTCOME_WORDS[direction]} {whole(own['outcome_on_control_problems'])}"
        yield Finding(
            "instruct",
            f"transfer: {direction} direction",
            f"{VERDICTS[entry['transferred']]}: {outcome}; {_change(direction, entry)}",
            f"n = {own['n_control_problems']}",
            control=_reached(rank, own["rank_kind"]),
            ahead=_rank_words(rank, own["n_control_problems"]),
        )


def _predictor(direction: str, entry: Mapping[str, Any]) -> Finding:
    auroc = entry["instruct"]["auroc"]
    f1, all_so = f1_words(entry["positive"], entry["instruct"]["classification"])
    difference = signed_interval(entry["auroc_difference"])
    return Finding(
        "instruct",
        f"transfer: {direction} predictor",
        f"{VERDICTS[entry['transferred']]}: AUROC {interval(auroc)}{f1}",
        f"n = {auroc['n']}",
        control=f"base model {interval(entry['base']['auroc'])}",
        ahead=f"difference {difference}",
        trivial=all_so,
    )


def _controls(direction: str, controls: Mapping[str, Any]) -> str:
    rank = controls["rank"]
    if rank["p"] is None:
        return "no controls were run"
    return f"{OUTCOME_WORDS[direction]} {whole(rank['target'])}; {_reached(rank, controls['rank_kind'])}"


def _reached(rank: Mapping[str, Any], kind: str) -> str:
    """Returns what the controls reach on the primary outcome."""
    if rank["p"] is None:
        return "no controls were run"
    return f"{rank['n_controls']} {KINDS[kind]} {span_words(rank)}, median {figure(rank['median'])}"


def _rank_words(rank: Mapping[str, Any], n: int) -> str:
    if rank["p"] is None:
        return ""
    return f"rank p {p_value(rank['p'])} (smallest possible {p_value(rank['smallest_p'])}), n = {n}"


def _floor(floor: Mapping[str, Any] | None) -> str:
    return "" if floor is None else f"coefficient 0 flips {floor['fixes'] + floor['breaks']} of {floor['n']}"


def _selective(section: str, name: str, selective: Mapping[str, Any] | None) -> Iterator[Finding]:
    if selective is None or "effect" not in selective:
        return
    effect, what, n = selective["effect"], f"{name}, selective", f"n = {selective['n']}"
    if selective["note"] is not None:
        yield Finding(section, what, selective["note"], n, headline=False)
        return
    did = f"net {signed(effect['net'], 0)}: {effect['fixes']} fixed, {effect['breaks']} broken"
    found = f"{did} ({selective['n_steered']} steered); McNemar p {p_value(effect['mcnemar_p'])}"
    yield Finding(section, what, found, n, headline=False)


def _change(direction: str, entry: Mapping[str, Any]) -> str:
    name, word = ("correction", "fixed") if direction == "correct" else ("corruption", "broken")
    found = entry["differences"][name]
    if found["value"] is None:
        return f"{word} against base {NOT_DEFINED}"
    return f"{word} {points(found)} against base"


def points(difference: Mapping[str, Any]) -> str:
    """Returns a difference of shares in percentage points, with its interval."""
    value, low, high = (signed(100 * difference[name], 1) for name in ("value", "low", "high"))
    return f"{value} points [{low}, {high}]"


def _of(share: Mapping[str, Any]) -> str:
    counts = f"{share['numerator']} of {share['denominator']}"
    return counts if share["value"] is None else f"{counts} [{percent(share['low'], 0)}, {percent(share['high'], 0)}]"
