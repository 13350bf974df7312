"""Simple scores that a feature has to beat to be worth something.

Every rival is made from the rows of the sae split alone and applied to the rows on which it is evaluated; no function
here takes evaluation labels. Rivals that have a class in mind (logistic regression, difference of class means) point
the right way by construction; those that have none (random directions, random features, prompt length, complexity) are
turned so that their AUROC on the sae split is at least 0.5. A logistic regression on 489 rows of width 2,304, its
cross-validation included, takes 1.7 s on one core.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import PipelineError
from common.statistics.detection import auroc_from_counts, count_by_score
from common.statistics.seeding import generator
from common.statistics.selection import BoolArray, FloatArray, IntArray

N_FOLDS = 5
# Inverse strengths of the L2 penalty: from nothing but the class means' direction to almost no penalty.
REGULARISATIONS = tuple(10.0**exponent for exponent in range(-6, 2))
MAX_ITERATIONS = 5_000
GRADIENT_TOLERANCE = 1e-7
# Firing rates are shares of the same rows: differences closer than this are rounding.
SAME_DISTANCE_DECIMALS = 9

Matrix = NDArray[np.floating]


@dataclass(frozen=True)
class RivalScores:
    """Scores of one kind of rival on each evaluation matrix in turn, each of shape (n_rows, n_scores).

    `settings` says, ready for JSON, what was chosen on the sae split.
    """

    scores: tuple[FloatArray, ...]
    settings: dict[str, Any] = field(default_factory=dict)


class MatchedFeatures(NamedTuple):
    """Features matched in firing rate, nearest first, and their rates; shape (n_matched,)."""

    feature_idx: IntArray
    firing_rate: FloatArray


class LinearProbe(NamedTuple):
    """A standardised linear score: ((x - mean) / scale) @ weights + intercept, in log-odds."""

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: float

    def score(self, x: Matrix) -> FloatArray:
        """Returns the log-odds of the positive class for each row of `x`, shape (n_rows, width)."""
        return ((x - self.mean) / self.scale) @ self.weights + self.intercept


def probe_scores(train_x: Matrix, train_positive: BoolArray, *evaluation_x: Matrix, seed: int) -> RivalScores:
    """Scores rows by a logistic regression on the residual: standardised, with an L2 penalty.

    All matrices have shape (n_rows, width). The strength is that of `REGULARISATIONS` with the highest mean AUROC over
    seeded stratified folds of the training rows, each fold standardised by its own training part; of equal ones, the
    strongest penalty.
    """
    folds = stratified_folds(train_positive, seed)
    n_folds = int(folds.max()) + 1
    held_out = np.empty((n_folds, len(REGULARISATIONS)))
    for fold in range(n_folds):
        inside = folds != fold
        for column, probe in enumerate(fit_probes(train_x[inside], train_positive[inside], REGULARISATIONS)):
            held_out[fold, column] = _auroc(probe.score(train_x[~inside]), train_positive[~inside])
    means = held_out.mean(axis=0)
    best = int(np.argmax(means))
    (probe,) = fit_probes(train_x, train_positive, [REGULARISATIONS[best]])
    settings = {
        "regularisation": REGULARISATIONS[best],
        "n_folds": n_folds,
        "n_train": len(train_positive),
        "cross_validated_auroc": {f"{c:g}": float(mean) for c, mean in zip(REGULARISATIONS, means, strict=True)},
    }
    return RivalScores(tuple(probe.score(x)[:, None] for x in evaluation_x), settings)


def stratified_folds(positive: BoolArray, seed: int, n_folds: int = N_FOLDS) -> IntArray:
    """Returns the fold of each row: the rows are shuffled and each class dealt out in turn, so that each fold has both.

    There are as many folds as the smaller class has rows, `n_folds` at most; which class is called positive changes
    nothing.
    """
    _require_both(positive, at_least=2)
    n_folds = min(n_folds, int(np.count_nonzero(positive)), int(np.count_nonzero(~positive)))
    shuffled = generator(seed, "probe folds").permutation(len(positive))
    folds = np.empty(len(positive), dtype=np.int64)
    for of_class in (positive, ~positive):
        members = shuffled[of_class[shuffled]]
        folds[members] = np.arange(len(members)) % n_folds
    return folds


def fit_probes(x: Matrix, positive: BoolArray, regularisations: list[float] | tuple[float, ...]) -> list[LinearProbe]:
    """Fits one standardised logistic regression for each inverse penalty strength C.

    A wide matrix is first rotated into the span of its rows, where the penalised optimum lies: the same fit on
    n_rows instead of width unknowns (Hastie & Tibshirani, Biostatistics 5, 2004).
    """
    from sklearn.linear_model import LogisticRegression

    mean = x.mean(axis=0, dtype=np.float64)
    scale = x.std(axis=0, dtype=np.float64)
    scale[(x == x[0]).all(axis=0)] = 1.0  # the variance of a constant column may round to more than zero
    standard = (x - mean) / scale
    basis = np.linalg.qr(standard.T)[0] if standard.shape[1] > len(standard) else None
    coordinates = standard if basis is None else standard @ basis
    probes = []
    for strength in regularisations:
        model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=GRADIENT_TOLERANCE)
        model.fit(coordinates, positive)
        weights = np.ravel(model.coef_) if basis is None else basis @ np.ravel(model.coef_)
        probes.append(LinearProbe(mean, scale, weights, float(np.ravel(model.intercept_)[0])))
    return probes


def mean_difference_scores(train_x: Matrix, train_positive: BoolArray, *evaluation_x: Matrix) -> RivalScores:
    """Scores rows by their projection on the unit direction from the negative to the positive class mean.

    All matrices have shape (n_rows, width).
    """
    _require_both(train_positive)
    means = [train_x[rows].mean(axis=0, dtype=np.float64) for rows in (train_positive, ~train_positive)]
    direction = means[0] - means[1]
    length = float(np.linalg.norm(direction))
    unit = direction / length if length else direction
    settings = {"distance_of_means": length, "n_train": len(train_positive)}
    return RivalScores(tuple((x @ unit)[:, None] for x in evaluation_x), settings)


def random_direction_scores(
    train_x: Matrix, train_positive: BoolArray, *evaluation_x: Matrix, seed: int, n_directions: int
) -> RivalScores:
    """Scores rows by their projections on seeded random unit directions, signs chosen on the training rows."""
    directions = generator(seed, "random directions").standard_normal((n_directions, train_x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return signed_scores(train_x @ directions.T, train_positive, *(x @ directions.T for x in evaluation_x))


def matched_features(firing_rates: FloatArray, target: int, seed: int, n_features: int) -> MatchedFeatures:
    """Returns the features whose firing rate on the sae split is nearest to the target's, without the target.

    `firing_rates` has shape (n_features_of_layer,). Among equally near ones a seeded draw decides; in a layer with
    fewer features than asked for, fewer come back. Score them with `signed_scores`.
    """
    assert 0 <= target < len(firing_rates), f"target {target} of {len(firing_rates)} features"
    distance = np.abs(firing_rates - firing_rates[target]).round(SAME_DISTANCE_DECIMALS)
    order = np.lexsort((generator(seed, "matched features", target).permutation(len(distance)), distance))
    nearest = order[order != target][:n_features]
    return MatchedFeatures(nearest, firing_rates[nearest])


def signed_scores(train_scores: Matrix, train_positive: BoolArray, *evaluation_scores: Matrix) -> RivalScores:
    """Turns each score (activations of random features, prompt length, complexity) so that it helps on training rows.

    All matrices have shape (n_rows, n_scores). A score whose AUROC on the training rows is below 0.5 is negated.
    """
    _require_both(train_positive)
    assert train_scores.ndim == 2, f"train_scores: {train_scores.shape}"
    signs = np.array([1 if _auroc(column, train_positive) >= 0.5 else -1 for column in train_scores.T])
    settings = {
        "sign": "chosen on the sae split",
        "n_scores": len(signs),
        "n_negated": int(np.count_nonzero(signs < 0)),
        "n_train": len(train_positive),
    }
    return RivalScores(tuple(scores * signs.astype(np.float64) for scores in evaluation_scores), settings)


def _auroc(scores: NDArray, positive: BoolArray) -> float:
    counts = count_by_score(scores, positive)
    return float(auroc_from_counts(counts.positives, counts.negatives))


def _require_both(positive: BoolArray, at_least: int = 1) -> None:
    n_positive = int(np.count_nonzero(positive))
    if min(n_positive, len(positive) - n_positive) < at_least:
        raise PipelineError(
            f"sae split: {n_positive} positive and {len(positive) - n_positive} negative rows, but a rival needs "
            f"{at_least} or more of each; use more problems"
        )
