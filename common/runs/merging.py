"""What a phase still lacks before it can be published, and whether the slices that were made fit together.

Slices are cut from `Opened`, the answer of a phase that was only opened (`--open`): which cells of the batch grid have
work left, and how much. Merging demands that slices cover what was asked for, every position once, under one
configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from common.errors import OtherSettingsError, PipelineError
from common.runs.artifacts import PhasePaths
from common.runs.files import canonical_json
from common.runs.records import StageStore
from common.runs.slice_records import read_slice_records
from common.runs.slices import Span, missing_spans

COVERING_STAGES = ("generation", "evaluation", "vectors")


class Lack(NamedTuple):
    """A cell of the batch grid with work left: its positions and how many rows are to be made, at least one."""

    start: int
    end: int
    rows: int


class Opened(NamedTuple):
    """A phase that was opened for slices: the positions asked for, of how many, and what of them is left to do.

    `due` says whether there is anything to do at all, publishing included.
    """

    phase: str
    span: Span
    total: int
    batch_size: int
    arms: int
    due: bool
    lacks: list[Lack]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Opened:
        """Returns what `_asdict` gave, read back from JSON."""
        lacks = [Lack(*lack) for lack in found["lacks"]]
        return cls(**{**found, "span": Span(*found["span"]), "lacks": lacks})


def settings_digest(fingerprints: Any) -> str:
    """Returns 16 hex digits that stand for settings."""
    return hashlib.sha256(canonical_json(fingerprints).encode()).hexdigest()[:16]


def refuse_foreign_slices(paths: PhasePaths, phase: str, fingerprint: str) -> None:
    """Raises `OtherSettingsError` where a slice was made for another phase or under other settings than these."""
    for record in read_slice_records(paths):
        if record.phase != phase:
            what = f"is one of phase {record.phase}, not of phase {phase}"
        elif record.fingerprint not in ("", fingerprint):
            what = f"was made under other settings (their digest is {record.fingerprint}, not {fingerprint})"
        else:
            continue
        raise OtherSettingsError(
            f"{paths.slices}: the slice of positions {record.span.start} to {record.span.end}, made on {record.host}, "
            f"{what}; use --fresh to put everything here aside and start again, or another --data-dir"
        )


def refuse_bad_cover(paths: PhasePaths, span: Span) -> None:
    """Raises `PipelineError` where segments leave out a position of `span`, or hold one twice, in any stage and arm.

    A phase whose segments are gone has been published whole.
    """
    for stage in COVERING_STAGES:
        for directory in sorted((paths.segments / stage).glob("*")):
            spans = StageStore(directory).spans()
            for before, after in zip(spans, spans[1:], strict=False):
                if before.overlaps(after):
                    _refuse(paths, Span(after.start, min(before.end, after.end)), f"stand twice in {directory}")
            gaps = missing_spans(span, spans)
            if gaps:
                _refuse(paths, gaps[0], f"are missing in {directory}")


def _refuse(paths: PhasePaths, span: Span, what: str) -> None:
    raise PipelineError(
        f"{paths.root} is not merged: positions {span.start} to {span.end} {what}; run the same command again, which "
        "computes them once"
    )
