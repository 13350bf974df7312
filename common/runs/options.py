"""What one invocation asks of a phase, apart from the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.runs.features import Feature


class InputOverride(NamedTuple):
    """A file or directory given with `--input`, for the named phase's output or for whichever it can serve."""

    phase: str | None
    path: Path


@dataclass(frozen=True)
class RunOptions:
    """Slice, inputs and modes of one invocation.

    `select` gives a direction's coefficient by hand, or None for the suggested one.
    """

    start: int | None = None
    end: int | None = None
    inputs: tuple[InputOverride, ...] = ()
    inputs_from: Path | None = None
    fresh: bool = False
    allow_partial: bool = False
    dry_run: bool = False
    site_given: bool = False
    prompt_format_given: bool = False
    split: str | None = None
    features: tuple[tuple[str, Feature], ...] = ()
    select: tuple[tuple[str, float | None], ...] = ()
