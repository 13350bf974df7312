"""One direction's detection: the feature, its threshold, its figures on validation, and its rivals on the same rows.

The rivals make the cost: encoding three splits, a cross-validated logistic regression and the bootstraps of 100 random
scores of either kind; 6 s a direction on one core for 489, 97 and 388 problems of the bundled tiny model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from common.profiles import Profile
from common.runs.features import Feature
from common.statistics.detection import Classification, ThresholdChoice, classification_at, f1_optimal_threshold
from common.statistics.detection_report import (
    DIFFICULTY_GROUPS,
    detection_report,
    difficulty_of,
    report_by_group,
    rival_report,
)
from common.statistics.permutation import Direction
from common.statistics.rivals import (
    RivalScores,
    matched_features,
    mean_difference_scores,
    probe_scores,
    random_direction_scores,
    signed_scores,
)
from common_simplified.detection_splits import Residuals, SplitRows, Splits
from common_simplified.feature_scores import layer_scores
from common_simplified.temperature_rows import TemperatureRows, positive_rows, temperature_report


class Detection(NamedTuple):
    """Everything that is reported, drawn and stored of one direction.

    `validation` holds the rows that `validation_scores`, shape (n_rows,), belong to.
    """

    direction: Direction
    feature: Feature
    validation: SplitRows
    hyperparams_scores: np.ndarray
    validation_scores: np.ndarray
    choice: ThresholdChoice
    at_threshold: Classification | None
    rivals: dict[str, RivalScores]
    report: dict[str, Any]


class Draws(NamedTuple):
    """Seed, bootstrap draws, and how many random rivals of each kind."""

    seed: int
    n_draws: int
    n_random: int


def detect(
    direction: Direction,
    feature: Feature,
    splits: Splits,
    profile: Profile,
    draws: Draws,
    *,
    by_temperature: TemperatureRows | None = None,
    choice: ThresholdChoice | None = None,
) -> Detection:
    """Evaluates one direction's feature: threshold from hyperparams, every figure from validation.

    `choice` is a threshold that was chosen before; without one it is chosen here, on hyperparams. The report has no
    figures by temperature unless `by_temperature` is given.
    """
    residuals = splits.residuals(feature, profile.d_model)
    acts = Residuals(*(layer_scores(profile, feature.layer, vectors) for vectors in residuals))
    scores = Residuals(*(matrix[:, feature.index].astype(np.float64) for matrix in acts))
    if choice is None:
        choice = f1_optimal_threshold(scores.hyperparams, positive_rows(splits.hyperparams.passed, direction))
    rivals = _rivals(direction, feature, splits, residuals, acts, draws)
    at = _at_threshold(direction, scores.validation, splits, choice)
    report = {
        "feature": feature._asdict(),
        "positive": "passed" if direction == "correct" else "failed",
        "threshold": _threshold_entry(choice, splits),
        **_figures(direction, scores.validation, splits, choice, draws, by_temperature),
        "rivals": {
            name: _rival_entry(scores.validation, rival, splits, direction, draws) for name, rival in rivals.items()
        },
    }
    valid = splits.validation
    return Detection(direction, feature, valid, scores.hyperparams, scores.validation, choice, at, rivals, report)


def _at_threshold(
    direction: Direction, scores: np.ndarray, splits: Splits, choice: ThresholdChoice
) -> Classification | None:
    if choice.threshold is None:
        return None
    return classification_at(scores, positive_rows(splits.validation.passed, direction), choice.threshold)


def _threshold_entry(choice: ThresholdChoice, splits: Splits) -> dict[str, Any]:
    return {
        "split": "hyperparams",
        "threshold": choice.threshold,
        "f1": choice.f1,
        "f1_all_positive": choice.f1_all_positive,
        "n": choice.n,
        "n_positive": choice.n_positive,
        "n_excluded": splits.hyperparams.n_excluded,
        "reason": choice.reason,
    }


def _figures(
    direction: Direction,
    scores: np.ndarray,
    splits: Splits,
    choice: ThresholdChoice,
    draws: Draws,
    by_temperature: TemperatureRows | None,
) -> dict[str, Any]:
    """Returns the feature's figures on the validation split: of all rows, by difficulty, by temperature if given."""
    rows = splits.validation
    positive, groups = positive_rows(rows.passed, direction), rows.task_ids
    how = (choice.threshold, draws.seed, draws.n_draws)
    difficulty = difficulty_of(rows.complexity)
    figures: dict[str, Any] = {
        "validation": {**detection_report(scores, positive, groups, *how), "n_excluded": rows.n_excluded},
        "by_difficulty": report_by_group(scores, positive, groups, difficulty, list(DIFFICULTY_GROUPS), *how),
    }
    if by_temperature is not None:
        figures["by_temperature"] = temperature_report(direction, scores, groups, by_temperature, *how)
    return figures


def _rivals(
    direction: Direction, feature: Feature, splits: Splits, residuals: Residuals, acts: Residuals, draws: Draws
) -> dict[str, RivalScores]:
    """Returns every rival's scores on hyperparams and validation; all of them learn on the sae split alone."""
    learn = positive_rows(splits.sae.passed, direction)
    train, *others = residuals
    rates = (acts.sae > 0).mean(axis=0)
    matched = matched_features(rates, feature.index, draws.seed, draws.n_random)
    of_matched = (part[:, matched.feature_idx] for part in (acts.sae, acts.hyperparams, acts.validation))
    sae, hyper, valid = of_matched
    features = signed_scores(sae, learn, hyper, valid)
    how_near = {"firing_rate": float(rates[feature.index]), "median_firing_rate": float(np.median(matched.firing_rate))}
    return {
        "logistic regression": probe_scores(train, learn, *others, seed=draws.seed),
        "difference of class means": mean_difference_scores(train, learn, *others),
        "random directions": random_direction_scores(
            train, learn, *others, seed=draws.seed, n_directions=draws.n_random
        ),
        "matched random features": replace(features, settings={**features.settings, **how_near}),
        "prompt length": signed_scores(*_column(splits, "prompt_tokens", learn)),
        "cyclomatic complexity": signed_scores(*_column(splits, "complexity", learn)),
    }


def _column(splits: Splits, name: str, learn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, hyper, valid = (
        getattr(rows, name).astype(np.float64)[:, None] for rows in (splits.sae, splits.hyperparams, splits.validation)
    )
    return train, learn, hyper, valid


def _rival_entry(
    target: np.ndarray, rival: RivalScores, splits: Splits, direction: Direction, draws: Draws
) -> dict[str, Any]:
    """Returns a rival's figures on validation; a single score gets a threshold from hyperparams, as a feature does."""
    hyper, valid = rival.scores
    positive, groups = positive_rows(splits.validation.passed, direction), splits.validation.task_ids
    entry = {
        "settings": rival.settings,
        **rival_report(target, valid, positive, groups, draws.seed, draws.n_draws),
    }
    if valid.shape[1] == 1:
        choice = f1_optimal_threshold(hyper[:, 0], positive_rows(splits.hyperparams.passed, direction))
        entry["detection"] = detection_report(
            valid[:, 0], positive, groups, choice.threshold, draws.seed, draws.n_draws
        )
    return entry
