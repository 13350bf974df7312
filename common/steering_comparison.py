"""Both models side by side: what steering along the same directions did to either, and whether it transferred.

Each model fails other problems, so their rates stand on different, overlapping sets of the same split. The differences
carry intervals for independent shares (Newcombe 1998, method 10), which are approximate here. What "transferred" means
is fixed in `RULE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.statistics.permutation import Direction
from common.statistics.steering import OUTCOMES, newcombe_difference

P_LIMIT = 0.05
RATES = ("correction", "corruption", "preservation")
# With fewer controls than nine of a kind no rank says enough.
LARGEST_SMALLEST_P = 0.1
RULE = (
    "a direction transfers if on the instruction-tuned model its primary outcome is above 0 and its rank, among the "
    f"kind of control that it does worse against, has p ≤ {P_LIMIT:g}, or the smallest p that so few controls can "
    f"reach if that is at most {LARGEST_SMALLEST_P:g}"
)


def compare_steering(
    direction: Direction, base: Mapping[str, Any], instruct: Mapping[str, Any], *, whole: bool
) -> dict[str, Any]:
    """Returns one direction's figures on both models, the differences of rates (instruct minus base) and a verdict.

    `base` and `instruct` are one direction of phase 4.8's and of phase 7.6's analysis; without the `whole` split there
    is no verdict.
    """
    holds = {"base": _holds(base) if whole else None, "instruct": _holds(instruct) if whole else None}
    return {
        "feature": instruct["feature"],
        "coefficient": instruct["coefficient"],
        "in_residual_norms": {"base": base["in_residual_norms"], "instruct": instruct["in_residual_norms"]},
        "primary_outcome": OUTCOMES[direction],
        "base": _figures(base),
        "instruct": _figures(instruct),
        "differences": {name: _difference(name, base, instruct) for name in RATES},
        "rule": RULE,
        "transferred": holds["instruct"],
        "holds_on_base": holds["base"],
        "statement": _statement(direction, holds, instruct),
    }


def figure_rows(steering: Mapping[str, Mapping[str, Any]], detection: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """Returns what the plot of both models shows, one row a figure and direction."""
    rows = []
    for direction, entry in detection.items():
        figures = {model: _bar(entry[model]["auroc"], entry[model]["auroc"]["n"]) for model in ("base", "instruct")}
        rows.append({"what": "AUROC", "direction": direction, **figures})
    for name in RATES:
        for direction, entry in steering.items():
            figures = {
                model: _bar(entry[model]["effect"][name], entry[model]["effect"][name]["denominator"])
                for model in ("base", "instruct")
            }
            rows.append({"what": name, "direction": direction, **figures})
    return rows


def _bar(figure: Mapping[str, Any], n: int) -> dict[str, Any]:
    return {"value": figure["value"], "low": figure["low"], "high": figure["high"], "n": n}


def _figures(entry: Mapping[str, Any]) -> dict[str, Any]:
    controls = entry["controls"]
    return {
        "effect": entry["effect"],
        "outcome_on_control_problems": controls["outcome"],
        "n_control_problems": controls["n_problems"],
        "rank_among_controls": controls["rank"],
        "rank_kind": controls["rank_kind"],
    }


def _difference(name: str, base: Mapping[str, Any], instruct: Mapping[str, Any]) -> dict[str, Any]:
    ours, theirs = instruct["effect"][name], base["effect"][name]
    counts = (ours["numerator"], ours["denominator"], theirs["numerator"], theirs["denominator"])
    found = newcombe_difference(*counts)
    interval = {"value": found.value, "low": found.low, "high": found.high}
    return {"of": "instruct minus base", **interval, "reason": found.reason}


def _holds(entry: Mapping[str, Any]) -> bool | None:
    """Whether the rule holds on one model; None without enough controls."""
    rank = entry["controls"]["rank"]
    if rank["p"] is None or rank["smallest_p"] > LARGEST_SMALLEST_P:
        return None
    return rank["target"] > 0 and rank["p"] <= max(P_LIMIT, rank["smallest_p"])


_VERDICT = {
    True: "transferred",
    False: "did not transfer",
    None: "cannot be told to transfer or not (too few controls, or part of the split)",
}


def _statement(direction: Direction, holds: Mapping[str, bool | None], instruct: Mapping[str, Any]) -> str:
    rank, effect = instruct["controls"]["rank"], instruct["effect"]
    among = "no controls"
    if rank["p"] is not None:
        kind = instruct["controls"]["rank_kind"].replace("_", " ")
        among = f"{rank['n_at_least']} of {rank['n_controls']} {kind}s do as well, p = {rank['p']:.3f}"
    words = (
        f"steering along the {direction}-preferring direction {_VERDICT[holds['instruct']]}: {effect['fixes']} of "
        f"{effect['n_failing']} failing solutions fixed, {effect['breaks']} of {effect['n_passing']} passing broken, "
        f"{OUTCOMES[direction]} {rank['target']:.0f} on {instruct['controls']['n_problems']} problems ({among})"
    )
    return words if holds["base"] is not False else f"{words}; the rule does not hold on the base model itself"
