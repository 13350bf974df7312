"""The closing table's rows on steering and on the instruction-tuned model."""

from __future__ import annotations

from statistics import median
from typing import Any

from common.runs.artifacts import CROSS_MODEL_COMPARISON, SELECTED_COEFFICIENTS, STEERING_ANALYSIS, PhasePaths
from common.runs.discovery import published_json

Row = tuple[str, str, str]


def coefficients(paths: PhasePaths) -> list[Row]:
    """Returns which coefficients phase 4.5 has, and how they came about; nothing while it has chosen none."""
    if not (paths.root / SELECTED_COEFFICIENTS).is_file():
        return []
    chosen = published_json(paths, SELECTED_COEFFICIENTS)
    words = ", ".join(f"{name} {entry['coefficient']:g} ({entry['chosen']})" for name, entry in chosen.items())
    norms = ", ".join(f"{entry['in_residual_norms']:.2f}" for entry in chosen.values())
    return [("steering coefficients", words, f"{norms} of the residual stream's norm")]


def steering(paths: PhasePaths, model: str) -> list[Row]:
    """Returns what both directions did to a model's solutions, beside their controls."""
    analysis = published_json(paths, STEERING_ANALYSIS)
    rows: list[Row] = []
    for direction, entry in analysis["directions"].items():
        effect, feature = entry["effect"], entry["feature"]
        rows.append(
            (
                f"steering {model}: {direction}",
                f"net {effect['net']:+d}: fixed {_of(effect['correction'])}, broke {_of(effect['corruption'])}",
                f"{entry['coefficient']:g} × layer {feature['layer']} feature {feature['index']}, n = {effect['n']}, "
                f"McNemar p {_p(effect['mcnemar_p'])}",
            )
        )
        rows.append(_controls(direction, entry))
        rows.extend(_selective(entry))
    floor = analysis["noise_floor"]
    if floor is not None:
        flipped = floor["fixes"] + floor["breaks"]
        rows.append(("", f"noise floor: coefficient 0 flips {flipped} of {floor['n']}", ""))
    return rows


def instruct(record: dict[str, Any]) -> list[Row]:
    """Returns the instruction-tuned model's pass rate beside the base model's."""
    own, base = record["pass_rates"]["instruct"], record["pass_rates"]["base"]
    return [("pass rate, instruct", _rate(own), f"base: {_rate(base)}; prompts: {record['prompt_format']}")]


def transfer(paths: PhasePaths) -> list[Row]:
    """Returns what transferred to the instruction-tuned model."""
    comparison = published_json(paths, CROSS_MODEL_COMPARISON)
    rows: list[Row] = []
    for direction, entry in comparison["detection"].items():
        auroc, base = entry["instruct"]["auroc"], entry["base"]["auroc"]
        rows.append(
            (
                f"transfer: {direction} predictor",
                f"{_VERDICT[entry['transferred']]}: AUROC {interval(auroc)}",
                f"base model {interval(base)}; n = {auroc['n']}",
            )
        )
    for direction, entry in comparison["steering"].items():
        own = entry["instruct"]
        outcome = f"{_SHORT[direction]} {own['outcome_on_control_problems']} on {own['n_control_problems']} problems"
        verdict = f"{_VERDICT[entry['transferred']]}: {outcome}"
        rows.append((f"transfer: {direction} direction", verdict, _change(direction, entry)))
    return rows


def planted(answers: dict[str, Any]) -> list[Row]:
    """Returns how many of the broken solutions carry the planted bug, beside the controls'."""
    rows: list[Row] = []
    for phase, found in answers.get("steering", {}).items():
        entry = found["directions"]["incorrect"]
        own, beside = entry["control_problems"]["target"], entry["control_problems"]["controls"].values()
        shares = [item["intended_share_of_breaks"]["value"] for item in beside]
        known = sorted(share for share in shares if share is not None)
        counts = f"planted bug in {own['intended']} of {own['breaks']} breaks"
        controls = "no control broke anything"
        if known:
            controls = f"{len(known)} controls: {known[0]:.0%} to {known[-1]:.0%}, median {median(known):.0%}"
        share = own["intended_share_of_breaks"]["value"]
        own_share = "" if share is None else f" ({share:.0%})"
        role = found["model"]["role"]
        rows.append((f"truth: steering, {role}", f"{counts}{own_share}", f"{controls}, phase {phase}"))
    return rows


_SHORT = {"correct": "fixes − breaks", "incorrect": "breaks that parse"}
_VERDICT = {True: "yes", False: "no", None: "cannot be told"}


def _controls(direction: str, entry: dict[str, Any]) -> Row:
    controls = entry["controls"]
    rank = controls["rank"]
    if rank["p"] is None:
        return ("", "no controls were run", "")
    return (
        "",
        f"{_SHORT[direction]} {rank['target']:.0f}; {rank['n_controls']} {controls['rank_kind'].replace('_', ' ')}s: "
        f"{rank['minimum']:.0f} to {rank['maximum']:.0f}, median {rank['median']:g}",
        f"n = {controls['n_problems']}, rank p {rank['p']:.3f} (smallest possible {rank['smallest_p']:.3f})",
    )


def _selective(entry: dict[str, Any]) -> list[Row]:
    selective = entry["selective"]
    if selective is None or "effect" not in selective:
        return []
    effect = selective["effect"]
    if selective["note"] is not None:
        return [("", f"only where predicted: {selective['note']}", "")]
    text = f"only where predicted: net {effect['net']:+d}, {effect['fixes']} fixed, {effect['breaks']} broken"
    steered = f"{selective['n_steered']} of {selective['n']} steered"
    return [("", text, f"{steered}, McNemar p {_p(effect['mcnemar_p'])}")]


def _change(direction: str, entry: dict[str, Any]) -> str:
    name, word = ("correction", "fixed") if direction == "correct" else ("corruption", "broken")
    found = entry["differences"][name]
    if found["value"] is None:
        return f"share {word}: not defined"
    return f"share {word}, instruct − base: {found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _of(share: dict[str, Any]) -> str:
    if share["value"] is None:
        return f"{share['numerator']} of {share['denominator']}"
    return f"{share['numerator']} of {share['denominator']} [{share['low']:.0%}, {share['high']:.0%}]"


def _rate(rate: dict[str, Any]) -> str:
    if rate["pass_rate"] is None:
        return f"not known ({rate['reason']})"
    return f"{rate['pass_rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}] of {rate['judged']}"


def interval(estimate: dict[str, Any]) -> str:
    """Returns an estimate with its interval in words."""
    if estimate["value"] is None:
        return "not defined"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
