"""What steering did to paired problems, and a target's place among its controls.

A *fix* is a problem whose baseline solution fails and whose steered one passes, a *break* the reverse; both are counted
on the same problems. The test against the baseline is McNemar's exact one (Psychometrika 12, 1947), against the
controls the target's rank, as in a permutation test (Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). A figure
that nothing can be computed from is None, with the reason beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np

from common.statistics.permutation import Direction
from common.statistics.selection import BoolArray
from common.statistics.summaries import CONFIDENCE, wilson_interval

# Named before anything is steered: what the correct and the incorrect direction are judged by.
OUTCOMES: dict[Direction, str] = {"correct": "fixes minus breaks", "incorrect": "breaks whose code still parses"}

# Where a coefficient's flip rate should lie, and how many solutions should still parse; both are said, neither decides.
FLIP_RATE_LOOKED_FOR = (0.20, 0.60)
PARSING_LOOKED_FOR = 0.80


@dataclass(frozen=True)
class Share:
    """A proportion with its 95 % Wilson interval; `reason` says why value and interval are None."""

    value: float | None
    low: float | None
    high: float | None
    numerator: int
    denominator: int
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Returns every figure by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """The difference of two independent proportions, first minus second, with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None
    first: Share
    second: Share
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Returns every figure by name, both shares nested, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Flips:
    """What became of `n` problems, each with a baseline and a steered solution.

    `flip_rate` and `parsing` are shares of all problems, `correction` of the initially failing (fixes), `corruption`
    (breaks) and `preservation` of the initially passing. `mcnemar_p` is None without problems.
    """

    n: int
    n_failing: int
    n_passing: int
    fixes: int
    breaks: int
    breaks_that_parse: int
    net: int
    solved_before: int
    solved_after: int
    flip_rate: Share
    correction: Share
    corruption: Share
    preservation: Share
    parsing: Share
    mcnemar_p: float | None

    def as_dict(self) -> dict[str, Any]:
        """Returns every figure by name, shares nested, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RankAmongControls:
    """How many of `n_controls` controls do at least as well as the target, and what they reach.

    `p` is (1 + n_at_least) / (1 + n_controls), `smallest_p` the value that it takes when no control reaches the target.
    Without controls `p` and the figures of the controls are None, with the reason.
    """

    target: float
    n_controls: int
    n_at_least: int
    p: float | None
    smallest_p: float
    median: float | None
    minimum: float | None
    maximum: float | None
    percentile_2_5: float | None
    percentile_97_5: float | None
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Returns every figure by name, ready for JSON."""
        return asdict(self)


def share(numerator: int, denominator: int, of: str = "problems") -> Share:
    """Returns `numerator` / `denominator` with its interval; `of` names in the reason what there are none of."""
    low, high = wilson_interval(numerator, denominator)
    if denominator == 0:
        return Share(None, low, high, numerator, denominator, f"no {of}")
    return Share(numerator / denominator, low, high, numerator, denominator, None)


def mcnemar_exact(fixes: int, breaks: int) -> float:
    """Returns the exact two-sided p of McNemar's test: each discordant pair is a fix or a break with probability 0.5.

    Without a discordant pair it is 1: nothing speaks against chance. Counted in whole numbers up to one last division.
    """
    assert fixes >= 0 and breaks >= 0, f"{fixes} fixes, {breaks} breaks"
    n = fixes + breaks
    term = tail = 1  # ways to have none of the rarer kind; then, one by one, those to have more
    for k in range(min(fixes, breaks)):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)  # the tails meet in the middle where fixes equal breaks


def flips(baseline: BoolArray, steered: BoolArray, parses: BoolArray) -> Flips:
    """Counts what steering changed.

    All arrays have shape (n_problems,), in the same order of problems: whether the baseline solution passes, whether
    the steered one does, and whether the steered code parses.
    """
    for name, values in (("baseline", baseline), ("steered", steered), ("parses", parses)):
        assert values.dtype == np.bool_ and values.shape == (len(baseline),), f"{name}: {values.dtype} {values.shape}"
    n, n_passing = len(baseline), _count(baseline)
    fixes, breaks = _count(~baseline & steered), _count(baseline & ~steered)
    passing = "initially passing problems"
    return Flips(
        n=n,
        n_failing=n - n_passing,
        n_passing=n_passing,
        fixes=fixes,
        breaks=breaks,
        breaks_that_parse=_count(baseline & ~steered & parses),
        net=fixes - breaks,
        solved_before=n_passing,
        solved_after=_count(steered),
        flip_rate=share(fixes + breaks, n),
        correction=share(fixes, n - n_passing, "initially failing problems"),
        corruption=share(breaks, n_passing, passing),
        preservation=share(n_passing - breaks, n_passing, passing),
        parsing=share(_count(parses), n),
        mcnemar_p=mcnemar_exact(fixes, breaks) if n else None,
    )


def primary_outcome(counted: Flips, direction: Direction) -> int:
    """Returns the one figure that a direction and its controls are judged by (named in `OUTCOMES`)."""
    assert direction in OUTCOMES, direction
    return counted.net if direction == "correct" else counted.breaks_that_parse


def rank_among(target: float, controls: Sequence[float]) -> RankAmongControls:
    """Ranks the target among its controls on an outcome of which more is better; ties count against the target."""
    values = np.asarray(controls, dtype=np.float64)
    assert values.ndim == 1 and isfinite(target) and np.isfinite(values).all(), f"{target} among {controls}"
    n, n_at_least = len(values), _count(values >= target)
    smallest = 1 / (1 + n)
    if n == 0:
        return RankAmongControls(float(target), 0, 0, None, smallest, None, None, None, None, None, "no controls")
    tail = (1 - CONFIDENCE) / 2
    figures = np.quantile(values, [0.5, 0.0, 1.0, tail, 1 - tail]).tolist()
    return RankAmongControls(float(target), n, n_at_least, (1 + n_at_least) / (1 + n), smallest, *figures, reason=None)


def newcombe_difference(first_successes: int, first_n: int, second_successes: int, second_n: int) -> Difference:
    """Returns the difference of two independent proportions with its hybrid score interval.

    Newcombe, Stat. Med. 17 (1998), 873-890, method 10: both Wilson intervals, without continuity correction. For the
    same problems under two conditions it is not meant: those are paired.
    """
    first, second = share(first_successes, first_n), share(second_successes, second_n)
    if first.value is None or second.value is None:
        which = [name for name, one in (("first", first), ("second", second)) if one.value is None]
        return Difference(None, None, None, first, second, f"no problems in the {' and the '.join(which)} group")
    assert first.low is not None and first.high is not None and second.low is not None and second.high is not None
    value = first.value - second.value
    low = value - sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    high = value + sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Difference(value, low, high, first, second, None)


def _count(rows: BoolArray) -> int:
    return int(np.count_nonzero(rows))
