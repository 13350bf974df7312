"""Three splits of equal difficulty.

The problems beyond the last full ten are drawn at random and go to the first split. The rest is ordered by complexity,
shuffled among equals and cut into tens, and each ten is dealt at random in the ratio of the splits. At any complexity
the cumulative shares of two splits then differ by at most one in the number of tens, plus what the remainder adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from common.errors import UsageError
from common.statistics.seeding import generator
from common.statistics.summaries import ks_distance

SPLITS = ("sae", "hyperparams", "validation")
GROUP = 10


class SplitFigures(NamedTuple):
    """Size of a split and its complexity: mean, standard deviation (n - 1; None for one problem) and range."""

    n: int
    mean: float
    standard_deviation: float | None
    minimum: int
    maximum: int


class Balance(NamedTuple):
    """Figures of each split, and the Kolmogorov-Smirnov distance of each pair, keyed `first-second`."""

    splits: dict[str, SplitFigures]
    ks_distance: dict[str, float]


def split_problems(
    task_ids: Sequence[int], complexities: Sequence[int], seed: int, ratios: tuple[int, int, int]
) -> dict[str, list[int]]:
    """Deals the problems to `SPLITS` by `ratios` in tenths; each split comes back sorted by task id.

    The result depends on the problems and the seed, not on the order in which the problems are given.
    """
    assert len(task_ids) == len(complexities), f"{len(task_ids)} task ids, {len(complexities)} complexities"
    _check(task_ids, ratios)
    by_id = np.argsort(np.asarray(task_ids, dtype=np.int64))
    ids = np.asarray(task_ids, dtype=np.int64)[by_id]
    difficulty = np.asarray(complexities, dtype=np.int64)[by_id]
    shuffled = generator(seed, "split", "order").permutation(len(ids))
    n_remainder = len(ids) % GROUP
    remainder, dealt = shuffled[:n_remainder], shuffled[n_remainder:]
    ordered = dealt[np.argsort(difficulty[dealt], kind="stable")].reshape(-1, GROUP)
    hand = np.tile(np.repeat(np.arange(len(SPLITS)), ratios), (len(ordered), 1))
    owner = generator(seed, "split", "deal").permuted(hand, axis=1)
    members = {name: ordered[owner == position] for position, name in enumerate(SPLITS)}
    members[SPLITS[0]] = np.concatenate([members[SPLITS[0]], remainder])
    return {name: sorted(ids[positions].tolist()) for name, positions in members.items()}


def _check(task_ids: Sequence[int], ratios: tuple[int, int, int]) -> None:
    if len(ratios) != len(SPLITS) or min(ratios) < 1 or sum(ratios) != GROUP:
        raise UsageError(
            f"split ratios {tuple(ratios)} cannot be used: give {len(SPLITS)} whole numbers of at least 1 that sum to "
            f"{GROUP} ({', '.join(SPLITS)})"
        )
    if len(task_ids) < GROUP:
        raise UsageError(
            f"{len(task_ids)} problems cannot be split: fewer than {GROUP} would all go to {SPLITS[0]} and leave "
            f"{' and '.join(SPLITS[1:])} empty; give at least {GROUP} problems"
        )
    if len(set(task_ids)) != len(task_ids):
        raise UsageError("problems cannot be split: task ids occur more than once; give each problem its own task_id")


def balance(splits: Mapping[str, Sequence[int]], complexity: Mapping[int, int]) -> Balance:
    """Measures how equal the splits are in difficulty; `complexity` gives that of each task id."""
    values = {name: np.array([complexity[task_id] for task_id in ids]) for name, ids in splits.items()}
    distances = {f"{one}-{other}": ks_distance(values[one], values[other]) for one, other in combinations(values, 2)}
    return Balance({name: _figures(of_split) for name, of_split in values.items()}, distances)


def _figures(values: np.ndarray) -> SplitFigures:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return SplitFigures(len(values), float(values.mean()), deviation, int(values.min()), int(values.max()))
