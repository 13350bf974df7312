"""What every phase's runner shares: its place on disk, its inputs, its record."""

from __future__ import annotations

import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from common.batch_size import sized
from common.config import Config
from common.errors import Interrupted, PipelineError, UsageError
from common.logging import add_log_file, get_logger, remove_log_file
from common.phases import get_phase
from common.profiles import Profile, load_profile
from common.runs.artifacts import PhasePaths
from common.runs.discovery import (
    PhaseOutput,
    find_output,
    override_for,
    phase_directory,
    run_command,
    unfit_inputs,
)
from common.runs.files import ensure_directory, read_parquet, sha256_file, sweep_temporaries, write_json, writing
from common.runs.locks import EVERYTHING, span_lock
from common.runs.merging import Opened
from common.runs.metadata import Extent, InputFile, OutputFile, generation_to_put_aside, read_record, write_record
from common.runs.options import InputOverride, RunOptions
from common.runs.slice_records import Keeper, SliceKeeper, device_name, read_slice_records
from common.runs.slices import Span

if TYPE_CHECKING:
    import pyarrow as pa

_log = get_logger(__name__)


class PhaseRunner(ABC):
    """Runs one phase under a configuration: `Runner(config).run()`."""

    phase: ClassVar[str]

    def __init__(self, config: Config, options: RunOptions | None = None) -> None:
        self.spec = get_phase(self.phase)
        self.config = sized(config, self.spec)
        self.options = options or RunOptions()
        self.title = f"phase {self.phase}"
        self.paths = PhasePaths(config.phase_dir(self.phase))
        self.wall_seconds: dict[str, float] = {}
        self._inputs: list[PhaseOutput] = []
        self._given: list[InputFile] = []
        self._unfit: dict[InputOverride, str] = {}
        self.keeper = Keeper()
        self.opened: Opened | None = None

    def run(self) -> None:
        """Runs the phase: refuses bad input first, then computes, then publishes its files with its record."""
        self._check_inputs()
        if self.options.dry_run:
            self.describe()
            if self.options.open:
                self.opened = self.what_is_left(is_due=True)
            return
        ensure_directory(self.paths.logs)
        sweep_temporaries(self.paths.root)
        with self._logging(), nullcontext() if self.spec.sliceable else span_lock(self.paths.locks, EVERYTHING):
            self.execute()

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Writes the phase's log file while the block runs; a worker has a log of its own, kept by who started it."""
        if self.options.worker:
            yield
            return
        with writing(self.paths.logs):
            handler = add_log_file(self.paths.logs / f"phase{self.phase.replace('.', '_')}.log")
        try:
            yield
        finally:
            remove_log_file(handler)

    def _check_inputs(self) -> None:
        try:
            self.prepare()
            if not self.options.fresh:
                read_record(self.paths)
        except PipelineError as error:
            if len(self.spec.reads) == 1:
                self._refuse_unserved(list(self._unfit))
            raise UsageError(str(error)) from error
        if self.spec.reads:
            self._refuse_unserved(self.options.inputs)

    def _refuse_unserved(self, given: Iterable[InputOverride]) -> None:
        """Raises `UsageError` for something given with `--input` that no input of the phase came from."""
        files = {item.path for item in self._given}
        named = {output.phase for output in self._inputs}
        for override in given:
            if str(override.path) not in files and override.phase not in named:
                reason = self._unfit.get(override, f"it reads phase {', '.join(self.spec.reads)}")
                raise UsageError(
                    f"--input {override.path} serves no input of phase {self.phase}: {reason}; correct the path, or "
                    "name what it stands for with --input PHASE=PATH"
                )

    @abstractmethod
    def prepare(self) -> None:
        """Finds and checks every input; raises `UsageError` before anything is written."""

    @abstractmethod
    def execute(self) -> None:
        """Computes and publishes."""

    def what_is_left(self, *, is_due: bool) -> Opened:
        """Returns what a phase that can be sliced has left to do; `is_due` says whether that is anything at all."""
        raise UsageError(f"phase {self.phase} works on all problems at once: it cannot be sliced (due: {is_due})")

    def describe(self) -> None:
        """Says what a run would do (`--dry-run`)."""
        _log.info("phase %s would run in %s", self.phase, self.paths.root)

    @cached_property
    def profile(self) -> Profile:
        """The configuration's profile."""
        return load_profile(self.config.profile)

    def find(self, phase: str) -> PhaseOutput:
        """Returns the output of a phase that this one reads; what is used of it enters the record."""
        output = find_output(self.config, self.options, phase, self.phase)
        self._inputs.append(output)
        return output

    def find_optional(self, phase: str) -> PhaseOutput | None:
        """Returns the output of a phase where there is one; a partial one is refused as any is."""
        record = read_record(PhasePaths(phase_directory(self.config, self.options, phase)))
        return None if record is None else self.find(phase)

    def find_table(self, phase: str, name: Callable[[PhaseOutput], str], columns: Collection[str]) -> pa.Table:
        """Returns the table of phase `phase` that `name` picks, or the file given for it with `--input`.

        Either enters the record as an input.
        """
        path = override_for(self.options, phase, columns)
        if path is None or path.is_dir():
            self._unfit.update(unfit_inputs(self.options, phase, columns))
            output = self.find(phase)
            return output.table(name(output))
        table = read_parquet(path)
        lacking = [column for column in columns if column not in table.column_names]
        if lacking:
            raise UsageError(f"{path} lacks the columns {', '.join(lacking)}; it holds {', '.join(table.column_names)}")
        self._given.append(InputFile(None, str(path), sha256_file(path), table.num_rows, None))
        return table

    @property
    def inputs_complete(self) -> bool:
        """Whether everything that was found covers its split."""
        return all(output.complete for output in self._inputs)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the block's wall seconds to the record's stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.wall_seconds[stage] = self.wall_seconds.get(stage, 0.0) + time.monotonic() - started

    def inputs_used(self) -> list[InputFile]:
        """Returns what has been read so far: files given by hand, and files of other phases."""
        used = (item for output in self._inputs for item in output.used)
        return list(dict.fromkeys([*self._given, *used]))

    def publish(self, extent: Extent, outputs: list[OutputFile], details: dict[str, Any]) -> dict[str, Any]:
        """Writes the phase's record, then removes the files that only the previous record named."""
        previous = read_record(self.paths)
        workers = [record.provenance() for record in read_slice_records(self.paths)]
        record = write_record(
            self.paths,
            phase=self.phase,
            config=self.config,
            extent=extent,
            inputs=self.inputs_used(),
            outputs=outputs,
            wall_seconds=self.wall_seconds,
            details={**details, **({"workers": workers} if workers else {})},
        )
        current = {item.path for item in outputs}
        for entry in (previous or {}).get("outputs", []):
            if entry["path"] not in current:
                (self.paths.root / entry["path"]).unlink(missing_ok=True)
        return record

    def command(self) -> str:
        """Returns the command that goes on with this run: the one it was started with, but for `--fresh`."""
        if self.options.go_on is not None:
            return self.options.go_on
        if Path(sys.argv[0]).name == "run.py":
            return shlex.join(["python3", "run.py", *(word for word in sys.argv[1:] if word != "--fresh")])
        words = "" if self.options.start is None else f" --start {self.options.start}"
        words += "" if self.options.end is None else f" --end {self.options.end}"
        return run_command(self.config, self.phase) + words

    @contextmanager
    def slice_record(self, span: Span, device: object, arms: int) -> Iterator[None]:
        """Keeps the record of a worker's slice while the block runs (`keeper`); any other run keeps none."""
        if self.options.worker:
            self.keeper = SliceKeeper(
                self.paths,
                span,
                phase=self.phase,
                device=device_name(str(device), os.environ),
                arms=arms,
                expected=arms * len(span),
            )
        with self.keeper:
            yield

    def note_unfinished(self, expected: int, done: int, span: Span, arms: int = 1) -> None:
        """Leaves a note of how far an unfinished run came and how to go on; `arms` is how many times it generates."""
        note = {"phase": self.phase, "expected": expected, "done": done, "arms": arms}
        write_json(self.paths.partial, {**note, "span": list(span), "to_go_on": self.command()})

    def stopped(self, done: int, expected: int, unit: str) -> Interrupted:
        """Returns the error that says how far a stopped run came, and how to go on."""
        return Interrupted(f"stopped with {done:,} of {expected:,} {unit} done; to go on: {self.command()}")

    def set_aside(self, *, besides: Collection[Path] = ()) -> None:
        """Moves everything that stands in the phase's directory, `besides` excepted, to `superseded/` (`--fresh`)."""
        kept = {self.paths.superseded, self.paths.logs, self.paths.locks, *besides}
        moved = [path for path in self.paths.root.iterdir() if path not in kept] if self.paths.root.is_dir() else []
        if not moved:
            return
        target = self.paths.superseded / f"{generation_to_put_aside(self.paths):04d}"
        with writing(target):
            target.mkdir(parents=True)
            for path in sorted(moved, key=lambda item: item != self.paths.metadata):
                path.rename(target / path.name)
        _log.info("earlier output put aside in %s", target)
