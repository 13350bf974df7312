"""One run as the report reads it: a data directory, through the records of the phases that are published there.

Nothing is read past a record, so what is damaged is refused in one line that names the file and the cure.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import Config
from common.errors import PipelineError, UsageError
from common.phases import get_phase, phase_ids
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput, run_command
from common.runs.files import verified_bytes
from common.runs.metadata import read_record
from common.runs.status import MISSING, PhaseState, all_states
from report.blocks import Missing

if TYPE_CHECKING:
    import pyarrow as pa


class Run:
    """The published phases of one configuration's data directory; every file is read, and checked, once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._records: dict[str, Mapping[str, Any] | None] = {}
        self._read: dict[tuple[str, str], Any] = {}

    @property
    def data_dir(self) -> Path:
        """The root of the run, where what belongs to no phase lies."""
        return Path(self.config.data_dir)

    @cached_property
    def states(self) -> list[PhaseState]:
        """The state of every phase, in dependency order."""
        return all_states(self.config)

    @cached_property
    def is_empty(self) -> bool:
        """Whether no phase has left a record here, not even a damaged one."""
        return not any(PhasePaths(self.config.phase_dir(phase)).metadata.is_file() for phase in phase_ids())

    def state(self, phase: str) -> PhaseState:
        """Returns the state of one phase."""
        wanted = get_phase(phase).id
        return next(state for state in self.states if state.spec.id == wanted)

    def root(self, phase: str) -> Path:
        """Returns the directory of `phase`."""
        return self.config.phase_dir(get_phase(phase).id)

    def record(self, phase: str) -> Mapping[str, Any] | None:
        """Returns the record of `phase`, None where it is not published; a damaged one is a `PipelineError`."""
        if phase not in self._records:
            paths = PhasePaths(self.root(phase))
            record = read_record(paths)
            if record is not None and record["phase"] != phase:
                raise PipelineError(
                    f"{paths.metadata} is the record of phase {record['phase']}, not of phase {phase}; "
                    f"run: {self.command(phase)}"
                )
            self._records[phase] = record
        return self._records[phase]

    def output(self, phase: str) -> PhaseOutput:
        """Returns the published output of `phase` (its names, its record); `UsageError` where there is none."""
        record = self.record(phase)
        if record is None:
            root = self.root(phase)
            raise UsageError(f"phase {phase} has no published output in {root}; run: {self.command(phase)}")
        return PhaseOutput(phase, PhasePaths(self.root(phase)), record)

    def names(self, phase: str, prefix: str = "", suffix: str = "") -> list[str]:
        """Returns the recorded file names of `phase` that start and end so, none where it is not published."""
        record = self.record(phase)
        names = [] if record is None else self.output(phase).names()
        return [name for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def has(self, phase: str, name: str) -> bool:
        """Says whether `phase` is published and its record names file `name`."""
        return name in self.names(phase)

    def json(self, phase: str, name: str) -> Any:
        """Returns the JSON file `name` of `phase`."""
        return self._once(phase, name, lambda output: output.json(name))

    def table(self, phase: str, name: str) -> pa.Table:
        """Returns the parquet file `name` of `phase`."""
        return self._once(phase, name, lambda output: output.table(name))

    def svg(self, phase: str, name: str) -> str:
        """Returns the plot `name` (an .svg) of `phase`."""
        return self.text(phase, name)

    def text(self, phase: str, name: str) -> str:
        """Returns the text file `name` of `phase`."""
        return self._once(phase, name, _text_of(name))

    def command(self, phase: str) -> str:
        """Returns the command that fills `phase` under this configuration."""
        return run_command(self.config, phase)

    def missing(self, id: str, title: str, *phases: str) -> Missing | None:
        """Returns the stand-in for a section that needs `phases`: of the first that is not published; None if all are.

        What an unfinished phase has done so far is said.
        """
        for phase in phases:
            if self.record(phase) is None:
                return Missing(id, title, self._why_missing(phase), self.command(phase))
        return None

    def _why_missing(self, phase: str) -> str:
        state = self.state(phase)
        name = f"Phase {phase} ({state.spec.name})"
        if state.state == MISSING:
            return f"{name} has not been run."
        done = f"{state.done} of {state.expected} problems" if state.expected else f"{state.done} problems so far"
        return f"{name} is unfinished: {done}."

    def partial_note(self, *phases: str) -> str | None:
        """Returns in a sentence which of `phases` are published but cover a part of their problems; None if none."""
        notes = [self._partial(phase) for phase in phases]
        found = [note for note in notes if note]
        return f"Partial: {'; '.join(found)}." if found else None

    def _partial(self, phase: str) -> str | None:
        record = self.record(phase)
        if record is None or record["complete"]:
            return None
        if record["done"] == record["expected"]:
            return f"phase {phase} was made from a partial input"
        return f"phase {phase} covers {record['done']} of {record['expected']} problems"

    def _once(self, phase: str, name: str, read: Any) -> Any:
        if (phase, name) not in self._read:
            self._read[phase, name] = read(self.output(phase))
        return self._read[phase, name]


def _text_of(name: str) -> Any:
    def read(output: PhaseOutput) -> str:
        path = output.use(name)
        try:
            return verified_bytes(path, output.entry(name)["sha256"]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise PipelineError(f"{path} is not text ({error}); run phase {output.phase} again with --fresh") from None

    return read
