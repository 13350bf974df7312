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

    `select` gives a direction's coefficient by hand, or None for the suggested one. A `worker` stores its slice and
    publishes nothing; `open` only brings what stands in line and says what is left; `merge` publishes what workers
    made, perhaps on a machine without their device; `go_on` is the command that goes on with the run where it is
    another than this process's own.
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
    worker: bool = False
    open: bool = False
    merge: bool = False
    go_on: str | None = None

    @property
    def computes_here(self) -> bool:
        """Whether the weights are to be loaded here: only opening, or merging, normally needs none."""
        return not (self.open or self.merge)
