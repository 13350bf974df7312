from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import Config
from common.progress import Progress
from common.runs.interruption import StopRequest
from common.runs.records import StageStore
from common.runs.slices import Span
from common.runs.tables import STEERED_SCHEMA
from common_simplified.generation_work import Arm, ArmWorker, Stores, even_chunks, labelled_tables
from tests.common_simplified.steered_rows import CONDITIONS, SpeakingEngine, YesPool, arm_of, problem, request

pytestmark = pytest.mark.unit
N = 12
WHOLE = Span(0, N - 1)
PROBLEMS = [problem(position) for position in range(N)]


# --- arms


def test_an_arm_without_positions_has_rows_everywhere() -> None:
    assert Arm("all", 0.0, 1).positions_in(Span(3, 6)) == [3, 4, 5, 6]


@given(st.frozensets(st.integers(0, 30)), st.integers(0, 30), st.integers(0, 30))
def test_positions_of_a_span_are_those_inside_both(positions: frozenset[int], one: int, other: int) -> None:
    span = Span(min(one, other), max(one, other))
    arm = Arm("some", 0.0, 2, CONDITIONS[:2], positions)
    assert arm.positions_in(span) == sorted(positions & set(range(span.start, span.end + 1)))


def test_steered_work_counts_solutions_and_other_work_problems() -> None:
    assert arm_of("steered", CONDITIONS, [1, 2, 7]).units(Span(0, 5)) == 2 * 3
    assert arm_of("steered", CONDITIONS, [1, 2, 7]).units(Span(8, 11)) == 0
    assert Arm("warm", 0.6, 5).units(Span(0, 5)) == 6


# --- batches


@given(st.lists(st.integers(), max_size=200), st.integers(1, 70))
def test_chunks_are_as_few_and_as_even_as_can_be(rows: list[int], size: int) -> None:
    rows = [value % 2**40 for value in rows]
    chunks = even_chunks(rows, size)
    assert [row for chunk in chunks for row in chunk] == rows
    assert len(chunks) == -(-len(rows) // size)
    lengths = {len(chunk) for chunk in chunks}
    assert not lengths or (max(lengths) <= size and min(lengths) >= 1 and max(lengths) - min(lengths) <= 1)


def test_a_few_rows_too_many_make_even_parts_instead_of_a_small_rest() -> None:
    assert [len(chunk) for chunk in even_chunks(range(66), 64)] == [33, 33]
    assert even_chunks([], 4) == []


# --- working off an arm


class Work(NamedTuple):
    """A worker with what it was given."""

    worker: ArmWorker
    engine: SpeakingEngine
    pool: YesPool
    stores: Stores


def work_on(tmp_path: Path, arm: Arm, batch_size: int = 4, *, engine: bool = True) -> Work:
    stores = Stores(StageStore(tmp_path / "generation"), StageStore(tmp_path / "evaluation"))
    for store in stores:
        store.open({"made": "here"})
    speaking, pool = SpeakingEngine(), YesPool()
    config = Config(batch_size=batch_size, ram_warning_share=1.0)
    given_engine: Any = speaking if engine else None
    given_pool: Any = pool
    worker = ArmWorker(config, PROBLEMS, arm, stores, {}, given_engine, given_pool, request, None)
    return Work(worker, speaking, pool, stores)


def run(work: Work, span: Span = WHOLE) -> Progress:
    progress = Progress("test", 0)
    work.worker.run(span, StopRequest(), progress)
    assert not work.worker.store_labels(progress, wait=True)
    return progress


def generated(work: Work) -> list[dict[str, Any]]:
    return labelled_tables(work.stores)[0].to_pylist()


def rows_of(positions: Sequence[int]) -> list[tuple[int, int]]:
    return [(position, sample) for position in positions for sample in range(len(CONDITIONS))]


def test_batches_hold_the_rows_of_a_condition_together(tmp_path: Path) -> None:
    work = work_on(tmp_path, arm_of("a", CONDITIONS, [0, 2, 3]), batch_size=4)
    run(work, Span(0, 3))  # nine rows in batches of at most four: three of three
    assert work.engine.asked == [["0/0", "2/0", "3/0"], ["0/1", "2/1", "3/1"], ["0/2", "2/2", "3/2"]]


def test_a_batch_may_span_conditions_but_no_cell(tmp_path: Path) -> None:
    work = work_on(tmp_path, arm_of("a", CONDITIONS, [0, 1, 4, 5]), batch_size=4)
    run(work)
    assert work.engine.asked == [
        ["0/0", "1/0", "0/1"],
        ["1/1", "0/2", "1/2"],
        ["4/0", "5/0", "4/1"],
        ["5/1", "4/2", "5/2"],
    ]


def test_results_come_back_in_the_place_of_their_row(tmp_path: Path) -> None:
    positions = [0, 1, 3, 5, 6, 10]
    work = work_on(tmp_path, arm_of("a", CONDITIONS, positions), batch_size=4)
    run(work)
    rows = generated(work)
    assert [(row["position"], row["sample"]) for row in rows] == rows_of(positions)
    assert [row["prompt"] for row in rows] == [f"{position}/{sample}" for position, sample in rows_of(positions)]
    assert all(row["generated_text"] == f"said {row['prompt']}" for row in rows)
    assert all((row["task_id"], row["temperature"]) == (10 + row["position"], 0.0) for row in rows)


def test_cells_without_positions_are_done_with_no_rows_and_steered_columns(tmp_path: Path) -> None:
    work = work_on(tmp_path, arm_of("a", CONDITIONS, [1]), batch_size=4)
    progress = run(work)
    assert work.stores.generation.spans() == work.stores.evaluation.spans() == [Span(0, 3), Span(4, 7), Span(8, 11)]
    empty = work.stores.generation.read(Span(4, 7))
    assert (empty.num_rows, empty.schema) == (0, STEERED_SCHEMA)
    assert work.stores.evaluation.read(Span(4, 7)).num_rows == 0
    assert len(work.engine.asked) == 1 and progress.count == 3
    assert generated(work)[0]["position"] == 1 and len(generated(work)) == 3


def test_where_only_empty_cells_are_left_no_engine_is_needed(tmp_path: Path) -> None:
    """What `_work_group` does: it builds no engine where no solution is left to generate."""
    arm = arm_of("a", CONDITIONS, [1])
    run(work_on(tmp_path, arm), Span(0, 3))
    work = work_on(tmp_path, arm, engine=False)
    assert arm.units(Span(4, 11)) == 0
    run(work)
    assert work.stores.generation.spans() == [Span(0, 3), Span(4, 7), Span(8, 11)]


def test_rows_that_are_left_without_an_engine_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no engine"):
        run(work_on(tmp_path, arm_of("a", CONDITIONS, [1]), engine=False))


def test_what_is_stored_is_not_generated_again_and_unlabelled_cells_are_labelled(tmp_path: Path) -> None:
    arm = arm_of("a", CONDITIONS, [0, 1, 5])
    first = work_on(tmp_path, arm)
    run(first, Span(0, 7))
    whole = generated(first)
    first.stores.evaluation.clear()
    second = work_on(tmp_path, arm)
    run(second, Span(0, 7))
    assert second.engine.asked == [] and len(second.pool.codes) == 3  # one a problem: all programs are alike
    assert generated(second) == whole


def test_a_stop_leaves_what_is_done_and_begins_no_further_cell(tmp_path: Path) -> None:
    work = work_on(tmp_path, arm_of("a", CONDITIONS, [0, 5]))
    stop = StopRequest()
    stop.signal = 2
    work.worker.run(Span(0, N - 1), stop, Progress("test", 0))
    assert work.engine.asked == [] and work.stores.generation.spans() == []


def test_a_slice_works_off_its_own_cells_only_cut_on_the_grid(tmp_path: Path) -> None:
    work = work_on(tmp_path, arm_of("a", CONDITIONS, range(N)))
    run(work, Span(2, 5))
    assert work.stores.generation.spans() == [Span(2, 3), Span(4, 5)]
    assert sorted({row["position"] for row in generated(work)}) == [2, 3, 4, 5]


def test_unsteered_arms_go_to_the_engine_a_whole_cell_at_once(tmp_path: Path) -> None:
    work = work_on(tmp_path, Arm("greedy", 0.0, 1), batch_size=4)
    run(work, Span(0, 5))
    assert work.engine.asked == [["0/0", "1/0", "2/0", "3/0"], ["4/0", "5/0"]]
