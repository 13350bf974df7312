from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.runs.merging import Lack
from common.runs.slices import Span, grid_cells
from launcher.slices import cut

pytestmark = pytest.mark.unit
BATCH = 4


def lacking(rows: list[int]) -> list[Lack]:
    """One cell a number; 0 stands for a cell without work."""
    cells = grid_cells(Span(0, BATCH * len(rows) - 1), BATCH)
    return [Lack(*cell, count) for cell, count in zip(cells, rows, strict=True) if count]


def load(lacks: list[Lack], span: Span) -> int:
    return sum(lack.rows for lack in lacks if span.start <= lack.start and lack.end <= span.end)


def smallest_largest(rows: list[int], n: int) -> int:
    """Tries every way of cutting a list into contiguous parts."""
    n = min(n, len(rows))
    ways = combinations(range(1, len(rows)), n - 1)
    edges = ([0, *way, len(rows)] for way in ways)
    return min(max(sum(rows[a:b]) for a, b in zip(edge, edge[1:], strict=False)) for edge in edges)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 7))
def test_slices_hold_every_cell_with_work_once_and_are_as_even_as_can_be(rows: list[int], n: int) -> None:
    lacks = lacking(rows)
    slices = cut(lacks, n)
    assert len(slices) == min(n, len(lacks))
    assert all(before.end < after.start for before, after in zip(slices, slices[1:], strict=False))
    for lack in lacks:
        assert sum(span.start <= lack.start and lack.end <= span.end for span in slices) == 1
    if lacks:
        assert max(load(lacks, span) for span in slices) == smallest_largest([lack.rows for lack in lacks], n)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_slices_begin_and_end_with_work_on_the_grid(rows: list[int], n: int) -> None:
    lacks = lacking(rows)
    starts, ends = {lack.start for lack in lacks}, {lack.end for lack in lacks}
    for span in cut(lacks, n):
        assert span.start in starts and span.end in ends
        assert span.start % BATCH == 0 and (span.end + 1) % BATCH == 0


@pytest.mark.parametrize(
    ("rows", "n", "slices"),
    [
        ([4, 4, 4, 4], 2, [(0, 7), (8, 15)]),
        ([4, 4, 4, 4, 4], 3, [(0, 7), (8, 15), (16, 19)]),
        ([4, 4, 4, 4], 3, [(0, 7), (8, 11), (12, 15)]),
        ([4, 4], 3, [(0, 3), (4, 7)]),
        ([0, 4, 0, 4, 0], 2, [(4, 7), (12, 15)]),
        ([0, 4, 0, 4, 0], 1, [(4, 15)]),
        ([9, 1, 1, 1], 2, [(0, 3), (4, 15)]),
        ([], 3, []),
    ],
)
def test_what_is_missing_is_cut_by_its_rows(rows: list[int], n: int, slices: list[tuple[int, int]]) -> None:
    assert cut(lacking(rows), n) == [Span(*pair) for pair in slices]


def test_ten_thousand_cells_are_cut_at_once() -> None:
    slices = cut([Lack(place, place, 1) for place in range(10_000)], 8)
    assert [len(span) for span in slices] == [1250] * 8
