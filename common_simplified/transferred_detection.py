"""Detection on the instruction-tuned model: the base model's features and thresholds on the other model's activations.

Features were chosen on the base model's sae split, thresholds on its hyperparameter split, and the rivals learn on the
base model's sae split too; nothing is tuned on the model that is looked at. What "transferred" means is fixed in
`RULE`. Costs what phase 3.8 costs without temperatures, and 0.15 s a direction for the paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from common.profiles import Profile
from common.runs.detection_output import (
    detected_features,
    detection_reports,
    recorded_choice,
    validation_scores,
)
from common.runs.discovery import PhaseOutput
from common.statistics.bootstrap import Estimate, ScoredProblems, auroc_difference
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.detection import Detection, Draws, detect
from common_simplified.detection_splits import read_splits
from common_simplified.temperature_rows import positive_rows

RANDOM_DIRECTIONS = "random directions"
RULE = (
    "a predictor transfers if the 95 % interval of its AUROC on the instruction-tuned model lies above 0.5 and the one "
    f"of its lead over the median of the {RANDOM_DIRECTIONS} above 0"
)
CHANCE = 0.5
_RIVAL_FIGURES = ("n", "n_scores", "auroc", "average_precision", "target_minus_median", "n_at_least_target", "reason")


class RuleHalf(NamedTuple):
    """One half of the rule on one model: whether it holds (None: cannot be told), and the figures in words."""

    holds: bool | None
    words: str


def detect_on(
    validation: PhaseOutput,
    base: PhaseOutput,
    built: PhaseOutput,
    hyper: PhaseOutput,
    profile: Profile,
    draws: Draws,
) -> dict[Direction, Detection]:
    """Evaluates phase 3.8's features at its thresholds on phase 7.3's output, beside the same rivals.

    `base`, `built` and `hyper` are the outputs of phases 3.8, 1.0 and 3.6. The features' layers must have been captured
    (see `detection_splits.refuse_missing_layers`); the figures by temperature are left out.
    """
    reports = detection_reports(base)
    splits = read_splits(built, hyper, validation)
    return {
        direction: detect(direction, feature, splits, profile, draws, choice=recorded_choice(reports[direction]))
        for direction, feature in zip(DIRECTIONS, detected_features(reports), strict=True)
    }


def detected_scores(found: Mapping[Direction, Detection]) -> dict[Direction, ScoredProblems]:
    """Returns each predictor's validation scores as `detection_output.predictor_fires` takes them."""
    return {
        direction: ScoredProblems(
            item.validation_scores, positive_rows(item.validation.passed, direction), item.validation.task_ids
        )
        for direction, item in found.items()
    }


def compare_detection(
    base: PhaseOutput, instruct: Mapping[Direction, Detection], draws: Draws
) -> dict[Direction, dict[str, Any]]:
    """Returns both models' figures of each direction side by side, their difference and a verdict, ready for JSON.

    Each model's own figures stand on all of its labelled problems. The difference in AUROC (instruction-tuned minus
    base) is paired: it stands on the problems that have a label in both models, a problem that is excluded in one of
    them is left out of both sides, and `n_base_only` and `n_instruct_only` count these. With such problems the
    difference need not be that of the two models' own figures.
    """
    reports, ours, theirs = detection_reports(base), validation_scores(base), detected_scores(instruct)
    return {
        direction: _compared(reports[direction], instruct[direction].report, ours[direction], theirs[direction], draws)
        for direction in DIRECTIONS
    }


def _compared(
    base: Mapping[str, Any],
    instruct: Mapping[str, Any],
    base_scores: ScoredProblems,
    instruct_scores: ScoredProblems,
    draws: Draws,
) -> dict[str, Any]:
    difference = auroc_difference(instruct_scores, base_scores, draws.seed, draws.n_draws)
    return {
        "feature": base["feature"],
        "positive": base["positive"],
        "threshold": base["threshold"],
        "base": _model_figures(base),
        "instruct": _model_figures(instruct),
        "auroc_difference": {
            "of": "instruct minus base",
            **difference.as_dict(),
            "n_base_only": len(base_scores.groups) - difference.n,
            "n_instruct_only": len(instruct_scores.groups) - difference.n,
        },
        **_verdict(base, instruct, difference),
    }


def _model_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    rivals = {name: {key: rival[key] for key in _RIVAL_FIGURES} for name, rival in report["rivals"].items()}
    for name, rival in report["rivals"].items():
        if "detection" in rival:
            rivals[name]["classification"] = rival["detection"]["classification"]
    return {**report["validation"], "rivals": rivals}


def _verdict(base: Mapping[str, Any], instruct: Mapping[str, Any], difference: Estimate) -> dict[str, Any]:
    """Returns what `RULE` says: `transferred` is None where it cannot be told."""
    conditions = _conditions(instruct)
    transferred, on_base = _all_hold(conditions), _all_hold(_conditions(base))
    parts = [f"{_VERDICT[transferred]}: {'; '.join(_deciding(conditions, transferred))}", _change(difference)]
    if on_base is not True:
        parts.append(_ON_BASE[on_base])
    return {"rule": RULE, "transferred": transferred, "holds_on_base": on_base, "statement": "; ".join(parts)}


_ON_BASE = {
    False: "the rule does not hold on the base model itself",
    None: "whether the rule holds on the base model itself cannot be told",
}
_VERDICT = {True: "transferred", False: "not transferred", None: "cannot be told"}


def _conditions(report: Mapping[str, Any]) -> list[RuleHalf]:
    lead = report["rivals"][RANDOM_DIRECTIONS]["target_minus_median"]
    return [
        _above(report["validation"]["auroc"], CHANCE, "AUROC"),
        _above(lead, 0.0, f"lead over the median of the {RANDOM_DIRECTIONS}"),
    ]


def _above(estimate: Mapping[str, Any], bound: float, name: str) -> RuleHalf:
    """Whether the interval lies above the bound; without one, values up to it fail and others cannot be told."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return RuleHalf(None, f"{name} could not be computed ({estimate['reason']})")
    if low is None:
        return RuleHalf(None if value > bound else False, f"{name} {value:.3f} ({estimate['reason']})")
    holds = low > bound
    return RuleHalf(holds, f"{name} {value:.3f} [{low:.3f}, {high:.3f}] {'' if holds else 'not '}above {bound:g}")


def _all_hold(conditions: list[RuleHalf]) -> bool | None:
    if any(each.holds is False for each in conditions):
        return False
    return None if any(each.holds is None for each in conditions) else True


def _deciding(conditions: list[RuleHalf], verdict: bool | None) -> list[str]:
    return [each.words for each in conditions if each.holds is verdict]


def _change(difference: Estimate) -> str:
    if difference.value is None:
        return f"the difference to the base model could not be computed ({difference.reason})"
    interval = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return f"AUROC differs from the base model's by {difference.value:+.3f}{interval} on {difference.n} problems"
