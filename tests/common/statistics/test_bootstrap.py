from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, special, stats
from sklearn import metrics

from common.statistics.bootstrap import (
    ScoredProblems,
    auroc_above_median,
    auroc_difference,
    auroc_draws,
    average_precision_draws,
    bootstrap_auroc,
    bootstrap_average_precision,
    bootstrap_share,
    problem_multiplicities,
)

pytestmark = pytest.mark.numeric

Rows = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def clustered(seed: int, n_problems: int, samples: int, n_scores: int, *, per_problem: bool) -> Rows:
    """Rows of several samples a problem in mixed order; `per_problem` scores are the same for all of them."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(rng.permutation(10 * n_problems)[:n_problems], samples)
    easy = np.repeat(rng.standard_normal(n_problems), samples)
    noise = rng.standard_normal((n_problems, n_scores))
    noise = np.repeat(noise, samples, axis=0) if per_problem else rng.standard_normal((len(groups), n_scores))
    positive = rng.random(len(groups)) < special.expit(easy - 0.5)
    scores = np.maximum(np.round(easy[:, None] + noise, 1), -0.4)  # ties, and a value that many rows share
    order = rng.permutation(len(groups))
    return scores[order], positive[order], groups[order]


def resampled_rows(groups: NDArray[np.int64], counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the rows of a draw, each repeated as often as its problem was drawn."""
    times = dict(zip(sorted(set(groups.tolist())), counts.astype(int).tolist(), strict=True))
    return np.repeat(np.arange(len(groups)), [times[group] for group in groups.tolist()])


@pytest.mark.parametrize(("samples", "per_problem"), [(1, True), (4, True), (4, False)])
def test_each_draw_has_the_figures_that_scikit_learn_computes_on_the_resampled_rows(
    samples: int, per_problem: bool
) -> None:
    scores, positive, groups = clustered(1, 30, samples, 3, per_problem=per_problem)
    areas = auroc_draws(scores, positive, groups, seed=5, n_draws=40)
    precisions = average_precision_draws(scores, positive, groups, seed=5, n_draws=40)
    multiplicities = problem_multiplicities(30, seed=5, n_draws=40)
    for draw in range(40):
        rows = resampled_rows(groups, multiplicities[:, draw])
        for column in range(3):
            area = metrics.roc_auc_score(positive[rows], scores[rows, column])
            precision = metrics.average_precision_score(positive[rows], scores[rows, column])
            assert areas[draw, column] == pytest.approx(area, abs=1e-12)
            assert precisions[draw, column] == pytest.approx(precision, abs=1e-12)


def test_draws_do_not_depend_on_how_many_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, positive, groups = clustered(2, 25, 2, 2, per_problem=False)
    whole = auroc_draws(scores, positive, groups, seed=1, n_draws=101)
    monkeypatch.setattr("common.statistics.bootstrap.CHUNK_NUMBERS", 300)
    np.testing.assert_array_equal(auroc_draws(scores, positive, groups, seed=1, n_draws=101), whole)


def test_every_draw_has_as_many_problems_as_there_are_each_equally_often() -> None:
    multiplicities = problem_multiplicities(20, seed=42, n_draws=5_000)
    assert set(multiplicities.sum(axis=0).tolist()) == {20.0}
    # Six standard errors of a mean of 5,000 binomial counts with variance 1 - 1/20.
    np.testing.assert_allclose(multiplicities.mean(axis=1), 1, atol=6 * math.sqrt(0.95 / 5_000))
    np.testing.assert_array_equal(multiplicities, problem_multiplicities(20, seed=42, n_draws=5_000))
    assert (multiplicities != problem_multiplicities(20, seed=43, n_draws=5_000)).any()


def test_the_order_of_rows_and_the_names_of_problems_change_nothing() -> None:
    scores, positive, groups = clustered(3, 40, 3, 1, per_problem=False)
    order = np.random.default_rng(0).permutation(len(groups))
    first = bootstrap_auroc(scores[:, 0], positive, groups, seed=1, n_draws=200)
    second = bootstrap_auroc(scores[order, 0], positive[order], 7 * groups[order] + 3, seed=1, n_draws=200)
    assert first == second


def test_the_interval_holds_the_middle_95_percent_of_the_draws_around_scikit_learns_value() -> None:
    scores, positive, groups = clustered(4, 60, 2, 1, per_problem=False)
    for estimate, draws, reference in (
        (bootstrap_auroc, auroc_draws, metrics.roc_auc_score),
        (bootstrap_average_precision, average_precision_draws, metrics.average_precision_score),
    ):
        found = estimate(scores[:, 0], positive, groups, seed=9, n_draws=999)
        ordered = np.sort(draws(scores, positive, groups, seed=9, n_draws=999)[:, 0])
        assert found.value == pytest.approx(reference(positive, scores[:, 0]), abs=1e-12)
        assert found.low is not None and found.high is not None
        assert ordered[24] <= found.low <= ordered[25] and ordered[973] <= found.high <= ordered[974]
        assert (found.n, found.n_problems, found.n_draws, found.n_draws_left_out) == (120, 60, 999, 0)
        json.dumps(found.as_dict(), allow_nan=False)


def test_draws_of_one_class_are_left_out_and_counted() -> None:
    positive = np.arange(30) == 4
    scores = np.arange(30.0)
    found = bootstrap_auroc(scores, positive, np.arange(30), seed=3, n_draws=2_000)
    absent = problem_multiplicities(30, seed=3, n_draws=2_000)[4] == 0
    assert found.n_draws_left_out == absent.sum()
    assert np.isnan(auroc_draws(scores[:, None], positive, np.arange(30), seed=3, n_draws=2_000)[:, 0]).sum() == (
        absent.sum()
    )
    # A problem stays out of a draw of 30 with probability (29 / 30)^30.
    low, high = stats.binom.interval(0.999, 2_000, (29 / 30) ** 30)
    assert low <= found.n_draws_left_out <= high
    assert found.reason is None and found.low is not None


@pytest.mark.parametrize("label", [True, False])
def test_rows_of_one_class_give_no_value_but_a_reason(label: bool) -> None:
    positive, groups = np.full(12, label), np.arange(12)
    for estimate in (bootstrap_auroc, bootstrap_average_precision):
        found = estimate(np.arange(12.0), positive, groups, seed=1, n_draws=50)
        assert (found.value, found.low, found.high, found.n_draws_left_out) == (None, None, None, 50)
        assert found.reason == f"no {'negative' if label else 'positive'} row among 12"
    difference = auroc_above_median(np.arange(12.0), np.ones((12, 3)), positive, groups, seed=1, n_draws=50)
    assert (difference.value, difference.low, difference.n) == (None, None, 12)


def test_no_rows_give_no_value_but_a_reason() -> None:
    found = bootstrap_auroc(np.array([]), np.array([], dtype=bool), np.array([], dtype=int), seed=1, n_draws=50)
    assert (found.value, found.low, found.n, found.n_problems, found.reason) == (None, None, 0, 0, "no rows")


def test_a_figure_that_no_draw_changes_has_no_interval_of_width_zero() -> None:
    positive = np.arange(20) >= 12
    perfect = bootstrap_auroc(positive.astype(float), positive, np.arange(20), seed=1, n_draws=100)
    assert (perfect.value, perfect.low, perfect.high) == (1.0, None, None)
    assert perfect.reason == "no interval: the figure is the same in all 100 draws of 20 problems"
    one_problem = bootstrap_auroc(np.arange(20.0) % 3, positive, np.zeros(20, dtype=int), seed=1, n_draws=100)
    assert one_problem.value is not None and one_problem.low is None and one_problem.n_problems == 1


def test_the_difference_to_the_median_rival_is_taken_within_each_draw() -> None:
    scores, positive, groups = clustered(6, 50, 2, 6, per_problem=False)
    target, rivals = scores[:, 0], scores[:, 1:]
    found = auroc_above_median(target, rivals, positive, groups, seed=2, n_draws=100)
    aurocs = [metrics.roc_auc_score(positive, column) for column in scores.T]
    assert found.value == pytest.approx(aurocs[0] - np.median(aurocs[1:]), abs=1e-12)
    multiplicities, differences = problem_multiplicities(50, seed=2, n_draws=100), []
    for draw in range(100):
        rows = resampled_rows(groups, multiplicities[:, draw])
        drawn = [metrics.roc_auc_score(positive[rows], column[rows]) for column in scores.T]
        differences.append(drawn[0] - np.median(drawn[1:]))
    assert [found.low, found.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist(), abs=1e-12)


def test_a_paired_difference_of_similar_scores_is_narrower_than_either_interval() -> None:
    rng, groups = np.random.default_rng(7), np.arange(100)
    score = rng.standard_normal(100)
    positive = rng.random(100) < special.expit(score)
    similar = score + 0.1 * rng.standard_normal(100)
    alone = bootstrap_auroc(score, positive, groups, seed=1, n_draws=1_000)
    difference = auroc_above_median(score, similar[:, None], positive, groups, seed=1, n_draws=1_000)
    assert alone.low is not None and alone.high is not None
    assert difference.low is not None and difference.high is not None
    assert difference.high - difference.low < (alone.high - alone.low) / 3


def two_models(n_problems: int) -> tuple[ScoredProblems, ScoredProblems]:
    """Scores and labels of two models on the same problems, in unlike order."""
    rng = np.random.default_rng(11)
    groups, easy = rng.permutation(500)[:n_problems], rng.standard_normal(n_problems)
    models = []
    for noise in (0.5, 1.5):
        scores = np.round(easy + noise * rng.standard_normal(n_problems), 1)
        positive = rng.random(n_problems) < special.expit(2 * easy)
        order = rng.permutation(n_problems)
        models.append(ScoredProblems(scores[order], positive[order], groups[order]))
    return models[0], models[1]


def by_problem(model: ScoredProblems) -> dict[int, tuple[float, bool]]:
    return dict(
        zip(model.groups.tolist(), zip(model.scores.tolist(), model.positive.tolist(), strict=True), strict=True)
    )


def test_the_difference_of_two_models_is_scikit_learns_on_the_same_drawn_problems() -> None:
    one, other = two_models(40)
    found = auroc_difference(one, other, seed=8, n_draws=120)
    tables, problems = [by_problem(one), by_problem(other)], sorted(one.groups.tolist())
    multiplicities, differences = problem_multiplicities(40, seed=8, n_draws=120), []
    for counts in [np.ones(40), *multiplicities.T]:
        drawn = np.repeat(problems, counts.astype(int)).tolist()
        areas = []
        for table in tables:
            scores, positive = zip(*(table[problem] for problem in drawn), strict=True)
            areas.append(metrics.roc_auc_score(positive, scores))
        differences.append(areas[0] - areas[1])
    assert found.value == pytest.approx(differences[0], abs=1e-12)
    assert [found.low, found.high] == pytest.approx(np.quantile(differences[1:], [0.025, 0.975]).tolist(), abs=1e-12)
    assert (found.n, found.n_problems, found.n_draws, found.n_draws_left_out) == (40, 40, 120, 0)
    turned = auroc_difference(other, one, seed=8, n_draws=120)
    assert found.value != 0 and turned.value == -found.value
    assert found.low is not None and turned.high == pytest.approx(-found.low, abs=1e-12)


def test_problems_that_only_one_model_has_count_in_neither_side_of_the_difference() -> None:
    one, other = two_models(40)
    kept = sorted(one.groups.tolist())[5:33]
    partial = ScoredProblems(*(part[np.isin(one.groups, kept)] for part in one))
    fewer = ScoredProblems(*(part[np.isin(other.groups, [*kept[3:], *sorted(other.groups)[:2]])] for part in other))
    both = kept[3:]
    found = auroc_difference(partial, fewer, seed=8, n_draws=50)
    areas = []
    for table in (by_problem(one), by_problem(other)):
        scores, positive = zip(*(table[problem] for problem in both), strict=True)
        areas.append(metrics.roc_auc_score(positive, scores))
    assert found.value == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert (found.n, found.n_problems) == (25, 25)
    only_both = [ScoredProblems(*(part[np.isin(each.groups, both)] for part in each)) for each in (one, other)]
    assert found == auroc_difference(*only_both, seed=8, n_draws=50)


def test_a_difference_needs_both_classes_in_either_model() -> None:
    one, other = two_models(40)
    failed = other._replace(positive=np.zeros(40, dtype=bool))
    for pair in ((one, failed), (failed, one)):
        found = auroc_difference(*pair, seed=1, n_draws=20)
        assert (found.value, found.low, found.n, found.n_draws_left_out) == (None, None, 40, 20)
        assert found.reason == "no positive row among 40"
    apart = auroc_difference(one, other._replace(groups=other.groups + 1000), seed=1, n_draws=20)
    assert (apart.value, apart.n, apart.reason) == (None, 0, "no rows")


def test_a_draw_that_lacks_a_class_of_one_model_is_left_out_for_both() -> None:
    one, other = two_models(30)
    rare = other._replace(positive=np.arange(30) == 4)
    place = np.flatnonzero(np.sort(other.groups) == other.groups[4])[0]
    absent = problem_multiplicities(30, seed=3, n_draws=500)[place] == 0
    assert auroc_difference(one, rare, seed=3, n_draws=500).n_draws_left_out == absent.sum() > 0


def test_a_model_does_not_differ_from_itself() -> None:
    one, _ = two_models(40)
    found = auroc_difference(one, one, seed=1, n_draws=50)
    assert (found.value, found.low, found.high) == (0.0, None, None)
    assert found.reason is not None and "the same in all 50 draws" in found.reason


def test_models_that_find_the_same_problems_hard_are_compared_more_narrowly_than_independent_draws_would() -> None:
    rng, groups = np.random.default_rng(7), np.arange(150)
    score = rng.standard_normal(150)
    positive = rng.random(150) < special.expit(score)
    one = ScoredProblems(score, positive, groups)
    other = ScoredProblems(score + 0.3 * rng.standard_normal(150), positive, groups)
    paired = auroc_difference(one, other, seed=1, n_draws=1_000)
    alone = [bootstrap_auroc(each.scores, each.positive, groups, seed=1, n_draws=1_000) for each in (one, other)]
    widths = [each.high - each.low for each in alone if each.low is not None and each.high is not None]
    assert paired.low is not None and paired.high is not None and len(widths) == 2
    assert paired.high - paired.low < 0.6 * math.hypot(*widths)


def test_a_problem_with_several_rows_cannot_be_paired() -> None:
    one, other = two_models(10)
    with pytest.raises(AssertionError, match="several rows"):
        auroc_difference(one, other._replace(groups=np.zeros(10, dtype=int)), seed=1, n_draws=10)


def test_a_share_has_the_interval_of_the_resampled_rows() -> None:
    _, positive, groups = clustered(8, 40, 3, 1, per_problem=True)
    kept = np.random.default_rng(1).random(120) < 0.8  # problems with unlike numbers of samples
    positive, groups = positive[kept], groups[kept]
    found = bootstrap_share(positive, groups, seed=4, n_draws=300)
    n_problems = len(set(groups.tolist()))
    multiplicities = problem_multiplicities(n_problems, seed=4, n_draws=300)
    shares = [positive[resampled_rows(groups, counts)].mean() for counts in multiplicities.T]
    assert found.value == positive.mean() and (found.n, found.n_problems) == (kept.sum(), n_problems)
    assert [found.low, found.high] == pytest.approx(np.quantile(shares, [0.025, 0.975]).tolist(), abs=1e-12)


def test_a_share_of_no_rows_or_of_nothing_but_failures_has_no_interval_but_a_reason() -> None:
    nothing = bootstrap_share(np.array([], dtype=bool), np.array([], dtype=int), seed=1, n_draws=10)
    assert (nothing.value, nothing.low, nothing.reason) == (None, None, "no rows")
    failures = bootstrap_share(np.zeros(9, dtype=bool), np.arange(9), seed=1, n_draws=10)
    assert (failures.value, failures.low, failures.high) == (0.0, None, None)
    assert failures.reason == "no interval: the figure is the same in all 10 draws of 9 problems"


SLOPE, OFFSET = 1.0, -0.5


def true_auroc() -> float:
    """AUROC of a standard normal score whose rows are positive with probability expit(SLOPE * score + OFFSET)."""
    grid = np.linspace(-8, 8, 20_001)
    weight, positive = stats.norm.pdf(grid), special.expit(SLOPE * grid + OFFSET)
    below = integrate.cumulative_trapezoid(weight * (1 - positive), grid, initial=0)
    pairs = integrate.trapezoid(weight * positive, grid) * below[-1]
    return float(integrate.trapezoid(weight * positive * below, grid) / pairs)


def coverage(n_simulations: int, *, by_problem: bool) -> int:
    """In how many simulations of 80 problems with 8 alike samples the interval holds the true AUROC."""
    truth, hits = true_auroc(), 0
    for run in range(n_simulations):
        rng = np.random.default_rng(1_000 + run)
        score = rng.standard_normal(80)
        passed = rng.random(80) < special.expit(SLOPE * score + OFFSET)
        score, passed = np.repeat(score, 8), np.repeat(passed, 8)
        groups = np.repeat(np.arange(80), 8) if by_problem else np.arange(640)
        found = bootstrap_auroc(score, passed, groups, seed=run, n_draws=1_000)
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
    return hits


def test_intervals_over_problems_hold_the_truth_in_95_percent_of_simulations() -> None:
    low, high = stats.binom.interval(0.999, 300, 0.95)
    assert low <= coverage(300, by_problem=True) <= high


def test_intervals_over_rows_are_too_narrow_when_samples_of_a_problem_resemble_each_other() -> None:
    low, _ = stats.binom.interval(0.999, 100, 0.95)
    assert coverage(100, by_problem=False) < low
