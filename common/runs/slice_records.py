"""Slice records: what each worker on a slice says of itself, so that others can watch it from files alone.

A worker keeps `slices/000000-000127.json` in the phase's directory while it works and leaves it there: how far it is,
at what rate, and how it ended. Its `beat` is a counter that a living worker raises every few seconds, whatever it is
busy with; a reader that sees it stand still for long, by its own clock, knows that the worker is gone. What is done is
decided by segments, never by these records.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from common.errors import Interrupted, PipelineError
from common.runs.artifacts import PhasePaths
from common.runs.files import canonical_json, read_json, write_bytes
from common.runs.slices import Span

BEAT_SECONDS = 2.0
State = Literal["running", "done", "failed", "stopped"]
_NAME = re.compile(r"(\d{6,})-(\d{6,})\.json")


class SliceRecord(NamedTuple):
    """What a worker says of itself.

    `done` of `expected` are units: positions stored with their labels within the span, summed over the phase's `arms`;
    `rate` is units a second of this invocation. `fingerprint` (16 hex digits) stands for all settings that change what
    is generated, empty until the worker has looked at what stands. `error` is one line where the state is `failed`.
    """

    phase: str
    span: Span
    state: State
    done: int
    expected: int
    rate: float
    host: str
    pid: int
    device: str
    beat: int
    error: str | None
    arms: int
    fingerprint: str

    def provenance(self) -> dict[str, Any]:
        """Returns what a phase's record keeps of it: which positions were computed where, and how that ended."""
        state = "not ended" if self.state == "running" else self.state
        return {"span": list(self.span), "host": self.host, "device": self.device, "state": state}


def slice_record_path(paths: PhasePaths, span: Span) -> Path:
    """Returns where the record of the slice `span` lies."""
    return paths.slices / f"{span.start:06d}-{span.end:06d}.json"


def read_slice_record(paths: PhasePaths, span: Span) -> SliceRecord | None:
    """Returns the record of the slice `span`, None where there is none that can be read."""
    return _read(slice_record_path(paths, span))


def read_slice_records(paths: PhasePaths) -> list[SliceRecord]:
    """Returns every readable slice record of a phase, in order of position."""
    files = [path for path in paths.slices.glob("*.json") if _NAME.fullmatch(path.name)]
    found = [record for path in files if (record := _read(path)) is not None]
    return sorted(found, key=lambda record: record.span)


def remove_slice_records(paths: PhasePaths) -> None:
    """Removes every slice record of a phase that has been published whole."""
    for record in read_slice_records(paths):
        slice_record_path(paths, record.span).unlink(missing_ok=True)
    with suppress(OSError):
        paths.slices.rmdir()  # unless an engine keeps something there


def device_name(device: str, environment: Mapping[str, str]) -> str:
    """Returns a device as people number it: the first of those that `CUDA_VISIBLE_DEVICES` leaves may be `cuda:3`."""
    visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    kind, _, number = device.partition(":")
    if kind != "cuda" or int(number or 0) >= len(visible) or not visible[int(number or 0)]:
        return device
    return f"cuda:{visible[int(number or 0)]}"


class Keeper:
    """Is told how far the work is, and keeps nothing: what any run but a worker has."""

    def __enter__(self) -> Self:
        return self

    def begin(self, done: int, fingerprint: str) -> None:
        """Notes how many units are there before this invocation adds any, and under which settings."""

    def advance(self, units: int) -> None:
        """Notes that `units` more are stored."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends."""


class SliceKeeper(Keeper):
    """Keeps the record of one slice while a worker works on it: `with SliceKeeper(...) as keeper`.

    A thread raises the beat. Leaving the block records how the work ended: done, stopped (`Interrupted`,
    `KeyboardInterrupt`) or failed. A record that cannot be written never disturbs the work.
    """

    def __init__(
        self,
        paths: PhasePaths,
        span: Span,
        *,
        phase: str,
        device: str,
        arms: int,
        expected: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._clock = slice_record_path(paths, span), clock
        earlier = _read(self._path)
        beat = 0 if earlier is None else earlier.beat
        host, process = socket.gethostname(), os.getpid()
        self.record = SliceRecord(
            *(phase, span, "running", 0, expected, 0.0),
            *(host, process, device, beat, None, arms, ""),
        )
        self._first, self._started = 0, clock()
        self._writing, self._ended = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="slice record", daemon=True)

    def __enter__(self) -> Self:
        self._change()
        self._thread.start()
        return self

    def begin(self, done: int, fingerprint: str) -> None:
        """Notes how many units are there before this invocation adds any, and under which settings."""
        self._first, self._started = done, self._clock()
        self._change(done=done, fingerprint=fingerprint)

    def advance(self, units: int) -> None:
        """Notes that `units` more are stored."""
        done = self.record.done + units
        rate = (done - self._first) / max(self._clock() - self._started, 1e-9)
        self._change(done=done, rate=rate)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self._change(durable=True, state="done", done=self.record.expected)
        elif isinstance(error, Interrupted | KeyboardInterrupt):
            self._change(durable=True, state="stopped")
        else:
            self._change(durable=True, state="failed", error=one_line(error))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._change()

    def _change(self, *, durable: bool = False, **changed: Any) -> None:
        with self._writing:
            self.record = self.record._replace(**changed, beat=self.record.beat + 1)
            text = canonical_json(self.record._asdict()) + "\n"
            with suppress(PipelineError):  # a full disk: the work itself says so
                write_bytes(self._path, text.encode(), durable=durable)


def one_line(error: BaseException) -> str:
    """Returns an error as the one line that a user reads."""
    words = " ".join(str(error).split())
    if isinstance(error, PipelineError):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _read(path: Path) -> SliceRecord | None:
    try:
        found = read_json(path)
        return SliceRecord(**{**found, "span": Span(*found["span"])})
    except (PipelineError, TypeError, KeyError):
        return None
