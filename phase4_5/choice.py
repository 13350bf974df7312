"""What each coefficient did, and which one to take.

For the correct direction the coefficient with the largest fixes − breaks is suggested; for the incorrect one that with
the most breaks that still parse beyond what random directions of equal norm break. Whether flip rate and parsing lie in
the range looked for is said beside it, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.code_survival import char_similarity, length_ratio, token_similarity
from common.conditions import RANDOM_DIRECTION, TARGET, coefficient_name
from common.runs.features import Feature
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.steering import FLIP_RATE_LOOKED_FOR, PARSING_LOOKED_FOR
from common.steering_effects import SteeredArm, arms_of, chosen, failure_modes, survival

SCREENING_MARGIN = 0.1


class Choice(NamedTuple):
    """A direction's feature and coefficient, whether the latter was suggested or chosen by hand, and why."""

    feature: Feature
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
    target: SteeredArm,
    controls: Sequence[SteeredArm],
    pairs: Sequence[tuple[str, str]],
    norm_ratio: float,
) -> dict[str, Any]:
    """Returns what one coefficient of one feature did, with the random directions of equal norm beside it.

    `pairs` holds the baseline's and the steered code of each row that enters rates; `norm_ratio` is the norm of the
    direction over the mean norm of the residual stream.
    """
    condition = target.condition
    return {
        "feature": {"layer": condition["layer"], "index": condition["feature_idx"]},
        "coefficient": condition["coefficient"],
        "in_residual_norms": condition["coefficient"] * norm_ratio,
        "effect": target.flips().as_dict(),
        **survival(target),
        **generation_divergence([one for one, _ in pairs], [other for _, other in pairs])._asdict(),
        "failure_modes": failure_modes(target),
        "stop_reasons": dict(sorted(Counter(target.stop_reasons).items())),
        "left_out": target.left_out,
        "random_directions": [
            {"draw": arm.condition["draw"], "effect": arm.flips().as_dict(), **survival(arm)} for arm in controls
        ],
    }


def all_reports(table: pa.Table, norm_ratio: Callable[[Feature], float]) -> dict[Direction, list[dict[str, Any]]]:
    """Returns the report of every feature and coefficient of either direction, from a table of results, in its order.

    `norm_ratio` gives the norm of a feature's direction over the mean norm of the residual stream at its layer.
    """
    arms = arms_of(table)
    codes: dict[str, list[tuple[str, str]]] = {}
    for row in table.select(["condition", "left_out", "baseline_code", "generated_code"]).to_pylist():
        pairs = codes.setdefault(row["condition"], [])
        if row["left_out"] is None:
            pairs.append((row["baseline_code"], row["generated_code"]))
    found: dict[Direction, list[dict[str, Any]]] = {direction: [] for direction in DIRECTIONS}
    for target in chosen(arms, TARGET):
        own = target.condition
        beside = [arm for arm in chosen(arms, RANDOM_DIRECTION, own["direction"]) if _same_place(arm, target)]
        ratio = norm_ratio(Feature(own["layer"], own["feature_idx"]))
        found[own["direction"]].append(coefficient_report(target, beside, codes[own["condition"]], ratio))
    return found


def _same_place(control: SteeredArm, target: SteeredArm) -> bool:
    names = ("layer", "target_idx", "coefficient")
    return all(control.condition[name] == target.condition[name] for name in names)


def suggestion(direction: Direction, reports: Sequence[Mapping[str, Any]]) -> Choice:
    """Returns the feature and coefficient to take, and why.

    `reports` stand in rank order of their features; of equally good ones the one that is farthest beyond its random
    directions is taken, then the better ranked feature, then the smallest coefficient in size; 0 itself only where
    nothing else was tried.
    """
    reports = [report for report in reports if report["coefficient"] != 0] or reports
    ranks = list(dict.fromkeys(_feature(report) for report in reports))
    report = min(
        reports,
        key=lambda item: (
            *(-merit(direction, item), -beyond_random(direction, item)),
            *(ranks.index(_feature(item)), abs(item["coefficient"])),
        ),
    )
    effect, tried, rank = report["effect"], f"{len(reports)} coefficients", ranks.index(_feature(report)) + 1
    if len(ranks) > 1:
        tried = f"{len(reports)} trials of {len(ranks)} features (this one ranks {rank})"
    if direction == "correct":
        others = [item["effect"]["net"] for item in report["random_directions"]]
        reason = (
            f"{effect['fixes']} fixes − {effect['breaks']} breaks = {effect['net']:+d}, the most of {tried} on "
            f"{effect['n']} problems ({_number(np.mean(others))} along random directions of equal norm)"
        )
    else:
        others = [item["effect"]["breaks_that_parse"] for item in report["random_directions"]]
        reason = (
            f"{effect['breaks_that_parse']} breaks that still parse, {_number(np.mean(others))} along random "
            f"directions of equal norm, the largest difference of {tried} on {effect['n']} problems"
        )
    better = merit(direction, report) > 0
    doubt = "" if better else "; no coefficient does better than nothing here, so read the examples"
    return Choice(_feature(report), report["coefficient"], "suggested", f"{reason}{doubt}. {in_range(report)}")


def screened_feature(direction: Direction, reports: Sequence[Mapping[str, Any]]) -> Choice:
    """Returns the feature that goes into the grid, and why.

    The best ranked one, unless another is ahead of it on the screened problems by more than `SCREENING_MARGIN` of them:
    the largest of several noisy figures alone would often be a worse feature.
    """
    found = suggestion(direction, reports)
    own = [report for report in reports if _feature(report) == _feature(reports[0])]
    (theirs,) = [
        item for item in reports if (_feature(item), item["coefficient"]) == (found.feature, found.coefficient)
    ]
    ahead = merit(direction, theirs) - max(merit(direction, report) for report in own)
    if found.feature == _feature(reports[0]) or ahead > SCREENING_MARGIN * theirs["effect"]["n"]:
        return found
    kept = suggestion(direction, own)
    place = f"{found.feature.layer}:{found.feature.index}"
    return kept._replace(
        rationale=f"kept as the best ranked: {place} is ahead by {_number(ahead)} only. {kept.rationale}"
    )


def by_hand(coefficient: float, suggested: Choice, reports: Sequence[Mapping[str, Any]]) -> Choice:
    """Returns a person's choice, with what the grid says of it if it was tried, and what was suggested."""
    own = [report for report in reports if _feature(report) == suggested.feature]
    tried = [in_range(report) for report in own if report["coefficient"] == coefficient]
    what = tried[0] if tried else "It was not tried in the grid"
    reason = f"chosen by hand; suggested was {coefficient_name(suggested.coefficient)}. {what}"
    return Choice(suggested.feature, coefficient, "by hand", reason)


def _feature(report: Mapping[str, Any]) -> Feature:
    return Feature(**report["feature"])


def merit(direction: Direction, report: Mapping[str, Any]) -> float:
    """Returns what a coefficient is judged by: fixes − breaks, or breaks that parse beyond random directions' mean."""
    return float(report["effect"]["net"]) if direction == "correct" else beyond_random(direction, report)


def beyond_random(direction: Direction, report: Mapping[str, Any]) -> float:
    """Returns the primary outcome less the mean one of the random directions of equal norm."""
    name = "net" if direction == "correct" else "breaks_that_parse"
    others = [item["effect"][name] for item in report["random_directions"]]
    # One division of whole numbers: a difference of rounded means would hide ties.
    return (len(others) * report["effect"][name] - sum(others)) / len(others)


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


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _number(value: Any) -> str:
    return f"{float(value):.1f}".removesuffix(".0")
