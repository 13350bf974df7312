from __future__ import annotations

import numpy as np
import pytest

from common.errors import PipelineError
from common.statistics.selection import (
    class_means,
    class_sizes,
    feature_chunks,
    firing_counts,
    rank_features,
    separation_scores,
    weighted_class_means,
)

pytestmark = pytest.mark.unit

# Three correct and two incorrect problems; four features.
LABELS = np.array([True, False, True, True, False])
FIRES = np.array(
    [
        [1, 0, 0, 1],
        [0, 1, 0, 1],
        [1, 0, 0, 1],
        [0, 1, 0, 1],
        [0, 1, 0, 1],
    ],
    dtype=bool,
)


def test_firing_counts_and_shares_are_those_counted_by_hand() -> None:
    counts = firing_counts(FIRES, LABELS)
    assert counts.correct.tolist() == [2, 1, 0, 3]
    assert counts.incorrect.tolist() == [0, 2, 0, 2]
    scores = separation_scores(FIRES, LABELS)
    assert (scores.n_correct, scores.n_incorrect) == (3, 2)
    np.testing.assert_allclose(scores.f_correct, [2 / 3, 1 / 3, 0, 1], rtol=1e-15)
    np.testing.assert_allclose(scores.f_incorrect, [0, 1, 0, 1], rtol=1e-15)
    np.testing.assert_allclose(scores.score, [2 / 3, -2 / 3, 0, 0], rtol=1e-15)
    assert scores.score.dtype == np.float64


def test_counts_over_many_chunks_equal_a_plain_count() -> None:
    rng = np.random.default_rng(3)
    fires, labels = rng.random((40, 5000)) < 0.3, rng.random(40) < 0.4
    counts = firing_counts(fires, labels)
    assert counts.correct.tolist() == fires[labels].sum(axis=0).tolist()
    assert counts.incorrect.tolist() == fires[~labels].sum(axis=0).tolist()


def test_features_with_equal_differences_get_exactly_equal_scores() -> None:
    # 1/3 - 0/3 and 3/3 - 2/3 are equal, but their floating-point differences are not.
    assert 1 / 3 - 0 / 3 != 3 / 3 - 2 / 3
    labels = np.array([True] * 3 + [False] * 3)
    fires = np.array([[1, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 0]], dtype=bool)
    scores = separation_scores(fires, labels).score
    assert scores[0] == scores[1]


def test_class_means_equal_numpys_means_over_many_chunks() -> None:
    rng = np.random.default_rng(4)
    values, labels = rng.standard_normal((30, 4500)).astype(np.float32), rng.random(30) < 0.5
    means = class_means(values, labels)
    np.testing.assert_allclose(means.correct, values[labels].mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(means.incorrect, values[~labels].mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-14)


def test_labels_of_one_class_are_refused_in_one_line() -> None:
    with pytest.raises(PipelineError, match="0 correct and 4 incorrect problems") as caught:
        class_sizes(np.zeros(4, dtype=bool))
    assert "\n" not in str(caught.value)


def test_chunks_cover_every_feature_once() -> None:
    covered = [index for chunk in feature_chunks(10, 4) for index in range(chunk.start, chunk.stop)]
    assert covered == list(range(10))
    assert list(feature_chunks(0, 4)) == []


def test_ranking_breaks_ties_by_lower_layer_then_lower_index() -> None:
    score = np.array([0.5, 0.9, 0.5, 0.5, 0.1])
    layer = np.array([3, 5, 2, 2, 0])
    index = np.array([0, 1, 9, 4, 2])
    order = rank_features(score, layer, index, np.ones(5, dtype=bool), top_k=4)
    assert order.tolist() == [1, 3, 2, 0]


def test_ranking_leaves_out_features_that_are_filtered_or_have_no_score() -> None:
    score = np.array([0.9, np.nan, 0.3, np.inf, 0.2])
    keep = np.array([False, True, True, True, True])
    order = rank_features(score, np.zeros(5, dtype=int), np.arange(5), keep, top_k=20)
    assert order.tolist() == [2, 4]


def test_shares_of_nought_and_one_are_classes_and_others_divide_a_problem_between_both() -> None:
    values = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 8.0]])
    labels = np.array([True, False, True])
    whole, divided = class_means(values, labels), weighted_class_means(values, labels.astype(float))
    np.testing.assert_allclose(divided.correct, whole.correct)
    np.testing.assert_allclose(divided.incorrect, whole.incorrect)
    half = weighted_class_means(values, np.array([1.0, 0.5, 0.0]))
    np.testing.assert_allclose(half.correct, [(1 + 0.5 * 3) / 1.5, (0 + 0.5 * 2) / 1.5])
    np.testing.assert_allclose(half.incorrect, [(0.5 * 3 + 5) / 1.5, (0.5 * 2 + 8) / 1.5])


def test_a_class_without_weight_has_no_mean() -> None:
    means = weighted_class_means(np.ones((2, 1)), np.array([1.0, 1.0]))
    assert means.correct[0] == 1.0 and np.isnan(means.incorrect[0])
