"""A seeded part of the problems that keeps the shares of difficulty and of the baseline's labels.

A stratum holds the problems of one group and one label. Seats go to the strata in proportion to their sizes by largest
remainder (Hamilton's method); which members take them is drawn for each stratum by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.statistics.seeding import generator
from common.statistics.selection import BoolArray, IntArray


class _Stratum(NamedTuple):
    """The positions of one group and label, and its place among equal remainders."""

    group: str | int
    label: bool
    members: IntArray
    lot: float


def stratified_subset(
    groups: Sequence[str | int] | NDArray, labels: BoolArray, n: int, seed: int, purpose: str
) -> IntArray:
    """Returns the positions, ascending, of `n` problems (or all, if there are fewer) that resemble the whole.

    `groups` (difficulty, say) and `labels` (whether the baseline passes) hold one entry a problem. Every stratum gets
    its proportional number of seats, rounded down or up; from `n` = 2 on both labels are there if they exist. The draw
    in a stratum depends on the seed, the purpose, the stratum's name and the number of its members only.
    """
    assert n >= 0 and len(groups) == len(labels), f"{n} of {len(groups)} groups, {len(labels)} labels"
    if n >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    strata = _strata(groups, labels, seed, purpose)
    drawn = [
        generator(seed, purpose, "members", stratum.group, int(stratum.label)).permutation(stratum.members)[:seats]
        for stratum, seats in zip(strata, _seats(strata, n), strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _strata(groups: Sequence[str | int] | NDArray, labels: BoolArray, seed: int, purpose: str) -> list[_Stratum]:
    members: dict[tuple[str | int, bool], list[int]] = {}
    for position, (group, label) in enumerate(zip(groups, labels, strict=True)):
        members.setdefault((group, bool(label)), []).append(position)
    return [
        _Stratum(group, label, np.array(positions, dtype=np.int64), _lot(seed, purpose, group, label))
        for (group, label), positions in members.items()
    ]


def _lot(seed: int, purpose: str, group: str | int, label: bool) -> float:
    return float(generator(seed, purpose, "remainders", group, int(label)).random())


def _seats(strata: Sequence[_Stratum], n: int) -> list[int]:
    """Returns the number of seats of each stratum; `n` is smaller than the number of problems."""
    total = sum(len(stratum.members) for stratum in strata)
    seats, remainders = [], []
    for stratum in strata:
        whole, rest = divmod(n * len(stratum.members), total)
        seats.append(whole)
        remainders.append(rest)
    order = sorted(range(len(strata)), key=lambda i: (-remainders[i], strata[i].lot))
    rounded_up = order[: n - sum(seats)]
    for index in rounded_up:
        seats[index] += 1
    if n >= 2:
        _seat_both_labels(strata, seats, order, rounded_up)
    return seats


def _seat_both_labels(strata: Sequence[_Stratum], seats: list[int], order: list[int], rounded_up: list[int]) -> None:
    """Gives a label without a seat one from the other label, in place.

    A label without a seat has a share all the same, so the other one was rounded up somewhere: the seat comes from the
    smallest remainder that was, and every stratum keeps its proportional number, rounded down or up.
    """
    for label in (False, True):
        of_label = [index for index in order if strata[index].label == label]
        if of_label and not any(seats[index] for index in of_label):
            seats[rounded_up[-1]] -= 1
            seats[of_label[0]] += 1
