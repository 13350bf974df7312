from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.runs.slices import Span, covered, grid_cells, missing_cells, missing_spans, requested_span

pytestmark = pytest.mark.unit

spans = st.tuples(st.integers(0, 120), st.integers(0, 40)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))
batch_sizes = st.integers(1, 50)


def positions(parts: list[Span]) -> list[int]:
    return [position for part in parts for position in range(part.start, part.end + 1)]


@given(spans, batch_sizes)
def test_grid_cells_hold_every_position_once_and_in_order(span: Span, batch_size: int) -> None:
    assert positions(grid_cells(span, batch_size)) == list(range(span.start, span.end + 1))


@given(spans, batch_sizes)
def test_no_grid_cell_crosses_a_multiple_of_the_batch_size(span: Span, batch_size: int) -> None:
    cells = grid_cells(span, batch_size)
    assert all(cell.start // batch_size == cell.end // batch_size for cell in cells)
    assert len(cells) == span.end // batch_size - span.start // batch_size + 1


@given(st.integers(0, 200), batch_sizes, st.lists(st.integers(1, 20), max_size=6))
def test_cutting_on_the_grid_gives_the_same_cells_as_the_whole(last: int, batch_size: int, cuts: list[int]) -> None:
    inner = sorted({cut * batch_size for cut in cuts if 0 < cut * batch_size <= last})
    edges = [0, *inner, last + 1]
    parts = [Span(low, high - 1) for low, high in zip(edges, edges[1:], strict=False)]
    assert [cell for part in parts for cell in grid_cells(part, batch_size)] == grid_cells(Span(0, last), batch_size)


@given(spans, st.lists(spans, max_size=8), batch_sizes)
def test_missing_cells_are_exactly_what_is_not_done(span: Span, done: list[Span], batch_size: int) -> None:
    finished = set(positions(done))
    wanted = [position for position in range(span.start, span.end + 1) if position not in finished]
    cells = missing_cells(span, done, batch_size)
    assert positions(cells) == wanted
    assert all(cell.start // batch_size == cell.end // batch_size for cell in cells)


@given(spans, st.lists(spans, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_what_is_done_does_not_matter(span: Span, done: list[Span], order: object) -> None:
    shuffled = list(done)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert missing_spans(span, shuffled) == missing_spans(span, done)


@given(st.lists(spans, max_size=8))
def test_covered_counts_each_position_once(parts: list[Span]) -> None:
    assert covered(parts) == len(set(positions(parts)))


@given(spans, spans)
def test_spans_overlap_exactly_where_they_share_a_position(one: Span, other: Span) -> None:
    shared = set(positions([one])) & set(positions([other]))
    assert one.overlaps(other) == bool(shared)
    assert other.overlaps(one) == bool(shared)


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [(None, None, (0, 9)), (0, 4, (0, 4)), (3, None, (3, 9)), (None, 0, (0, 0)), (9, 9, (9, 9)), (0, 99, (0, 9))],
)
def test_start_and_end_are_both_included_and_an_end_past_the_split_is_clipped(
    start: int | None, end: int | None, span: tuple[int, int]
) -> None:
    assert requested_span(start, end, 10) == Span(*span)


@pytest.mark.parametrize(
    ("start", "end", "total", "said"),
    [
        (10, None, 10, "the split has 0 to 9"),
        (5, 3, 10, "--start 5 comes after --end 3"),
        (-1, None, 10, "count positions from 0; got -1"),
        (None, -2, 10, "count positions from 0; got -2"),
        (None, None, 0, "holds no problems"),
    ],
)
def test_a_span_without_a_position_of_the_split_is_refused(
    start: int | None, end: int | None, total: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        requested_span(start, end, total)
