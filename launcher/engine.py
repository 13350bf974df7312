"""What an engine is: something that runs workers, one a slice, and tells how each ended.

Two modules fulfil the protocol: `launcher.local` (a process a device of this machine) and `launcher.slurm` (a job
array, which outlives its launcher). Each also gives the launcher three functions: `add_options(parser)` adds the
engine's own options to the command line, `devices(parsed, config)` says where workers will compute (a slice a device;
refuses bad options with `UsageError`), and `build(parsed, place)` returns the engine. How far workers are is read from
slice records (`common.runs.slice_records`), never asked of an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from common.runs.slices import Span

# Stands before the command line with which a worker's log begins anew each time that it is started.
COMMAND_MARK = "\n$ "


class Device(NamedTuple):
    """Where one worker computes: its name for people, what `--device` is given, and the variables that it needs."""

    name: str
    option: str
    environment: Mapping[str, str]


class Place(NamedTuple):
    """What an engine is built for: the phase, its directory, and the devices that were chosen."""

    phase: str
    root: Path
    devices: Sequence[Device]


class Work(NamedTuple):
    """One worker: the slice, its command, the file that takes its output, and variables beside the launcher's own."""

    span: Span
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]


class Ended(NamedTuple):
    """How a worker ended: whether well, else why ("exit 1", "signal 9", "cancelled", "node failure", …)."""

    span: Span
    ok: bool
    reason: str


class Engine(Protocol):
    """Runs workers."""

    def attach(self) -> tuple[Span, ...]:
        """Returns the slices on which an earlier launcher's workers are still at work, which are polled from now on."""
        ...

    def start(self, works: Sequence[Work]) -> None:
        """Starts a worker for each piece of work; returns at once."""
        ...

    def poll(self) -> list[Ended]:
        """Returns the workers that ended since the last call, each once; never blocks longer than a second."""
        ...

    def describe(self) -> str:
        """Returns in words what is at work: "2 devices: cuda:0, cuda:1", "Slurm array 123: 2 running, 1 pending"."""
        ...

    def stop(self) -> None:
        """Asks every worker to save and stop, and ends after ten seconds those that have not.

        A `KeyboardInterrupt` that is raised within (a second Ctrl-C) ends them at once and is passed on.
        """
        ...

    def leave(self) -> str | None:
        """Returns how to find workers again that outlive a launcher, None where they must be stopped with it."""
        ...
