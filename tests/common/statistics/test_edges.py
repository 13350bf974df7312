from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from common.statistics.edges import (
    agreement,
    largest_rejected,
    mean_interval,
    saddlepoint_p,
    sign_flip_p,
    tail_p_values,
)

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)


def enumerated(values: np.ndarray) -> float:
    flips = np.array(list(product((-1, 1), repeat=len(values))))
    return float((np.abs(flips @ values) >= abs(values.sum()) - 1e-12).mean())


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 3.0])
def test_the_exact_p_equals_the_enumeration_of_all_flips(shift: float) -> None:
    for n in (1, 2, 5, 12):
        values = RNG.normal(shift, 1, n)
        assert sign_flip_p(values, 1, 100) == pytest.approx(enumerated(values), rel=1e-12)


def test_ties_among_equal_effects_are_counted() -> None:
    assert sign_flip_p(np.array([1.0, 1.0, -1.0]), 1, 100) == enumerated(np.array([1.0, 1.0, -1.0])) == 1.0
    assert sign_flip_p(np.ones(10), 1, 100) == 2 / 2**10


def test_effects_of_zero_say_nothing() -> None:
    assert sign_flip_p(np.zeros(5), 1, 100) == 1.0
    values = np.array([0.5, 1.5, -0.25])
    assert sign_flip_p(np.append(values, [0.0, 0.0]), 1, 100) == sign_flip_p(values, 1, 100)


@pytest.mark.parametrize("shift", [0.3, 0.6, 0.9, 1.2])
def test_the_saddlepoint_is_near_the_exact_p_far_into_the_tail(shift: float) -> None:
    for _ in range(5):
        values = RNG.normal(shift, 1, 22)
        exact = sign_flip_p(values, 1, 100)
        # Of 4 million flips a few reach an extreme sum: there p comes in steps, which no smooth formula follows.
        assert saddlepoint_p(values) == pytest.approx(exact, rel=0.1 if exact > 1e-4 else 0.5)


def test_many_prompts_reach_p_values_that_drawn_flips_cannot() -> None:
    values = np.abs(RNG.normal(1, 0.3, 40)) + 0.1
    assert sign_flip_p(values, 1, 10_000) == 2.0**-39
    values[0] = -values[0]
    assert 2.0**-39 < sign_flip_p(values, 1, 10_000) < 1e-9


def test_without_an_effect_p_is_uniform_for_many_prompts() -> None:
    p_values = np.array([sign_flip_p(RNG.normal(0, 1, 40), 7, 2000) for _ in range(1000)])
    assert 0.03 < (p_values <= 0.05).mean() < 0.07
    assert 0.4 < p_values.mean() < 0.6


def test_the_interval_of_the_mean_holds_it_and_equals_the_normal_one_nearly() -> None:
    values = RNG.normal(2.0, 1.0, 200)
    low, high = mean_interval(values, 3, 2000)
    assert low is not None and high is not None
    error = values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03)
    assert mean_interval(values[:1], 3, 100) == (None, None)


def test_agreement_equals_hand_computed_figures() -> None:
    predicted, measured = np.array([1.0, 2.0, -1.0]), np.array([2.0, 4.0, 1.0])
    found = agreement(predicted, measured)
    assert found.slope == pytest.approx((2 + 8 - 1) / 6)
    assert found.sign_agreement == pytest.approx(2 / 3)
    assert found.pearson == pytest.approx(np.corrcoef(predicted, measured)[0, 1])
    assert found.spearman == pytest.approx(1.0)
    assert agreement(np.zeros(3), measured) == (None, None, None, None)
    assert agreement(np.ones(3), measured).pearson is None


def test_tail_p_values_count_the_null_that_is_at_least_as_large() -> None:
    null = np.array([1.0, 2.0, 2.0, 3.0])
    assert tail_p_values(np.array([0.0, 2.0, 3.5]), null).tolist() == [1.0, 4 / 5, 1 / 5]
    assert np.isnan(tail_p_values(np.array([1.0]), np.zeros(0))).all()


def test_the_largest_rejected_p_is_the_threshold() -> None:
    p_values = np.array([0.001, 0.02, 0.5])
    assert largest_rejected(p_values, np.array([True, True, False])) == 0.02
    assert largest_rejected(p_values, np.zeros(3, dtype=bool)) == 0.0
