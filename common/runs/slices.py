"""Spans of positions in a split, and the fixed grid of batches on which a split is cut.

The grid depends on the batch size alone (at 32: positions 0–31, 32–63, …), so batches, and with them results, do not
depend on slices, resuming or the number of devices. A whole run is one slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from common.errors import UsageError


class Span(NamedTuple):
    """Positions `start` to `end`, both included, in a split sorted by task id."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start + 1

    def overlaps(self, other: Span) -> bool:
        """Says whether the two spans share a position."""
        return self.start <= other.end and other.start <= self.end


def requested_span(start: int | None, end: int | None, total: int) -> Span:
    """Returns the span that `--start/--end` ask for; an end past the split is clipped.

    Raises `UsageError` where nothing of the split is asked for.
    """
    first = 0 if start is None else start
    last = total - 1 if end is None else min(end, total - 1)
    if total == 0:
        raise UsageError("the split holds no problems; run phase 0.1 again on a data set with at least ten problems")
    if first < 0 or (end is not None and end < 0):
        raise UsageError(f"--start and --end count positions from 0; got {start if first < 0 else end}")
    refuse_reversed(start, end)
    if first > last:
        raise UsageError(f"positions {first} to {end if end is not None else last}: the split has 0 to {total - 1}")
    return Span(first, last)


def refuse_reversed(start: int | None, end: int | None) -> None:
    """Raises `UsageError` where `--start` comes after `--end`."""
    if end is not None and (start or 0) > end:
        raise UsageError(f"--start {start} comes after --end {end}: both are positions from 0, and both are included")


def grid_cells(span: Span, batch_size: int) -> list[Span]:
    """Cuts `span` at the multiples of `batch_size`."""
    cells = []
    start = span.start
    while start <= span.end:
        end = min((start // batch_size + 1) * batch_size - 1, span.end)
        cells.append(Span(start, end))
        start = end + 1
    return cells


def missing_spans(span: Span, done: Iterable[Span]) -> list[Span]:
    """Returns the parts of `span` that no span of `done` covers, in order."""
    gaps = []
    start = span.start
    for part in sorted(done):
        if part.end < start or part.start > span.end:
            continue
        if part.start > start:
            gaps.append(Span(start, part.start - 1))
        start = max(start, part.end + 1)
    if start <= span.end:
        gaps.append(Span(start, span.end))
    return gaps


def missing_cells(span: Span, done: Iterable[Span], batch_size: int) -> list[Span]:
    """Returns what is left to do of `span`, cut on the grid."""
    return [cell for gap in missing_spans(span, list(done)) for cell in grid_cells(gap, batch_size)]


def covered(spans: Iterable[Span]) -> int:
    """Returns how many positions the spans cover together."""
    ordered = sorted(spans)
    if not ordered:
        return 0
    whole = Span(ordered[0].start, max(part.end for part in ordered))
    return len(whole) - sum(len(gap) for gap in missing_spans(whole, ordered))
