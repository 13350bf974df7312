"""Figures that describe a proportion, or the distance between two samples."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Both ends of a 95 % confidence interval; None where there is nothing to estimate from."""

    low: float | None
    high: float | None


def wilson_interval(successes: int, n: int) -> Interval:
    """Returns the 95 % score interval of a proportion, without continuity correction.

    Wilson, J. Am. Stat. Assoc. 22 (1927). With `n` of 0 both ends are None.
    """
    assert 0 <= successes <= n, f"{successes} of {n}"
    if n == 0:
        return Interval(None, None)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(low, high)


def ks_distance(first: Sequence[float] | NDArray, second: Sequence[float] | NDArray) -> float:
    """Returns the two-sample Kolmogorov-Smirnov distance: the largest gap between the two empirical distributions."""
    from scipy.stats import ks_2samp

    with np.errstate(divide="ignore"):  # the p-value, which nobody asked for, divides by zero for a sample of one
        result: Any = ks_2samp(np.asarray(first), np.asarray(second), method="asymp")
    return float(result.statistic)
