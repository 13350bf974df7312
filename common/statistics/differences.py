"""The difference of a figure between two runs, with an interval that knows which problems both have.

A figure is a function of how often each problem counts, so that one draw of problems serves both runs: where both
judged the same problems the bootstrap is paired; where they share some, the shared ones, those of the first and those
of the second only are strata, each drawn with replacement as many times as it has problems; where they share none, two
independent bootstraps remain (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13). All
samples of a problem stay together. Proportions of unshared problems have Newcombe's interval instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import hypot
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.statistics.bootstrap import drawn_multiplicities, figures_under, percentile_interval, problem_multiplicities
from common.statistics.detection import auroc_from_counts, checked_rows, missing_class
from common.statistics.seeding import generator
from common.statistics.selection import BoolArray, FloatArray, IntArray
from common.statistics.steering import newcombe_difference

PAIRED, PARTLY, UNPAIRED = "paired bootstrap", "bootstrap, problems partly shared", "unpaired bootstrap"
NEWCOMBE, FROM_INTERVALS = "unpaired, Newcombe", "unpaired, from both intervals"


class Trials(NamedTuple):
    """Successes among so many problems, each one trial."""

    successes: int
    n: int


@dataclass(frozen=True)
class Measured:
    """A figure of one run on `problems` (each once), and its values where these count as often as in each draw.

    `at` takes multiplicities (n_problems, n_draws) and returns (n_draws,), nan where a draw defines none. `trials` is
    there where the figure is a proportion of problems. A value that is None has a `reason`.
    """

    problems: IntArray
    value: float | None
    at: Callable[[FloatArray], FloatArray]
    reason: str | None = None
    trials: Trials | None = None


@dataclass(frozen=True)
class DifferenceOfRuns:
    """`second` minus `first`, with its 95 % interval, how that was made, and how many problems both have, if known.

    Where there is no value, or no interval, `reason` says why.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str | None
    n_shared: int | None
    reason: str | None


def proportion(problems: IntArray, successes: NDArray, trials: NDArray, of: str) -> Measured:
    """Returns Σ successes / Σ trials over problems, such as a pass rate; `of` names what there is none of.

    Arrays have shape (n_problems,), a line a problem; several samples of a problem are several trials.
    """
    found = ratio(problems, successes, trials, of)
    assert (np.asarray(successes) <= np.asarray(trials)).all(), "more successes than trials"
    one_each = found.value is not None and np.isin(trials, (0, 1)).all()
    return replace(found, trials=Trials(int(np.sum(successes)), int(np.sum(trials)))) if one_each else found


def ratio(problems: IntArray, numerator: NDArray, denominator: NDArray, of: str) -> Measured:
    """Returns the figure Σ numerator / Σ denominator over problems, such as F1: 2 tp over flagged plus positive.

    Arrays have shape (n_problems,), a line a problem; `of` names what there is none of where the denominator is 0.
    """
    assert len(np.unique(problems)) == len(problems), "a problem has several lines"
    tops, bottoms = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    total = float(bottoms.sum())

    def at(multiplicities: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return (tops @ multiplicities) / (bottoms @ multiplicities)

    return Measured(problems, float(tops.sum()) / total, at) if total else Measured(problems, None, at, f"no {of}")


def ranking(problems: IntArray, scores: FloatArray, positive: BoolArray) -> Measured:
    """Returns the AUROC of a score, one row a problem; arrays have shape (n_problems,)."""
    assert len(np.unique(problems)) == len(problems), "a problem has several rows"
    values, labels = checked_rows(scores, positive)
    column, lines = values[:, None], np.arange(len(values))

    def at(multiplicities: FloatArray) -> FloatArray:
        return figures_under(auroc_from_counts, column, labels, lines, multiplicities)[:, 0]

    lacking = missing_class(labels)
    value = None if lacking else float(at(np.ones((len(values), 1)))[0])
    return Measured(problems, value, at, lacking)


def difference_of_runs(first: Measured, second: Measured, seed: int, n_draws: int) -> DifferenceOfRuns:
    """Returns the second run's figure minus the first's; exchanging the runs changes the signs and nothing else."""
    shared = np.intersect1d(first.problems, second.problems)
    if first.value is None or second.value is None:
        reason = "; ".join(f"{name}: {one.reason}" for name, one in _named(first, second).items() if one.reason)
        return DifferenceOfRuns(None, None, None, None, len(shared), reason)
    value = second.value - first.value
    if len(shared) == 0 and first.trials is not None and second.trials is not None:
        found = newcombe_difference(*second.trials, *first.trials)
        return DifferenceOfRuns(value, found.low, found.high, NEWCOMBE, 0, None)
    times = _multiplicities(first.problems, second.problems, shared, seed, n_draws)
    draws = second.at(times[1]) - first.at(times[0])
    low, high, reason = percentile_interval(draws[~np.isnan(draws)], len(first.problems))
    if reason and not np.isnan(draws).all():
        reason = "no interval: the difference is the same in every draw"
    same = len(shared) == len(first.problems) == len(second.problems)
    method = PAIRED if same else PARTLY if len(shared) else UNPAIRED
    return DifferenceOfRuns(value, low, high, method, len(shared), reason)


def difference_from_intervals(
    first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> DifferenceOfRuns:
    """Returns the difference of two estimates of which only `value`, `low` and `high` are known.

    The variances at both ends are recovered from the intervals (MOVER: Zou & Donner, Stat. Med. 27 (2008), 1693-1702,
    for independent estimates; Newcombe's method 10 is its case for proportions). On the same problems it is too wide
    rather than too narrow.
    """
    figures = [(one["value"], one["low"], one["high"]) for one in (first, second)]
    (a, a_low, a_high), (b, b_low, b_high) = figures
    if a is None or b is None:
        return DifferenceOfRuns(None, None, None, None, None, "not defined in both runs")
    if a_low is None or a_high is None or b_low is None or b_high is None:
        return DifferenceOfRuns(b - a, None, None, None, None, "no interval in both runs")
    low = b - a - hypot(b - b_low, a_high - a)
    high = b - a + hypot(b_high - b, a - a_low)
    return DifferenceOfRuns(b - a, low, high, FROM_INTERVALS, None, None)


def _named(first: Measured, second: Measured) -> dict[str, Measured]:
    return {"A": first, "B": second}


def _multiplicities(
    first: IntArray, second: IntArray, shared: IntArray, seed: int, n_draws: int
) -> tuple[FloatArray, FloatArray]:
    """How often each problem of either run counts in each draw; a shared problem counts alike in both.

    Where both have the same problems these are the draws of every other bootstrap over as many problems.
    """
    strata = [shared, np.setdiff1d(first, second), np.setdiff1d(second, first)]
    # By their first problem, so that exchanging the runs leaves the draws as they are.
    strata = sorted((stratum for stratum in strata if len(stratum)), key=lambda stratum: int(stratum[0]))
    if len(strata) == 1:
        times = problem_multiplicities(len(shared), seed, n_draws)
    else:
        random = generator(seed, "bootstrap over problems of two runs")
        times = np.concatenate([drawn_multiplicities(random, len(stratum), n_draws) for stratum in strata])
    problems = np.concatenate(strata)
    order = np.argsort(problems)
    first_lines, second_lines = (order[np.searchsorted(problems, one, sorter=order)] for one in (first, second))
    return times[first_lines], times[second_lines]
