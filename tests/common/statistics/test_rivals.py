from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.errors import PipelineError
from common.statistics import rivals
from common.statistics.rivals import (
    REGULARISATIONS,
    RivalScores,
    matched_features,
    mean_difference_scores,
    probe_scores,
    random_direction_scores,
    signed_scores,
    stratified_folds,
)

pytestmark = pytest.mark.numeric


def residuals(seed: int, n: int, width: int, separation: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Correlated columns of unlike scales, in which one direction separates the classes."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.35
    mixing = np.random.default_rng(99).standard_normal((12, width))
    latent = rng.standard_normal((n, 12))
    latent[:, 0] += separation * positive
    noise = 0.3 * rng.standard_normal((n, width))
    scales = np.random.default_rng(98).uniform(0.1, 30, width)
    return ((latent @ mixing + noise) * scales + 5).astype(np.float32), positive


@pytest.mark.parametrize("width", [10, 150])
def test_the_probe_is_the_one_that_scikit_learns_grid_search_finds(width: int) -> None:
    x, positive = residuals(0, 90, width, separation=1.5)
    evaluation = residuals(1, 40, width, separation=1.5)[0], residuals(2, 7, width, separation=1.5)[0]
    found = probe_scores(x, positive, *evaluation, seed=4)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=20_000, tol=1e-8)),
        {"logisticregression__C": list(REGULARISATIONS)},
        scoring="roc_auc",
        cv=PredefinedSplit(stratified_folds(positive, seed=4)),
    )
    search.fit(x.astype(np.float64), positive)
    assert found.settings["regularisation"] == search.best_params_["logisticregression__C"]
    assert found.settings["cross_validated_auroc"][f"{found.settings['regularisation']:g}"] == pytest.approx(
        search.best_score_, abs=1e-9
    )
    for scores, matrix in zip(found.scores, evaluation, strict=True):
        expected = search.decision_function(matrix.astype(np.float64))
        np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_probe_finds_a_planted_direction_and_nothing_where_there_is_none() -> None:
    x, positive = residuals(0, 200, 60, separation=2.0)
    unseen, labels = residuals(1, 2_000, 60, separation=2.0)
    scores = probe_scores(x, positive, unseen, seed=1).scores[0][:, 0]
    assert roc_auc_score(labels, scores) > 0.85
    shuffled = np.random.default_rng(5).permutation(positive)
    scores = probe_scores(x, shuffled, unseen, seed=1).scores[0][:, 0]
    assert 0.3 < roc_auc_score(labels, scores) < 0.7


def test_swapping_the_classes_negates_the_probe() -> None:
    x, positive = residuals(3, 80, 30, separation=1.0)
    one, other = probe_scores(x, positive, x, seed=2), probe_scores(x, ~positive, x, seed=2)
    assert one.settings["regularisation"] == other.settings["regularisation"]
    np.testing.assert_allclose(one.scores[0], -other.scores[0], rtol=1e-3, atol=1e-4)


def test_a_column_that_is_constant_in_training_adds_nothing_elsewhere() -> None:
    x, positive = residuals(4, 60, 5, separation=1.0)
    constant = np.full((60, 1), 0.1, dtype=np.float32)
    evaluation = residuals(5, 20, 5, separation=1.0)[0]
    without = probe_scores(x, positive, evaluation, seed=1).scores[0]
    other_value = np.hstack([evaluation, np.full((20, 1), 7, dtype=np.float32)])
    beside = probe_scores(np.hstack([x, constant]), positive, other_value, seed=1).scores[0]
    np.testing.assert_allclose(beside, without, rtol=1e-6, atol=1e-9)


def test_folds_hold_equal_shares_of_both_classes_and_depend_on_the_seed_only() -> None:
    positive = np.random.default_rng(0).permutation(np.arange(103) < 41)
    folds = stratified_folds(positive, seed=1)
    assert sorted(np.bincount(folds[positive]).tolist()) == [8, 8, 8, 8, 9]
    assert sorted(np.bincount(folds[~positive]).tolist()) == [12, 12, 12, 13, 13]
    np.testing.assert_array_equal(folds, stratified_folds(positive, seed=1))
    np.testing.assert_array_equal(folds, stratified_folds(~positive, seed=1))
    assert (folds != stratified_folds(positive, seed=2)).any()


def test_a_class_of_three_rows_gives_three_folds_and_one_of_one_row_is_refused_in_one_line() -> None:
    assert set(stratified_folds(np.arange(20) < 3, seed=1).tolist()) == {0, 1, 2}
    with pytest.raises(PipelineError, match="1 positive and 19 negative rows") as caught:
        stratified_folds(np.arange(20) < 1, seed=1)
    assert "\n" not in str(caught.value)


def test_the_difference_of_means_is_the_one_computed_by_hand() -> None:
    x = np.array([[1.0, 0.0], [3.0, 0.0], [-1.0, -3.0], [-1.0, -5.0]])
    positive = np.array([True, True, False, False])
    # Means (2, 0) and (-1, -4): the difference (3, 4) has length 5.
    found = mean_difference_scores(x, positive, np.array([[5.0, 0.0], [0.0, 5.0], [1.0, 1.0]]))
    assert found.scores[0][:, 0].tolist() == pytest.approx([3.0, 4.0, 1.4])
    assert found.settings == {"distance_of_means": 5.0, "n_train": 4}


def test_random_directions_are_seeded_unit_vectors_turned_by_the_training_rows_alone() -> None:
    x, positive = residuals(6, 120, 8, separation=3.0)
    found = random_direction_scores(x, positive, np.eye(8), x, seed=3, n_directions=100)
    directions = found.scores[0].T
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-12)
    assert len(np.unique(directions.round(9), axis=0)) == 100
    aurocs = np.array([roc_auc_score(positive, column) for column in found.scores[1].T])
    assert aurocs.min() >= 0.5
    assert 20 < found.settings["n_negated"] < 80
    again = random_direction_scores(x, positive, np.eye(8), seed=3, n_directions=100)
    np.testing.assert_array_equal(again.scores[0], found.scores[0])
    other = random_direction_scores(x, positive, np.eye(8), seed=4, n_directions=100)
    assert np.abs(other.scores[0] - found.scores[0]).max() > 0.1


def test_random_directions_point_everywhere_alike() -> None:
    x, positive = residuals(6, 50, 3, separation=0.0)
    directions = random_direction_scores(x, positive, np.eye(3), seed=3, n_directions=3_000).scores[0].T
    # Each squared coordinate of a random unit vector in three dimensions is 1/3 on average, with variance 4/45.
    np.testing.assert_allclose((directions**2).mean(axis=0), 1 / 3, atol=6 * (4 / 45 / 3_000) ** 0.5)


def test_a_score_that_points_the_wrong_way_in_training_is_negated_wherever_it_is_used() -> None:
    positive = np.array([True, True, False, False])
    # Prompt lengths of failures are longer; the second score already helps, the third says nothing.
    train = np.array([[10, 5, 1], [12, 4, 1], [30, 3, 1], [25, 2, 1]])
    found = signed_scores(train, positive, np.array([[7, 8, 9]]), np.array([[1, 2, 3], [4, 5, 6]]))
    assert [scores.tolist() for scores in found.scores] == [[[-7, 8, 9]], [[-1, 2, 3], [-4, 5, 6]]]
    assert found.settings["n_negated"] == 1 and found.settings["sign"] == "chosen on the sae split"


def test_matched_features_are_the_nearest_in_firing_rate_without_the_target() -> None:
    rates = np.array([0.50, 0.10, 0.49, 0.90, 0.53, 0.00])
    taken = [matched_features(rates, target=0, seed=seed, n_features=3) for seed in range(20)]
    # 0.10 and 0.90 are equally far from 0.50, though their floating-point differences need not be.
    assert {tuple(found.feature_idx.tolist()) for found in taken} == {(2, 4, 1), (2, 4, 3)}
    np.testing.assert_array_equal(taken[0].firing_rate, rates[taken[0].feature_idx])
    assert sorted(matched_features(rates, target=0, seed=1, n_features=100).feature_idx.tolist()) == [1, 2, 3, 4, 5]


def test_of_equally_near_features_a_seeded_draw_takes_each_equally_often() -> None:
    rates = np.full(40, 0.25)
    drawn = [matched_features(rates, target=7, seed=seed, n_features=10).feature_idx for seed in range(400)]
    assert all(len(set(each.tolist())) == 10 for each in drawn)
    times = np.bincount(np.concatenate(drawn), minlength=40)
    assert times[7] == 0
    # Each of the 39 others is taken with probability 10/39; six standard deviations.
    expected, deviation = 400 * 10 / 39, (400 * (10 / 39) * (29 / 39)) ** 0.5
    assert np.abs(np.delete(times, 7) - expected).max() < 6 * deviation
    np.testing.assert_array_equal(drawn[3], matched_features(rates, target=7, seed=3, n_features=10).feature_idx)


def test_no_rival_can_be_handed_evaluation_labels() -> None:
    makers = [probe_scores, mean_difference_scores, random_direction_scores, signed_scores]
    for maker in makers:
        parameters = inspect.signature(maker).parameters
        assert [name for name in parameters if "positive" in name or "label" in name] == ["train_positive"]
    returning = {
        name
        for name, function in inspect.getmembers(rivals, inspect.isfunction)
        if not name.startswith("_") and "RivalScores" in str(inspect.signature(function).return_annotation)
    }
    assert returning == {maker.__name__ for maker in makers}


@pytest.mark.parametrize("maker", [probe_scores, mean_difference_scores, random_direction_scores, signed_scores])
def test_evaluation_rows_change_nothing_that_was_chosen(maker: object) -> None:
    x, positive = residuals(8, 60, 6, separation=1.0)
    extra = {"seed": 1} if maker is probe_scores else {"seed": 1, "n_directions": 5}
    keywords = extra if maker in (probe_scores, random_direction_scores) else {}
    evaluation = residuals(9, 30, 6, separation=-1.0)[0]
    assert callable(maker)
    together, alone = maker(x, positive, evaluation, x, **keywords), maker(x, positive, evaluation[:4], **keywords)
    assert isinstance(together, RivalScores) and isinstance(alone, RivalScores)
    np.testing.assert_allclose(together.scores[0][:4], alone.scores[0], rtol=1e-12)
    assert together.settings == alone.settings
    json.dumps(together.settings, allow_nan=False)


@pytest.mark.parametrize("maker", [mean_difference_scores, signed_scores])
def test_training_rows_of_one_class_are_refused_in_one_line(maker: object) -> None:
    assert callable(maker)
    with pytest.raises(PipelineError, match="0 positive and 5 negative rows") as caught:
        maker(np.ones((5, 2)), np.zeros(5, dtype=bool), np.ones((1, 2)))
    assert "\n" not in str(caught.value)
