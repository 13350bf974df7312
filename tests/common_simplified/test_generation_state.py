from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import OtherSettingsError, UsageError
from common.runs.artifacts import PhasePaths
from common.runs.locks import span_lock
from common.runs.merging import Lack
from common.runs.metadata import Extent, write_record
from common.runs.records import StageStore
from common.runs.slices import Span
from common_simplified.generation_state import GenerationState, stored_labels
from common_simplified.generation_work import Arm
from tests.common_simplified.steered_rows import CONDITIONS, arm_of, generated_of, stored, tables_of

pytestmark = pytest.mark.unit
N, GRID = 10, 4
CELLS = [Span(0, 3), Span(4, 7), Span(8, 9)]
FULL, SPARSE = arm_of("full", CONDITIONS[:2], range(N)), arm_of("sparse", CONDITIONS, [1, 2, 9])
GENERATION = {"full": {"seed": 1}, "sparse": {"seed": 1}}
LABELS = {"timeout_seconds": 5.0}
SETTINGS = {"controls": 9}


def state_in(tmp_path: Path, arms: Sequence[Arm] = (FULL, SPARSE), **changes: Any) -> GenerationState:
    paths = PhasePaths(Config(data_dir=str(tmp_path)).phase_dir("4.8"))
    fields: dict[str, Any] = {"generation": GENERATION, "evaluation": LABELS, **changes}
    return GenerationState(
        *(paths, arms, fields["generation"], fields["evaluation"], N, GRID),
        *(fields.get("gaps", lambda: []), fields.get("settings", SETTINGS)),
    )


def inside(arm: Arm, span: Span) -> list[int]:
    return arm.positions_in(span)


def work_off(state: GenerationState, span: Span) -> None:
    """Fills both stages of every arm with the cells of a span."""
    for arm in state.arms:
        stores = state.stores(arm)
        for cell in CELLS:
            if cell.overlaps(span):
                tables = tables_of(arm, inside(arm, cell))
                stores.generation.write(cell, tables.generated)
                stores.evaluation.write(cell, tables.evaluated)


def publish(state: GenerationState, done: int = N) -> None:
    """Writes the record of what stands, and takes the segments away where all is done."""
    fingerprints = {"generation": dict(state.generation), "evaluation": state.evaluation}
    details = {"fingerprints": fingerprints, "arm_settings": dict(state.arm_settings)}
    fields: dict[str, Any] = {"inputs": [], "outputs": [], "wall_seconds": {}, "details": details}
    extent = Extent(N, done, 0, ((0, done - 1),))
    write_record(state.paths, phase="4.8", config=Config(), extent=extent, **fields)
    if done == N:
        for arm in state.arms:
            state.stores(arm).generation.clear()
            state.stores(arm).evaluation.clear()
        state.paths.segments.joinpath("generation").rmdir()
        state.paths.segments.joinpath("evaluation").rmdir()
        state.paths.segments.rmdir()


def published_rows(arm: Arm) -> pa.Table:
    return generated_of(arm, sorted(arm.positions or range(N)))


def published_labels(arm: Arm) -> pa.Table:
    return tables_of(arm, sorted(arm.positions or range(N))).evaluated


def unread(arm: Arm) -> pa.Table:
    raise AssertionError(f"published rows of {arm.name} were read")


def settle(
    state: GenerationState,
    read: Callable[[Arm], pa.Table] = unread,
    labels: Callable[[Arm], pa.Table] = unread,
    *,
    republish: bool = False,
) -> bool:
    return state.settle(Span(0, N - 1), read, labels, republish=republish)


def finished(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    assert settle(state)
    work_off(state, Span(0, N - 1))
    publish(state)


# --- reopening


def test_published_rows_go_back_to_the_cell_of_their_position(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    assert settle(state, published_rows)
    for arm in (FULL, SPARSE):
        store = state.stores(arm).generation
        assert store.spans() == CELLS
        for cell in CELLS:
            assert store.read(cell).equals(generated_of(arm, inside(arm, cell))), (arm.name, cell)
        assert state.stores(arm).evaluation.spans() == []


def test_publishing_again_takes_the_labels_as_they_were(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path)
    assert settle(state, published_rows, published_labels, republish=True)
    for arm in (FULL, SPARSE):
        for cell in CELLS:
            tables = tables_of(arm, inside(arm, cell))
            assert state.stores(arm).generation.read(cell).equals(tables.generated)
            assert state.stores(arm).evaluation.read(cell).equals(tables.evaluated)
        assert state.stores(arm).unlabelled(Span(0, N - 1)) == []
    assert state.done_spans() == [Span(0, N - 1)]


def test_publishing_again_with_other_labels_makes_the_labels_again(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    assert settle(state, published_rows, republish=True)
    assert state.stores(FULL).unlabelled(Span(0, N - 1)) == CELLS


def test_labels_begun_under_other_limits_are_dropped_when_the_old_limits_are_asked_for_again(tmp_path: Path) -> None:
    finished(tmp_path)
    settle(state_in(tmp_path, evaluation={"timeout_seconds": 9.0}), published_rows)
    state = state_in(tmp_path)
    assert settle(state, published_rows, published_labels)
    assert state.stores(FULL).evaluation.stored_fingerprint() == LABELS
    assert state.done_spans() == [Span(0, N - 1)]


def test_other_settings_of_the_arms_are_refused_by_name(tmp_path: Path) -> None:
    finished(tmp_path)
    with pytest.raises(OtherSettingsError, match="controls: 9 → 39"):
        settle(state_in(tmp_path, settings={"controls": 39}))


def test_a_sparse_arm_reopens_cells_without_rows_too(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    settle(state, published_rows)
    store = state.stores(SPARSE).generation
    assert [store.read(cell).num_rows for cell in CELLS] == [6, 0, 3]
    assert state.stores(SPARSE).unlabelled(Span(0, N - 1)) == CELLS


def test_reopening_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    store = state.stores(FULL).generation
    store.open(GENERATION["full"])
    store.write(CELLS[1], generated_of(FULL, inside(FULL, CELLS[1])))
    assert settle(state, published_rows)
    assert store.spans() == CELLS


def test_rows_that_come_back_in_another_order_than_stored_keep_their_cells(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    settle(state, lambda arm: published_rows(arm).take(pa.array(range(published_rows(arm).num_rows))[::-1]))
    found = state.stores(SPARSE).generation.read(CELLS[0])
    assert set(found["position"].to_pylist()) == {1, 2}


# --- what is to be done


def test_a_finished_output_is_left_alone(tmp_path: Path) -> None:
    finished(tmp_path)
    before = stored(tmp_path)
    assert not settle(state_in(tmp_path))
    assert stored(tmp_path) == before


def test_nothing_yet_is_to_be_done(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    assert settle(state)
    assert (state.done(), state.is_left(Span(0, 0))) == (0, True)


def test_another_fingerprint_of_one_arm_is_refused_by_name_and_moves_nothing(tmp_path: Path) -> None:
    finished(tmp_path)
    before = stored(tmp_path)
    other = {**GENERATION, "sparse": {"seed": 2}}
    with pytest.raises(OtherSettingsError, match="seed: 1 → 2.*--fresh"):
        settle(state_in(tmp_path, generation=other), published_rows)
    assert stored(tmp_path) == before


def test_another_fingerprint_is_refused_in_unfinished_work_too(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    settle(state)
    work_off(state, CELLS[0])
    with pytest.raises(OtherSettingsError, match="seed: 1 → 2"):
        settle(state_in(tmp_path, generation={**GENERATION, "full": {"seed": 2}}))


@pytest.mark.parametrize("arms", [(FULL,), (FULL, SPARSE, arm_of("more", CONDITIONS, [0]))])
def test_other_arms_are_refused(tmp_path: Path, arms: tuple[Arm, ...]) -> None:
    finished(tmp_path)
    generation = {arm.name: {"seed": 1} for arm in arms}
    with pytest.raises(OtherSettingsError, match="arms: full, sparse → full"):
        settle(state_in(tmp_path, arms, generation=generation))


def test_other_labels_drop_the_labels_of_unfinished_work_and_keep_what_was_generated(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    settle(state)
    work_off(state, Span(0, 7))
    publish(state, done=8)
    other = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    assert settle(other)
    for arm in (FULL, SPARSE):
        assert other.stores(arm).generation.spans() == CELLS[:2]
        assert other.stores(arm).evaluation.spans() == []


def test_a_span_counts_as_done_once_every_arm_has_tested_it_and_extra_work_is_there(tmp_path: Path) -> None:
    state = state_in(tmp_path, gaps=lambda: [Span(2, 2)])
    settle(state)
    work_off(state, Span(0, 7))
    assert state.done_spans() == [Span(0, 7)] and state.done() == 8
    assert state.finished_spans() == [Span(0, 1), Span(3, 7)]
    assert state.is_left(Span(0, 7)) and not state.is_left(Span(3, 7))
    StageStore(state.paths.stage("evaluation", "sparse")).clear()
    assert state.done() == 0


# --- slices


def test_what_is_left_is_told_by_the_cells_of_the_grid_with_their_rows(tmp_path: Path) -> None:
    """Ten positions in cells of four; two conditions everywhere and three at positions 1, 2 and 9; cell 4 to 7 done."""
    state = state_in(tmp_path)
    assert state.lacks(Span(0, N - 1)) == [Lack(0, 3, 8 + 6), Lack(4, 7, 8), Lack(8, 9, 4 + 3)]
    settle(state)
    work_off(state, Span(4, 7))
    assert state.lacks(Span(0, N - 1)) == [Lack(0, 3, 14), Lack(8, 9, 7)]
    assert state.lacks(Span(2, 8)) == [Lack(2, 3, 4 + 3), Lack(8, 8, 2)]
    assert [state.units_done(span) for span in (Span(0, N - 1), Span(6, 9), Span(0, 3))] == [8, 4, 0]


def test_a_cell_whose_labels_or_extra_work_alone_are_missing_is_left_too(tmp_path: Path) -> None:
    state = state_in(tmp_path, gaps=lambda: [Span(9, 9)])
    settle(state)
    work_off(state, Span(0, N - 1))
    assert state.lacks(Span(0, N - 1)) == [Lack(8, 9, 1)]
    store = state.stores(SPARSE).evaluation
    store.segments()[0].path.unlink()
    assert state.lacks(Span(0, N - 1)) == [Lack(0, 3, 1), Lack(8, 9, 1)]


def test_nothing_is_left_of_what_is_published(tmp_path: Path) -> None:
    finished(tmp_path)
    assert state_in(tmp_path).lacks(Span(0, N - 1)) == []


def test_labels_are_not_dropped_while_another_process_makes_some(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    settle(state)
    work_off(state, Span(0, 7))
    other = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    with span_lock(state.paths.locks, Span(4, 7)):
        with pytest.raises(UsageError, match="positions 4 to 7 are being worked on"):
            other.settle(Span(0, 3), unread, unread, republish=False)
        assert state.stores(FULL).evaluation.spans() == CELLS[:2]
    assert other.settle(Span(0, 3), unread, unread, republish=False)
    assert state.stores(FULL).evaluation.spans() == []


def test_the_digest_stands_for_what_is_generated_and_not_for_the_labels(tmp_path: Path) -> None:
    digest = state_in(tmp_path).digest
    assert state_in(tmp_path, evaluation={"timeout_seconds": 9.0}).digest == digest
    assert state_in(tmp_path, generation={**GENERATION, "full": {"seed": 2}}).digest != digest


def test_a_worker_drops_no_labels_that_were_made_otherwise(tmp_path: Path) -> None:
    """Another worker's limits, or its rung of the sandbox, differ: whoever comes second is refused."""
    state = state_in(tmp_path)
    settle(state)
    work_off(state, Span(0, 3))
    other = dataclasses.replace(state_in(tmp_path, evaluation={"timeout_seconds": 9.0}), is_worker=True)
    with pytest.raises(UsageError, match=r"labels made otherwise \(timeout_seconds: 5.0 → 9.0\): workers test under"):
        settle(other)
    assert state.stores(FULL).evaluation.spans() == CELLS[:1]


def test_opening_leaves_it_to_workers_to_say_how_they_test(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    opening = (Span(0, N - 1), unread, unread)
    assert state.open_only(*opening, republish=False)
    assert [state.stores(arm).evaluation.stored_fingerprint() for arm in (FULL, SPARSE)] == [None, None]
    assert state.stores(FULL).generation.stored_fingerprint() == GENERATION["full"]
    settle(state)
    work_off(state, Span(0, 3))
    assert state.open_only(*opening, republish=False)
    assert state.stores(FULL).evaluation.spans() == CELLS[:1]
    assert list(stored_labels(state.paths, (FULL, SPARSE))) == [LABELS, LABELS]
    other = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    assert other.open_only(*opening, republish=False)
    assert list(stored_labels(state.paths, (FULL, SPARSE))) == []


def test_the_labels_that_stand_are_those_of_unfinished_work_before_those_of_the_record(tmp_path: Path) -> None:
    finished(tmp_path)
    state = state_in(tmp_path)
    assert list(stored_labels(state.paths, (FULL, SPARSE))) == [LABELS]
    other = state_in(tmp_path, evaluation={"timeout_seconds": 9.0})
    settle(other, published_rows)
    assert list(stored_labels(state.paths, (FULL, SPARSE))) == [{"timeout_seconds": 9.0}] * 2 + [LABELS]
