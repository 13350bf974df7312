"""The durable record store: finished batches as atomic segments, nothing else.

Each stage of a phase (generating, evaluating, measuring the SAEs' fit) keeps one directory of segments an arm. A
segment is one parquet file with the rows of a span of positions, its SHA-256 in its name, written atomically: a
finished batch survives anything, and what is damaged is put aside and computed again. Data sets, snapshots and
activation files are derived from segments. A stage's fingerprint holds what changes its results; results of two
fingerprints are never mixed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.errors import OtherSettingsError, PipelineError
from common.logging import get_logger
from common.runs.files import (
    canonical_json,
    ensure_directory,
    parquet_bytes,
    read_json,
    read_parquet,
    sha256_file,
    write_bytes,
    write_json,
    writing,
)
from common.runs.slices import Span, covered

if TYPE_CHECKING:
    import pyarrow as pa

_SEGMENT = re.compile(r"(\d{6,})-(\d{6,})\.([0-9a-f]{16})\.parquet")
_FINGERPRINT = "fingerprint.json"
_log = get_logger(__name__)

Fingerprint = Mapping[str, Any]


class Segment(NamedTuple):
    """One finished batch: the positions it covers, its file and the first 16 hex digits of its SHA-256."""

    span: Span
    path: Path
    sha16: str


class StageStore:
    """The segments of one stage and arm under `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def stored_fingerprint(self) -> dict[str, Any] | None:
        """Returns the fingerprint that the segments were made under, None where there are none."""
        path = self.directory / _FINGERPRINT
        return read_json(path) if path.is_file() else None

    def open(self, fingerprint: Fingerprint) -> None:
        """Declares what the segments to come are made under; the stored fingerprint must be equal or absent."""
        stored = self.stored_fingerprint()
        if stored is None:
            for segment in self.segments():
                self._put_aside(segment, "has no fingerprint")
            write_json(self.directory / _FINGERPRINT, dict(fingerprint))
            return
        different = fingerprint_differences(stored, fingerprint)
        assert not different, f"{self.directory}: opened under another fingerprint: {different}"

    def segments(self) -> list[Segment]:
        """Lists the segments by position, from their names alone."""
        return list_segments(self.directory)

    def spans(self) -> list[Span]:
        """Lists the spans that are done."""
        return [segment.span for segment in self.segments()]

    def verify(self) -> None:
        """Puts aside every segment whose bytes are not the ones it was written with, or that overlaps another."""
        accepted: list[Segment] = []
        for segment in self.segments():
            if not sha256_file(segment.path).startswith(segment.sha16):
                self._put_aside(segment, "is damaged")
            elif accepted and accepted[-1].span.overlaps(segment.span):
                self._put_aside(segment, f"overlaps {accepted[-1].path.name}")
            else:
                accepted.append(segment)

    def write(self, span: Span, table: pa.Table) -> Segment:
        """Writes the rows of `span` as one durable segment."""
        import hashlib

        data = parquet_bytes(table)
        sha16 = hashlib.sha256(data).hexdigest()[:16]
        path = self.directory / f"{span.start:06d}-{span.end:06d}.{sha16}.parquet"
        write_bytes(path, data)
        return Segment(span, path, sha16)

    def read(self, span: Span | None = None) -> pa.Table:
        """Returns the rows of every segment (or of the one that covers exactly `span`) in order of position."""
        import pyarrow as pa

        chosen = [item for item in self.segments() if span is None or item.span == span]
        if not chosen:
            raise PipelineError(f"{self.directory} holds no finished batches")
        return pa.concat_tables([read_parquet(item.path) for item in chosen]).combine_chunks()

    def column(self, name: str) -> Iterator[pa.Table]:
        """Yields one column of every segment, in order of position; the segments were verified before."""
        import pyarrow.parquet as pq

        for item in self.segments():
            yield pq.read_table(item.path, columns=[name], page_checksum_verification=True)

    def clear(self) -> None:
        """Removes the segments, then their fingerprint, so that segments never stand without theirs."""
        with writing(self.directory):
            for segment in self.segments():
                segment.path.unlink(missing_ok=True)
            if self.directory.is_dir():
                shutil.rmtree(self.directory)

    def _put_aside(self, segment: Segment, what: str) -> None:
        aside = ensure_directory(self.directory / "aside")
        with writing(aside):
            segment.path.replace(aside / segment.path.name)
        _log.warning(
            "segment %s %s: put aside; its %d positions are computed again", segment.path, what, len(segment.span)
        )


def list_segments(directory: Path) -> list[Segment]:
    """Lists the segments in `directory` by position, from their names alone (no table is opened)."""
    found = []
    if directory.is_dir():
        for path in directory.iterdir():
            match = _SEGMENT.fullmatch(path.name)
            if match:
                found.append(Segment(Span(int(match[1]), int(match[2])), path, match[3]))
    return sorted(found)


def positions_done(directory: Path) -> int:
    """Returns how many positions the segments in `directory` cover, from their names alone."""
    return covered(segment.span for segment in list_segments(directory))


def fingerprint_differences(stored: Fingerprint, current: Fingerprint) -> list[str]:
    """Returns one `field: stored → current` a differing field."""
    different = []
    for name in sorted({*stored, *current}):
        old, new = stored.get(name), current.get(name)
        if canonical_json(old) != canonical_json(new):
            different.append(f"{name}: {_short(old)} → {_short(new)}")
    return different


def refuse_difference(root: Path, stored: Fingerprint, current: Fingerprint) -> None:
    """Raises `UsageError`, naming each differing field, where what stands in `root` was made under other settings."""
    changed = fingerprint_differences(stored, current)
    if changed:
        raise OtherSettingsError(
            f"{root} holds results made under other settings ({'; '.join(changed)}); use --fresh to put them aside "
            "and start again, or another --data-dir"
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 60 else text[:57] + "…"
