from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.statistics.steering import (
    OUTCOMES,
    flips,
    mcnemar_exact,
    newcombe_difference,
    primary_outcome,
    rank_among,
    share,
)

pytestmark = pytest.mark.numeric

YES, NO = True, False
# One entry a problem: two fixes (one unparsed, as no real one is), three breaks (one unparsed), one solved both times
# and two never.
BASELINE = np.array([NO, NO, YES, YES, YES, YES, NO, NO])
STEERED = np.array([YES, YES, NO, NO, NO, YES, NO, NO])
PARSES = np.array([YES, NO, YES, YES, NO, YES, NO, YES])


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 1), (3, 10), (116, 388), (0, 272)])
def test_a_share_is_the_quotient_with_scipys_wilson_interval(numerator: int, denominator: int) -> None:
    expected = stats.binomtest(numerator, denominator).proportion_ci(confidence_level=0.95, method="wilson")
    found = share(numerator, denominator)
    assert found.value == numerator / denominator
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.numerator, found.denominator, found.reason) == (numerator, denominator, None)


def test_a_share_of_nothing_is_missing_and_says_of_what_there_is_nothing() -> None:
    assert share(0, 0, "initially failing problems").as_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "numerator": 0,
        "denominator": 0,
        "reason": "no initially failing problems",
    }


@pytest.mark.parametrize(
    ("fixes", "breaks"), [(1, 0), (0, 6), (5, 5), (5, 4), (12, 3), (3, 12), (150, 110), (700, 800)]
)
def test_mcnemars_p_is_scipys_binomial_test_on_the_discordant_pairs(fixes: int, breaks: int) -> None:
    assert mcnemar_exact(fixes, breaks) == pytest.approx(stats.binomtest(fixes, fixes + breaks).pvalue, rel=1e-9)


def test_mcnemars_p_by_hand() -> None:
    assert mcnemar_exact(6, 0) == 2 / 64
    assert mcnemar_exact(1, 5) == 2 * (1 + 6) / 64
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(3_000, 0) == 0.0  # below the smallest number, without an overflow on the way


def test_flips_are_counted_by_hand() -> None:
    found = flips(BASELINE, STEERED, PARSES)
    assert (found.n, found.n_failing, found.n_passing) == (8, 4, 4)
    assert (found.fixes, found.breaks, found.breaks_that_parse, found.net) == (2, 3, 2, -1)
    assert (found.solved_before, found.solved_after) == (4, 3)
    shares = {name: figure for name, figure in found.as_dict().items() if isinstance(figure, dict)}
    assert {name: (figure["numerator"], figure["denominator"]) for name, figure in shares.items()} == {
        "flip_rate": (5, 8),
        "correction": (2, 4),
        "corruption": (3, 4),
        "preservation": (1, 4),
        "parsing": (5, 8),
    }
    assert found.mcnemar_p == 1.0  # 2 against 3: both tails are half


def test_flips_can_be_written_as_json_with_every_share_beside_its_interval() -> None:
    written = json.loads(json.dumps(flips(BASELINE, STEERED, PARSES).as_dict(), allow_nan=False))
    assert written["correction"]["value"] == 0.5
    assert written["correction"]["low"] < 0.5 < written["correction"]["high"]


def test_a_class_without_problems_has_no_rate_and_the_other_keeps_its_own() -> None:
    passing = np.array([YES, YES])
    found = flips(passing, ~passing, passing)
    assert (found.correction.value, found.correction.reason) == (None, "no initially failing problems")
    assert (found.corruption.value, found.preservation.value) == (1.0, 0.0)
    found = flips(~passing, passing, passing)
    assert found.corruption.reason == found.preservation.reason == "no initially passing problems"
    assert found.correction.value == 1.0


def test_without_problems_every_figure_is_missing() -> None:
    none = np.zeros(0, dtype=bool)
    found = flips(none, none, none)
    assert found.mcnemar_p is None
    assert [found.flip_rate.value, found.parsing.value, found.flip_rate.reason] == [None, None, "no problems"]
    assert found.net == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=40))
def test_what_flips_adds_up_to_what_is_solved(rows: list[tuple[bool, bool, bool]]) -> None:
    baseline, steered, parses = np.array(rows, dtype=bool).reshape(-1, 3).T
    found = flips(baseline, steered, parses)
    assert found.solved_before + found.net == found.solved_after
    assert found.breaks_that_parse <= found.breaks <= found.n_passing
    if found.n_passing:
        assert found.preservation.value == pytest.approx(1 - (found.corruption.value or 0))


@pytest.mark.parametrize("wrong", [np.array([1, 0, 1]), np.array([YES, NO]), np.ones((3, 1), dtype=bool)])
def test_arrays_that_are_not_paired_truth_values_are_a_bug(wrong: np.ndarray) -> None:
    right = np.array([YES, NO, YES])
    with pytest.raises(AssertionError, match="steered"):
        flips(right, wrong, right)


def test_the_primary_outcomes_are_the_net_and_the_breaks_that_parse() -> None:
    found = flips(BASELINE, STEERED, PARSES)
    assert primary_outcome(found, "correct") == -1
    assert primary_outcome(found, "incorrect") == 2
    assert OUTCOMES == {"correct": "fixes minus breaks", "incorrect": "breaks whose code still parses"}


def test_ties_with_controls_count_against_the_target() -> None:
    found = rank_among(5, [7, 5, 5, 4])
    assert (found.n_controls, found.n_at_least, found.p, found.smallest_p) == (4, 3, 4 / 5, 1 / 5)


def test_a_target_above_thirty_nine_controls_reaches_a_p_of_one_in_forty() -> None:
    found = rank_among(40, list(range(39)))
    assert found.p == found.smallest_p == 0.025
    # Linear interpolation between the order statistics 0 to 38: 0.025 * 38 = 0.95.
    assert (found.median, found.minimum, found.maximum) == (19, 0, 38)
    assert (found.percentile_2_5, found.percentile_97_5) == pytest.approx((0.95, 37.05))
    assert json.loads(json.dumps(found.as_dict()))["target"] == 40


def test_a_target_below_every_control_has_a_p_of_one() -> None:
    assert rank_among(-3, [-2, 0, 1]).p == 1.0


def test_without_controls_there_is_no_p_and_a_reason() -> None:
    found = rank_among(3, [])
    assert (found.p, found.median, found.percentile_97_5, found.reason) == (None, None, None, "no controls")
    assert found.smallest_p == 1.0


@pytest.mark.parametrize(("target", "controls"), [(math.nan, [1.0]), (1.0, [math.nan, 2.0])])
def test_a_missing_outcome_cannot_be_ranked(target: float, controls: list[float]) -> None:
    with pytest.raises(AssertionError, match="among"):
        rank_among(target, controls)


def test_under_the_null_a_p_of_one_in_twenty_comes_once_in_twenty() -> None:
    outcomes = np.random.default_rng(7).integers(0, 1_000_000, size=(4_000, 20))
    small = sum(rank_among(row[0], row[1:]).p <= 0.05 for row in outcomes)  # type: ignore[operator]
    assert stats.binomtest(small, 4_000, 0.05).pvalue > 1e-4


# Newcombe (1998), Table II, method 10.
@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_the_difference_of_two_proportions_has_newcombes_published_interval(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    found = newcombe_difference(*counts)
    assert found.value == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
    assert (found.low, found.high) == pytest.approx((low, high), abs=5.1e-5)


def test_the_difference_changes_its_sign_with_the_order() -> None:
    one, other = newcombe_difference(56, 70, 48, 80), newcombe_difference(48, 80, 56, 70)
    negated = [-figure for figure in (other.value, other.high, other.low) if figure is not None]
    assert [one.value, one.low, one.high] == pytest.approx(negated)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((0, 0, 1, 2), "no problems in the first group"),
        ((1, 2, 0, 0), "no problems in the second group"),
        ((0, 0, 0, 0), "no problems in the first and the second group"),
    ],
)
def test_a_difference_from_an_empty_group_is_missing(counts: tuple[int, int, int, int], reason: str) -> None:
    found = newcombe_difference(*counts)
    assert (found.value, found.low, found.high, found.reason) == (None, None, None, reason)
    assert found.as_dict()["second"]["denominator"] == counts[3]
