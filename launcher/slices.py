"""Cutting what is missing into contiguous slices, one a device, on the batch grid.

The grid does not depend on the slices, so batches, and with them results, do not depend on the number of devices.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.runs.merging import Lack
from common.runs.slices import Span


def cut(lacks: Sequence[Lack], n: int) -> list[Span]:
    """Cuts the cells with work left into at most `n` slices, so that the largest has as few rows to make as can be.

    Cells that are done are left out at the ends of a slice; within one, its worker passes over them.
    """
    most = _smallest_capacity([lack.rows for lack in lacks], n)
    slices: list[list[Lack]] = []
    for index, lack in enumerate(lacks):
        left = len(lacks) - index
        room = slices and sum(item.rows for item in slices[-1]) + lack.rows <= most
        # No device stays idle while another could give it a cell.
        if room and left > n - len(slices):
            slices[-1].append(lack)
        else:
            slices.append([lack])
    return [Span(part[0].start, part[-1].end) for part in slices]


def _smallest_capacity(rows: Sequence[int], n: int) -> int:
    """Returns the least number of rows that `n` contiguous parts must each be able to hold (by bisection)."""
    low, high = max(rows, default=0), sum(rows)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _parts_needed(rows, middle) <= n else (middle + 1, high)
    return low


def _parts_needed(rows: Sequence[int], capacity: int) -> int:
    parts, inside = 1, 0
    for count in rows:
        if inside + count > capacity:
            parts, inside = parts + 1, 0
        inside += count
    return parts
