from __future__ import annotations

import math

import numpy as np
import pytest

from common.statistics.log_odds import log_odds_ratio, plain_log_ratio, pooled_prior

pytestmark = pytest.mark.numeric


def test_a_toy_equals_the_computation_by_hand() -> None:
    # Group a writes x x x y, group b x y y y; the prior weighs 2 words, so that x and y have 2 · 4/8 = 1 each.
    prior = pooled_prior([4, 4], 8, 2.0)
    assert prior.tolist() == [1.0, 1.0]
    found = log_odds_ratio([3, 1], 4, [1, 3], 4, prior, 2.0)
    # x: ln((3+1) / (4+2-4)) - ln((1+1) / (4+2-2)) = ln 2 - ln 0.5 = ln 4; variance 1/4 + 1/2
    assert found.log_odds.tolist() == pytest.approx([math.log(4), -math.log(4)])
    assert found.z.tolist() == pytest.approx([math.log(4) / math.sqrt(0.75), -math.log(4) / math.sqrt(0.75)])
    assert found.z[0] == pytest.approx(1.6007548)


def test_longer_texts_alone_move_nothing() -> None:
    prior = pooled_prior([30, 60], 90, 10.0)
    found = log_odds_ratio([10, 20], 30, [20, 40], 60, prior, 10.0)
    assert found.log_odds.tolist() == pytest.approx([0.0, 0.0])
    assert plain_log_ratio(10, 20) == pytest.approx(math.log(11 / 21))  # which knows nothing of the length


def test_the_prior_shrinks_a_rare_word_more_than_a_frequent_one() -> None:
    counts_a, counts_b = np.array([4, 400]), np.array([0, 0])
    prior = pooled_prior(counts_a, 2000, 500.0)
    found = log_odds_ratio(counts_a, 1000, counts_b, 1000, prior, 500.0)
    assert 0 < found.z[0] < found.z[1]
    weak = log_odds_ratio(counts_a, 1000, counts_b, 1000, pooled_prior(counts_a, 2000, 5.0), 5.0)
    assert abs(found.log_odds[0]) < abs(weak.log_odds[0])


def test_swapping_the_groups_changes_the_sign_only() -> None:
    prior = pooled_prior([5, 9, 6], 20, 3.0)
    one = log_odds_ratio([4, 3, 1], 8, [1, 6, 5], 12, prior, 3.0)
    other = log_odds_ratio([1, 6, 5], 12, [4, 3, 1], 8, prior, 3.0)
    assert one.z == pytest.approx(-other.z)


def test_the_only_word_there_is_has_no_odds() -> None:
    found = log_odds_ratio([5], 5, [7], 7, pooled_prior([12], 12, 4.0), 4.0)
    assert np.isnan(found.log_odds).all() and np.isnan(found.z).all()


def test_one_row_a_labelling_gives_what_each_gives_alone() -> None:
    prior = pooled_prior([6, 4], 15, 2.0)
    counts = np.array([[4, 1], [2, 3], [0, 4]])
    totals = np.array([[8], [7], [6]])
    together = log_odds_ratio(counts, totals, np.array([6, 4]) - counts, 15 - totals, prior, 2.0)
    for row, (count, total) in enumerate(zip(counts, totals, strict=True)):
        alone = log_odds_ratio(count, total, np.array([6, 4]) - count, 15 - total, prior, 2.0)
        assert together.z[row].tolist() == alone.z.tolist()
