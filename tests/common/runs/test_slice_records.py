from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import Interrupted, UsageError
from common.runs import slice_records
from common.runs.artifacts import PhasePaths
from common.runs.slice_records import (
    Keeper,
    SliceKeeper,
    SliceRecord,
    device_name,
    one_line,
    read_slice_record,
    read_slice_records,
    remove_slice_records,
    slice_record_path,
)
from common.runs.slices import Span

pytestmark = pytest.mark.unit
SPAN = Span(4, 11)


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase1_0")


@pytest.fixture
def clock() -> Iterator[list[float]]:
    yield [100.0]


def keeper(paths: PhasePaths, clock: list[float] | None = None, span: Span = SPAN, arms: int = 2) -> SliceKeeper:
    ticking = time.monotonic if clock is None else lambda: clock[0]
    return SliceKeeper(*(paths, span), phase="1.0", device="cpu", arms=arms, expected=arms * len(span), clock=ticking)


def record_of(paths: PhasePaths, span: Span = SPAN) -> SliceRecord:
    record = read_slice_record(paths, span)
    assert record is not None
    return record


def test_a_record_says_who_works_on_what_and_how_far(paths: PhasePaths, clock: list[float]) -> None:
    with keeper(paths, clock) as kept:
        assert slice_record_path(paths, SPAN).name == "000004-000011.json"
        first = record_of(paths)
        assert (first.state, first.done, first.expected, first.arms, first.rate) == ("running", 0, 16, 2, 0.0)
        assert (first.host, first.pid, first.device) == (socket.gethostname(), os.getpid(), "cpu")
        kept.begin(6, "0123456789abcdef")
        clock[0] += 4.0
        kept.advance(2)
        kept.advance(4)
        found = record_of(paths)
    assert (found.done, found.rate, found.fingerprint, found.error) == (12, 1.5, "0123456789abcdef", None)
    assert found.beat > first.beat


def test_leaving_the_block_says_how_the_work_ended(paths: PhasePaths) -> None:
    endings: dict[Any, tuple[str, str | None]] = {
        None: ("done", None),
        Interrupted("stopped"): ("stopped", None),
        KeyboardInterrupt(): ("stopped", None),
        UsageError("no model\n  here"): ("failed", "no model here"),
        ValueError("odd"): ("failed", "ValueError: odd"),
    }
    for error, (state, said) in endings.items():
        try:
            with keeper(paths):
                if error is not None:
                    raise error
        except BaseException as caught:
            assert caught is error
        found = record_of(paths)
        assert (found.state, found.error) == (state, said)
        assert found.done == (16 if state == "done" else 0)


def test_a_living_worker_raises_its_beat_though_it_stores_nothing(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_records, "BEAT_SECONDS", 0.01)
    with keeper(paths):
        before = record_of(paths).beat
        until = time.monotonic() + 30
        while record_of(paths).beat < before + 3:
            assert time.monotonic() < until, "the beat stood still"
    after = record_of(paths).beat
    time.sleep(0.05)
    assert record_of(paths).beat == after


def test_a_worker_that_starts_again_goes_on_counting(paths: PhasePaths) -> None:
    with keeper(paths):
        pass
    before = record_of(paths).beat
    with keeper(paths):
        assert record_of(paths).beat == before + 1


def test_records_are_listed_by_position_and_what_is_none_is_passed_over(paths: PhasePaths) -> None:
    for span in (Span(12, 15), SPAN, Span(1_000_000, 1_000_003)):
        with keeper(paths, span=span):
            pass
    for name, content in (("slurm.json", "{}"), ("000000-000003.json", "{"), ("000016-000019.json", "[1]")):
        (paths.slices / name).write_text(content)
    assert [record.span for record in read_slice_records(paths)] == [SPAN, Span(12, 15), Span(1_000_000, 1_000_003)]
    assert read_slice_record(paths, Span(0, 3)) is None and read_slice_record(paths, Span(5, 6)) is None


def test_published_records_go_and_leave_what_else_lies_there(paths: PhasePaths) -> None:
    with keeper(paths):
        pass
    other = paths.slices / "slurm.json"
    other.write_text("{}")
    remove_slice_records(paths)
    assert list(paths.slices.iterdir()) == [other]
    other.unlink()
    remove_slice_records(paths)
    assert not paths.slices.exists()


def test_a_full_disk_does_not_end_the_work(paths: PhasePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    with keeper(paths) as kept:
        before = slice_record_path(paths, SPAN).read_bytes()
        monkeypatch.setattr(os, "replace", _no_space)
        kept.begin(3, "0" * 16)
        kept.advance(1)
        monkeypatch.undo()
        assert slice_record_path(paths, SPAN).read_bytes() == before
    assert record_of(paths).state == "done"


def _no_space(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def test_the_file_holds_the_agreed_fields(paths: PhasePaths) -> None:
    with keeper(paths):
        pass
    found = json.loads(slice_record_path(paths, SPAN).read_text())
    assert set(found) == {
        *("phase", "span", "state", "done", "expected", "rate", "host", "pid", "device", "beat", "error", "arms"),
        "fingerprint",
    }


def test_any_run_but_a_worker_keeps_nothing(paths: PhasePaths) -> None:
    with Keeper() as kept:
        kept.begin(1, "0" * 16)
        kept.advance(1)
    assert not paths.root.exists()


@pytest.mark.parametrize(
    ("device", "visible", "name"),
    [
        ("cpu", "3", "cpu"),
        ("cuda:0", None, "cuda:0"),
        ("cuda:0", "", "cuda:0"),
        ("cuda:0", "3", "cuda:3"),
        ("cuda:1", "3, 5", "cuda:5"),
        ("cuda", "2,3", "cuda:2"),
        ("cuda:2", "3,5", "cuda:2"),
        ("cuda:0", "GPU-8f6", "cuda:GPU-8f6"),
    ],
)
def test_a_device_is_named_as_people_number_it(device: str, visible: str | None, name: str) -> None:
    assert device_name(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == name


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert one_line(RuntimeError()) == "RuntimeError"
