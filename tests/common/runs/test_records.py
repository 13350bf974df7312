from __future__ import annotations

import logging
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PipelineError
from common.runs.files import sweep_temporaries
from common.runs.records import StageStore, fingerprint_differences, list_segments, positions_done
from common.runs.slices import Span, grid_cells, missing_cells
from common.runs.tables import layers_of, vectors_of
from tests.common.runs.helpers import end, generated, start_python, wait_for_line

pytestmark = pytest.mark.unit

FINGERPRINT = {"model": "sha256:0", "batch_size": 4, "seed": None}


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("pva_sae"), "propagate", True)
    caplog.set_level(logging.INFO, logger="pva_sae")


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    opened = StageStore(tmp_path / "segments" / "generation" / "greedy")
    opened.open(FINGERPRINT)
    return opened


def write(store: StageStore, first: int, last: int) -> Path:
    return store.write(Span(first, last), generated(range(first, last + 1))).path


def read_positions(store: StageStore) -> list[int]:
    return store.read()["position"].to_pylist()


def test_segments_survive_in_order_of_position_whatever_the_order_of_writing(store: StageStore) -> None:
    for first in (8, 0, 4):
        write(store, first, first + 3)
    again = StageStore(store.directory)
    assert again.spans() == [Span(0, 3), Span(4, 7), Span(8, 11)]
    assert read_positions(again) == list(range(12))
    assert again.read(Span(4, 7))["position"].to_pylist() == [4, 5, 6, 7]
    assert positions_done(store.directory) == 12


def test_positions_beyond_six_digits_stay_in_order(store: StageStore) -> None:
    write(store, 1_000_000, 1_000_001)
    write(store, 999_998, 999_999)
    assert read_positions(store) == [999_998, 999_999, 1_000_000, 1_000_001]


def test_vectors_come_back_bit_by_bit(store: StageStore) -> None:
    matrix = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    matrix[1] = np.nan
    store.write(Span(0, 3), generated(range(4), {2: matrix, 11: -matrix}))
    back = StageStore(store.directory).read()
    assert layers_of(back) == [2, 11]
    np.testing.assert_array_equal(vectors_of(back, 2), matrix)
    np.testing.assert_array_equal(vectors_of(back, 11), -matrix)


def test_the_order_of_positions_does_not_depend_on_the_clock(store: StageStore) -> None:
    import os

    paths = [write(store, first, first + 1) for first in (0, 2, 4)]
    for path, moment in zip(paths, (3e9, 1e9, 2e9), strict=True):
        os.utime(path, (moment, moment))
    assert read_positions(store) == list(range(6))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_segment_is_put_aside_with_a_warning_and_missing_again(
    store: StageStore, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    write(store, 0, 3)
    path = write(store, 4, 7)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-7]), "empty": b""}[damage])
    store.verify()
    assert store.spans() == [Span(0, 3)]
    assert missing_cells(Span(0, 7), store.spans(), 4) == [Span(4, 7)]
    assert (store.directory / "aside" / path.name).is_file()
    assert "is damaged: put aside; its 4 positions are computed again" in caplog.text


def test_every_bit_flip_and_truncation_of_a_segment_is_found(store: StageStore) -> None:
    path = write(store, 0, 3)
    data = path.read_bytes()
    rng = random.Random(3)
    for trial in range(300):
        copy = bytearray(data)
        copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(copy) if trial % 2 else data[: rng.randrange(len(data))])
        store.verify()
        assert store.spans() == []
    path.write_bytes(data)
    store.verify()
    assert store.spans() == [Span(0, 3)]


def test_of_overlapping_segments_one_is_kept_and_no_position_stands_twice(
    store: StageStore, caplog: pytest.LogCaptureFixture
) -> None:
    for first, last in ((0, 3), (2, 5), (6, 7), (6, 7)):
        store.write(Span(first, last), generated(range(first, last + 1), prompt=f"{first} {len(store.spans())}"))
    store.verify()
    assert store.spans() == [Span(0, 3), Span(6, 7)]
    assert read_positions(store) == [0, 1, 2, 3, 6, 7]
    assert caplog.text.count("put aside") == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=7))
def test_verified_segments_never_overlap(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]]
) -> None:
    store = StageStore(tmp_path_factory.mktemp("store"))
    store.open(FINGERPRINT)
    for number, (first, length) in enumerate(pairs):
        store.write(Span(first, first + length), pa.table({"number": [number]}))
    store.verify()
    spans = store.spans()
    assert all(not one.overlaps(other) for one, other in zip(spans, spans[1:], strict=False))
    assert bool(spans) == bool(pairs)


def test_names_that_are_no_segments_are_ignored(store: StageStore) -> None:
    write(store, 0, 3)
    for name in ("notes.txt", "000004-000007.parquet", "000004-000007.0123.parquet", ".writing-1-ab-000004.parquet"):
        (store.directory / name).write_text("x")
    assert [segment.span for segment in list_segments(store.directory)] == [Span(0, 3)]


def test_a_directory_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "nowhere")
    assert store.spans() == []
    assert store.stored_fingerprint() is None
    with pytest.raises(PipelineError, match="nowhere holds no finished batches"):
        store.read()


# --- fingerprints


def test_differing_fields_are_named_with_both_values() -> None:
    stored = {"model": "a", "batch_size": 32, "only_before": 1, "same": {"x": [1, 2]}}
    current = {"model": "b", "batch_size": 64, "only_now": None, "same": {"x": (1, 2)}}
    assert fingerprint_differences(stored, current) == [
        "batch_size: 32 → 64",
        "model: a → b",
        "only_before: 1 → null",
    ]


def test_long_values_are_shortened() -> None:
    (line,) = fingerprint_differences({"a": "x" * 200}, {"a": "y"})
    assert line == f"a: {'x' * 57}… → y"


@pytest.mark.parametrize("field", sorted(FINGERPRINT))
def test_segments_of_one_fingerprint_are_never_opened_under_another(store: StageStore, field: str) -> None:
    write(store, 0, 3)
    with pytest.raises(AssertionError, match=field):
        StageStore(store.directory).open({**FINGERPRINT, field: "other"})
    StageStore(store.directory).open(dict(reversed(FINGERPRINT.items())))
    assert store.spans() == [Span(0, 3)]


def test_segments_without_a_fingerprint_are_not_adopted(store: StageStore) -> None:
    write(store, 0, 3)
    (store.directory / "fingerprint.json").unlink()
    store.open({**FINGERPRINT, "batch_size": 8})
    assert store.spans() == []


def test_a_cleared_store_holds_nothing_and_can_be_opened_under_another_fingerprint(store: StageStore) -> None:
    write(store, 0, 3)
    store.clear()
    assert not store.directory.exists()
    store.clear()
    store.open({"timeout": 2})
    assert store.stored_fingerprint() == {"timeout": 2}
    assert store.spans() == []


def test_clearing_that_is_cut_short_leaves_no_segment_without_its_fingerprint(
    store: StageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (0, 4, 8):
        write(store, first, first + 3)
    removed: list[str] = []
    unlink = Path.unlink

    def kill_at_the_second(self: Path, missing_ok: bool = False) -> None:
        if len(removed) == 1:
            raise KeyboardInterrupt
        removed.append(self.name)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", kill_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        store.clear()
    assert store.stored_fingerprint() == FINGERPRINT
    assert len(store.spans()) == 2


# --- killed and resumed

WORKER = """
import sys
from pathlib import Path
from common.runs.records import StageStore
from common.runs.slices import Span, missing_cells
from tests.common.runs.helpers import generated
store = StageStore(Path(sys.argv[1]))
store.open({"model": "sha256:0", "batch_size": 4, "seed": None})
store.verify()
print("started", flush=True)
for cell in missing_cells(Span(0, 98), store.spans(), 4):
    store.write(cell, generated(range(cell.start, cell.end + 1)))
    print("wrote", cell.start, flush=True)
print("finished", flush=True)
"""


def test_a_process_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    rng = random.Random(11)
    disturbed = tmp_path / "disturbed"
    for _ in range(4):
        before = len(StageStore(disturbed).spans())
        child = start_python(WORKER, str(disturbed))
        wait_for_line(child, "started")
        for _ in range(rng.randrange(1, 5)):
            wait_for_line(child, "wrote")
        time.sleep(rng.uniform(0, 0.004))
        end(child)
        spans = StageStore(disturbed).spans()
        assert len(spans) > before
        assert set(spans) <= set(grid_cells(Span(0, 98), 4))
    for directory in (disturbed, tmp_path / "undisturbed"):
        child = start_python(WORKER, str(directory))
        wait_for_line(child, "finished")
        end(child)
    assert sweep_temporaries(disturbed) <= 4
    names = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in disturbed.glob("*.parquet")} == names
    assert len(names) == 25
    assert read_positions(StageStore(disturbed)) == list(range(99))
