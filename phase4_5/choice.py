"""What each coefficient did, and which one to take.

For the correct direction the coefficient with the largest fixes − breaks is suggested; for the incorrect one that with
the most breaks that still parse beyond what random directions of equal norm break. Whether flip rate and parsing lie in
the range looked for is said beside it, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.code_survival import char_similarity, defines, length_ratio, token_similarity
from common.conditions import RANDOM_DIRECTION, TARGET
from common.statistics.permutation import Direction
from common.statistics.steering import share
from common.steering_effects import SteeredArm, chosen, failure_modes

FLIP_RATE_LOOKED_FOR = (0.20, 0.60)
PARSING_LOOKED_FOR = 0.80


class Choice(NamedTuple):
    """A direction's coefficient, whether it was suggested or chosen by hand, and why."""

    coefficient: float
    how: str
    rationale: str


class Divergence(NamedTuple):
    """How far steered solutions are from the baseline's: means over problems, None where there are none."""

    mean_token_similarity: float | None
    mean_char_similarity: float | None
    mean_length_ratio: float | None


def generation_divergence(baseline: Sequence[str], steered: Sequence[str]) -> Divergence:
    """Returns mean similarities (SequenceMatcher ratios, 1 for equal code) and the mean ratio of lengths."""
    pairs = list(zip(baseline, steered, strict=True))
    ratios = [ratio for one, other in pairs if (ratio := length_ratio(other, one)) is not None]
    return Divergence(
        _mean([token_similarity(one, other) for one, other in pairs]),
        _mean([char_similarity(one, other) for one, other in pairs]),
        _mean(ratios),
    )


def coefficient_report(
    arms: Sequence[SteeredArm],
    direction: Direction,
    coefficient: float,
    codes: Mapping[str, Mapping[int, tuple[str, str]]],
    entry_points: Mapping[int, str],
    residual_norm: float,
) -> dict[str, Any]:
    """Returns what one coefficient did in one direction, with the random directions of equal norm beside it.

    `codes` gives, by condition and position, the baseline's and the steered code; `entry_points` the asked-for name.
    """
    (target,) = [arm for arm in chosen(arms, TARGET, direction) if arm.condition["coefficient"] == coefficient]
    controls = [arm for arm in chosen(arms, RANDOM_DIRECTION, direction) if arm.condition["coefficient"] == coefficient]
    pairs = [codes[target.condition["condition"]][position] for position in target.positions.tolist()]
    return {
        "coefficient": coefficient,
        "in_residual_norms": coefficient / residual_norm,
        "effect": target.flips().as_dict(),
        "defines_function": _defining(target, codes, entry_points),
        **generation_divergence([one for one, _ in pairs], [other for _, other in pairs])._asdict(),
        "failure_modes": failure_modes(target),
        "left_out": target.left_out,
        "random_directions": [
            {
                "draw": arm.condition["draw"],
                "effect": arm.flips().as_dict(),
                "defines_function": _defining(arm, codes, entry_points),
            }
            for arm in controls
        ],
    }


def suggestion(direction: Direction, reports: Sequence[Mapping[str, Any]]) -> Choice:
    """Returns the coefficient to take and why; of equally good ones the smallest in size."""
    scored = [(merit(direction, report), report) for report in reports]
    best = max(score for score, _ in scored)
    report = min((item for score, item in scored if score == best), key=lambda item: abs(item["coefficient"]))
    effect = report["effect"]
    if direction == "correct":
        reason = (
            f"{effect['fixes']} fixes − {effect['breaks']} breaks = {effect['net']:+d}, the most of {len(reports)} "
            f"coefficients on {effect['n']} problems"
        )
    else:
        others = [item["effect"]["breaks_that_parse"] for item in report["random_directions"]]
        reason = (
            f"{effect['breaks_that_parse']} breaks that still parse, {_number(np.mean(others))} along random "
            f"directions of equal norm, the largest difference of {len(reports)} coefficients on {effect['n']} problems"
        )
    doubt = "" if best > 0 else "; no coefficient does better than nothing here, so read the examples"
    return Choice(report["coefficient"], "suggested", f"{reason}{doubt}. {in_range(report)}")


def merit(direction: Direction, report: Mapping[str, Any]) -> float:
    """Returns what a coefficient is judged by: fixes − breaks, or breaks that parse beyond random directions' mean."""
    effect = report["effect"]
    if direction == "correct":
        return float(effect["net"])
    others = [item["effect"]["breaks_that_parse"] for item in report["random_directions"]]
    return float(effect["breaks_that_parse"] - np.mean(others))


def in_range(report: Mapping[str, Any]) -> str:
    """Says whether flip rate and parsing lie in the range looked for."""
    flip, parsing = report["effect"]["flip_rate"]["value"], report["effect"]["parsing"]["value"]
    if flip is None or parsing is None:
        return "No problem enters a rate"
    low, high = FLIP_RATE_LOOKED_FOR
    where = "below" if flip < low else "above" if flip > high else "inside"
    enough = "enough" if parsing >= PARSING_LOOKED_FOR else "too few"
    return (
        f"Flip rate {flip:.0%} lies {where} the range looked for ({low:.0%} to {high:.0%}); {parsing:.0%} parse, "
        f"{enough} ({PARSING_LOOKED_FOR:.0%} looked for)"
    )


def _defining(
    arm: SteeredArm, codes: Mapping[str, Mapping[int, tuple[str, str]]], entry_points: Mapping[int, str]
) -> dict[str, Any]:
    steered = codes[arm.condition["condition"]]
    positions = arm.positions.tolist()
    kept = sum(defines(steered[position][1], entry_points[position]) for position in positions)
    return share(kept, len(positions)).as_dict()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _number(value: Any) -> str:
    return f"{float(value):.1f}".removesuffix(".0")
