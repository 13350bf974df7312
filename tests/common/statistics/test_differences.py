from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from common.statistics.bootstrap import ScoredProblems, auroc_difference
from common.statistics.differences import (
    FROM_INTERVALS,
    NEWCOMBE,
    PAIRED,
    PARTLY,
    UNPAIRED,
    difference_from_intervals,
    difference_of_runs,
    proportion,
    ranking,
    ratio,
)
from common.statistics.steering import newcombe_difference, share

pytestmark = pytest.mark.numeric

N_DRAWS = 10_000
# Two percentile intervals of 10,000 draws each differ by about this share of their width.
NOISE = 0.05


def close(found: tuple[float | None, float | None], low: float, high: float) -> bool:
    margin = NOISE * (high - low)
    assert found[0] is not None and found[1] is not None
    return abs(found[0] - low) < margin and abs(found[1] - high) < margin


def labels(seed: int, n: int, rate: float) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


def scipy_interval(data: tuple, statistic, *, paired: bool) -> tuple[float, float]:
    found = stats.bootstrap(
        data,
        statistic,
        n_resamples=N_DRAWS,
        paired=paired,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(found.low), float(found.high)


# --- shares


def test_a_paired_difference_of_pass_rates_has_scipys_interval() -> None:
    n = 150
    first = labels(1, n, 0.5)
    second = np.where(np.random.default_rng(2).random(n) < 0.8, first, labels(3, n, 0.7))
    ids = np.arange(n)
    found = difference_of_runs(
        proportion(ids, first, np.ones(n), "x"), proportion(ids, second, np.ones(n), "x"), 42, N_DRAWS
    )
    assert found.value == pytest.approx(second.mean() - first.mean())
    assert (found.method, found.n_shared, found.reason) == (PAIRED, n, None)
    expected = scipy_interval((first, second), lambda a, b: b.mean() - a.mean(), paired=True)
    assert close((found.low, found.high), *expected)
    unpaired = scipy_interval((first, second), lambda a, b: b.mean() - a.mean(), paired=False)
    assert not close((found.low, found.high), *unpaired)  # so that the pairing is what the interval shows


def test_the_order_of_problems_in_either_run_does_not_matter() -> None:
    n = 60
    first, second, ids = labels(1, n, 0.5), labels(2, n, 0.6), np.arange(100, 100 + n)
    order = np.random.default_rng(5).permutation(n)
    one = proportion(ids, first, np.ones(n), "x")
    straight = difference_of_runs(one, proportion(ids, second, np.ones(n), "x"), 1, 500)
    shuffled = difference_of_runs(one, proportion(ids[order], second[order], np.ones(n), "x"), 1, 500)
    assert straight == shuffled


def test_samples_of_one_problem_stay_together() -> None:
    n, rng = 40, np.random.default_rng(7)
    easy = rng.random(n)
    first, second = rng.binomial(5, easy).astype(float), rng.binomial(2, np.clip(easy + 0.1, 0, 1)).astype(float)
    ids = np.arange(n)
    found = difference_of_runs(
        proportion(ids, first, np.full(n, 5), "x"), proportion(ids, second, np.full(n, 2), "x"), 42, N_DRAWS
    )
    expected = scipy_interval(
        (first, second), lambda a, b: b.sum() / (2 * len(b)) - a.sum() / (5 * len(a)), paired=True
    )
    assert found.value == pytest.approx(second.sum() / (2 * n) - first.sum() / (5 * n))
    assert close((found.low, found.high), *expected)


def test_runs_on_other_problems_have_newcombes_interval() -> None:
    first, second = labels(1, 50, 0.4), labels(2, 80, 0.6)
    found = difference_of_runs(
        proportion(np.arange(50), first, np.ones(50), "x"),
        proportion(np.arange(50, 130), second, np.ones(80), "x"),
        42,
        100,
    )
    expected = newcombe_difference(int(second.sum()), 80, int(first.sum()), 50)
    assert (found.value, found.low, found.high) == (
        pytest.approx(expected.value),
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )
    assert (found.method, found.n_shared) == (NEWCOMBE, 0)


def test_figures_of_other_problems_are_drawn_independently() -> None:
    first, second = labels(1, 60, 0.4) * 2 - labels(4, 60, 0.3), labels(2, 60, 0.6)
    found = difference_of_runs(
        ratio(np.arange(60), first, np.ones(60), "x"), ratio(np.arange(60, 120), second, np.ones(60), "x"), 42, N_DRAWS
    )
    expected = scipy_interval((first, second), lambda a, b: b.mean() - a.mean(), paired=False)
    assert found.method == UNPAIRED
    assert close((found.low, found.high), *expected)


def test_partly_shared_problems_are_drawn_once_for_both_runs() -> None:
    n, shared, rng = 120, 60, np.random.default_rng(3)
    first_ids, second_ids = np.arange(n), np.arange(n - shared, 2 * n - shared)
    first = labels(1, n, 0.5)
    second = labels(2, n, 0.5)
    second[:shared] = first[n - shared :]  # the shared ones have the same outcome
    found = difference_of_runs(
        proportion(first_ids, first, np.ones(n), "x"), proportion(second_ids, second, np.ones(n), "x"), 42, N_DRAWS
    )
    draws = []
    for _ in range(N_DRAWS):
        both = rng.integers(0, shared, shared)
        one = rng.integers(0, n - shared, n - shared)
        other = rng.integers(0, n - shared, n - shared)
        a = (first[n - shared :][both].sum() + first[: n - shared][one].sum()) / n
        b = (second[:shared][both].sum() + second[shared:][other].sum()) / n
        draws.append(b - a)
    assert (found.method, found.n_shared) == (PARTLY, shared)
    assert close((found.low, found.high), *np.quantile(draws, [0.025, 0.975]))


@pytest.mark.parametrize("offset", [0, 30, 90])
def test_exchanging_the_runs_changes_the_signs_and_nothing_else(offset: int) -> None:
    n = 80
    one = ratio(np.arange(n), labels(1, n, 0.5) - labels(2, n, 0.3), np.ones(n), "x")
    other = ratio(np.arange(offset, offset + n), labels(3, n, 0.5), np.ones(n), "x")
    there, back = difference_of_runs(one, other, 42, 1000), difference_of_runs(other, one, 42, 1000)
    assert there.value is not None and there.low is not None and there.high is not None
    assert (back.value, back.low, back.high) == (
        pytest.approx(-there.value),
        pytest.approx(-there.high),
        pytest.approx(-there.low),
    )
    assert (there.method, there.n_shared) == (back.method, back.n_shared)


# --- detection


def test_a_paired_difference_of_areas_has_the_interval_of_scikit_learns_areas_drawn_anew() -> None:
    n, rng = 90, np.random.default_rng(11)
    positive = np.arange(n) % 2 == 0
    base = positive + rng.standard_normal(n)
    one, other = np.round(base + 0.4 * rng.standard_normal(n), 1), np.round(base + 1.5 * rng.standard_normal(n), 1)
    ids = np.arange(n)
    found = difference_of_runs(ranking(ids, one, positive), ranking(ids, other, positive), 42, N_DRAWS)

    def areas(rows: NDArray[np.float64]) -> float:
        at = rows.astype(int)
        return float(roc_auc_score(positive[at], other[at]) - roc_auc_score(positive[at], one[at]))

    rng = np.random.default_rng(2)
    draws = [areas(rng.integers(0, n, n)) for _ in range(1500)]
    assert found.value == pytest.approx(areas(ids.astype(float)))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low is not None and found.high is not None
    margin = 0.12 * (high - low)  # a seventh of the draws
    assert abs(found.low - low) < margin and abs(found.high - high) < margin


def test_on_the_same_problems_it_is_the_difference_that_phase_7_6_reports() -> None:
    n, rng = 70, np.random.default_rng(4)
    ids, positive = rng.permutation(500)[:n], rng.random(n) < 0.5
    first, second = rng.standard_normal(n) + positive, rng.standard_normal(n) + positive
    found = difference_of_runs(ranking(ids, first, positive), ranking(ids, second, ~positive), 9, 500)
    both = ScoredProblems(first, positive, ids), ScoredProblems(second, ~positive, ids)
    expected = auroc_difference(both[1], both[0], 9, 500)
    assert (found.value, found.low, found.high) == (
        pytest.approx(expected.value),
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )


def test_f1_as_a_ratio_is_scikit_learns_and_so_is_its_interval() -> None:
    n, rng = 100, np.random.default_rng(8)
    positive, ids = rng.random(n) < 0.4, np.arange(n)
    flags = [np.where(rng.random(n) < wrong, ~positive, positive) for wrong in (0.1, 0.25)]
    figures = [ratio(ids, 2.0 * (flag & positive), flag.astype(float) + positive, "x") for flag in flags]
    assert [figure.value for figure in figures] == [pytest.approx(f1_score(positive, flag)) for flag in flags]
    found = difference_of_runs(figures[0], figures[1], 42, N_DRAWS)

    def f1(truth: NDArray, flag: NDArray) -> float:
        return 2 * (truth * flag).sum() / (truth.sum() + flag.sum())

    expected = scipy_interval(
        (positive.astype(float), flags[0].astype(float), flags[1].astype(float)),
        lambda truth, one, other: f1(truth, other) - f1(truth, one),
        paired=True,
    )
    assert close((found.low, found.high), *expected)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered, trials = 0, 300
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        n, common = 80, rng.random(80) < 0.5
        first = np.where(common, rng.random(n) < 0.8, rng.random(n) < 0.3).astype(float)
        second = np.where(common, rng.random(n) < 0.9, rng.random(n) < 0.4).astype(float)
        ids = np.arange(n)
        found = difference_of_runs(ratio(ids, first, np.ones(n), "x"), ratio(ids, second, np.ones(n), "x"), trial, 400)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.1 <= found.high
    assert stats.binomtest(covered, trials, 0.94).pvalue > 0.01 and covered / trials > 0.88


# --- from intervals alone


def test_with_wilson_intervals_it_is_newcombes() -> None:
    first, second = share(40, 100), share(75, 120)
    found = difference_from_intervals(first.as_dict(), second.as_dict())
    expected = newcombe_difference(75, 120, 40, 100)
    assert (found.value, found.low, found.high) == (
        pytest.approx(expected.value),
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )
    assert (found.method, found.n_shared) == (FROM_INTERVALS, None)


def test_by_hand() -> None:
    first, second = {"value": 0.9, "low": 0.86, "high": 0.93}, {"value": 0.8, "low": 0.77, "high": 0.84}
    found = difference_from_intervals(first, second)
    # -0.1 - sqrt(0.03^2 + 0.03^2), -0.1 + sqrt(0.04^2 + 0.04^2)
    assert (found.value, found.low, found.high) == pytest.approx((-0.1, -0.1424264069, -0.0434314575))


# --- what cannot be computed


def test_what_one_run_does_not_define_has_a_reason() -> None:
    ids = np.arange(4)
    nothing, half = np.zeros(4), np.array([0.0, 1, 0, 1])
    without = proportion(ids, nothing, nothing, "initially failing problems")
    found = difference_of_runs(without, proportion(ids, half, np.ones(4), "x"), 42, 100)
    assert (found.value, found.low, found.high, found.method) == (None, None, None, None)
    assert found.reason == "A: no initially failing problems"
    one_class = ranking(ids, half, np.ones(4, dtype=bool))
    found = difference_of_runs(one_class, without, 42, 100)
    assert found.reason == "A: no negative row among 4; B: no initially failing problems"


def test_runs_that_never_differ_have_no_interval() -> None:
    ids, half = np.arange(4), np.array([0.0, 1, 0, 1])
    one = proportion(ids, half, np.ones(4), "x")
    found = difference_of_runs(one, one, 42, 100)
    assert (found.value, found.low, found.high) == (0.0, None, None)
    assert found.reason == "no interval: the difference is the same in every draw"


def test_draws_that_lack_a_class_are_left_out() -> None:
    ids, positive = np.arange(6), np.array([True, False, False, False, False, False])
    found = difference_of_runs(
        ranking(ids, np.arange(6.0), positive), ranking(ids, np.array([3.0, 0, 1, 2, 4, 5]), positive), 42, 2000
    )
    assert found.value == pytest.approx(0.6) and found.low is not None and found.high is not None


def test_estimates_without_value_or_interval_have_reasons() -> None:
    known, bare = {"value": 0.9, "low": 0.8, "high": 1.0}, {"value": 0.5, "low": None, "high": None}
    nothing = {"value": None, "low": None, "high": None}
    assert difference_from_intervals(known, nothing).reason == "not defined in both runs"
    found = difference_from_intervals(known, bare)
    assert (found.value, found.low, found.reason) == (pytest.approx(-0.4), None, "no interval in both runs")


def test_a_problem_with_two_lines_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AssertionError, match="several lines"):
        proportion(np.array([1, 1]), np.ones(2), np.ones(2), "x")
