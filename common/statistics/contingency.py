"""Fisher's exact test for several two-by-two tables at once, for a difference that they have in common.

With all margins given, the number of successes in the first groups together is a sum of independent hypergeometric
numbers; its exact distribution is the convolution of theirs (Cox, Analysis of Binary Data, 1970, section 5.2; the exact
form of the Cochran-Mantel-Haenszel test). With one table this is Fisher's exact test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple


class Table(NamedTuple):
    """One stratum: successes and members of both groups."""

    first_successes: int
    first_n: int
    second_successes: int
    second_n: int


def hypergeometric_weights(n_successes: int, n_first: int, n_second: int) -> list[int]:
    """Returns in how many ways the first group can have each number of the successes, from the smallest possible on."""
    smallest, largest = max(0, n_successes - n_second), min(n_successes, n_first)
    weight = math.comb(n_first, smallest) * math.comb(n_second, n_successes - smallest)
    weights = [weight]
    for k in range(smallest, largest):
        weight = weight * (n_first - k) * (n_successes - k) // ((k + 1) * (n_second - n_successes + k + 1))
        weights.append(weight)
    return weights


def stratified_fisher(tables: Sequence[Table]) -> float | None:
    """Returns the exact two-sided p of a common difference between both groups; None where no table can show one.

    Two-sided means the probability of all outcomes at most as likely as the observed one, compared in whole numbers, so
    that equally likely ones tie exactly. A table in which nobody or everybody succeeds, or a group is empty, says
    nothing and takes no part.
    """
    telling = sorted(table for table in tables if _says_something(table))
    return _p_value(tuple(telling)) if telling else None


def mean_difference(tables: Sequence[Table]) -> float | None:
    """Returns the difference of the success rates, first minus second, over all tables with both groups.

    Tables are weighted by n1 n2 / (n1 + n2), as Cochran (Biometrics 10, 1954) and Mantel and Haenszel weight them.
    """
    total = weighted = 0.0
    for table in tables:
        if table.first_n and table.second_n:
            weight = table.first_n * table.second_n / (table.first_n + table.second_n)
            total += weight
            weighted += weight * (table.first_successes / table.first_n - table.second_successes / table.second_n)
    return weighted / total if total else None


def _says_something(table: Table) -> bool:
    successes, members = table.first_successes + table.second_successes, table.first_n + table.second_n
    return table.first_n > 0 and table.second_n > 0 and 0 < successes < members


@lru_cache(maxsize=65536)
def _p_value(tables: tuple[Table, ...]) -> float:
    weights, observed = [1], 0
    for table in tables:
        successes = table.first_successes + table.second_successes
        weights = _convolved(weights, hypergeometric_weights(successes, table.first_n, table.second_n))
        observed += table.first_successes - max(0, successes - table.second_n)
    return sum(weight for weight in weights if weight <= weights[observed]) / sum(weights)


def _convolved(first: list[int], second: list[int]) -> list[int]:
    if len(first) == 1:
        return [first[0] * weight for weight in second]
    result = [0] * (len(first) + len(second) - 1)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            result[i + j] += one * other
    return result
