from __future__ import annotations

import pytest
from scipy import stats

from common.statistics.summaries import ks_distance, wilson_interval

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 97), (97, 97), (3, 10), (116, 388), (1, 100_000)])
def test_wilson_interval_equals_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_observed_gives_no_interval() -> None:
    assert wilson_interval(0, 0) == (None, None)


def test_more_successes_than_trials_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="5 of 4"):
        wilson_interval(5, 4)


def test_ks_distance_is_the_largest_gap_between_the_distributions() -> None:
    assert ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert ks_distance([1, 1, 2], [3, 4]) == 1
    # At 1 the shares at or below are 3/4 and 1/4.
    assert ks_distance([1, 1, 1, 2], [1, 2, 2, 2]) == 0.5
