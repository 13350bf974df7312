"""Finding a phase's inputs: the output of the phases it reads, whole and fit for the purpose.

A directory without a record is not an output. What is missing, partial, damaged or of the wrong kind is refused in one
line that names the cure, before anything is loaded or changed.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import Config
from common.errors import PipelineError, UsageError
from common.profiles import BUNDLED_PROFILE, DEFAULT_PROFILE, load_profile
from common.runs.artifacts import PhasePaths
from common.runs.files import read_json, read_parquet
from common.runs.metadata import InputFile, read_record
from common.runs.options import InputOverride, RunOptions
from common.runs.records import positions_done

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class PhaseOutput:
    """The published output of a phase: its directory and its record."""

    phase: str
    paths: PhasePaths
    record: Mapping[str, Any]
    used: list[InputFile] = field(default_factory=list, compare=False)

    @property
    def complete(self) -> bool:
        """Whether the output covers its split."""
        return bool(self.record["complete"])

    def names(self) -> list[str]:
        """Returns the names of the files that the record vouches for."""
        return [entry["path"] for entry in self.record["outputs"]]

    def entry(self, name: str) -> Mapping[str, Any]:
        """Returns the record's entry of file `name`."""
        for entry in self.record["outputs"]:
            if entry["path"] == name:
                return entry
        raise UsageError(
            f"the record of phase {self.phase} in {self.paths.root} names no file {name}; run phase {self.phase} again"
        )

    def find(self, prefix: str, suffix: str) -> str:
        """Returns the name of the one recorded file that starts and ends so."""
        found = [name for name in self.names() if name.startswith(prefix) and name.endswith(suffix)]
        if len(found) != 1:
            raise UsageError(
                f"the record of phase {self.phase} in {self.paths.root} names {len(found)} files {prefix}*{suffix}, "
                f"expected one; run phase {self.phase} again"
            )
        return found[0]

    def use(self, name: str) -> Path:
        """Notes that file `name` was read (see `used`) and returns its path."""
        entry = self.entry(name)
        path = self.paths.root / name
        self.used.append(InputFile(self.phase, str(path), entry["sha256"], entry["rows"], self.record["record_id"]))
        return path

    def table(self, name: str) -> pa.Table:
        """Reads parquet file `name`, its bytes checked against the record, and notes that it was read."""
        return read_parquet(self.use(name), sha256=self.entry(name)["sha256"])

    def json(self, name: str) -> Any:
        """Reads JSON file `name`, its bytes checked against the record, and notes that it was read."""
        return read_json(self.use(name), sha256=self.entry(name)["sha256"])


def find_output(config: Config, options: RunOptions, phase: str, reader: str) -> PhaseOutput:
    """Returns the output of `phase` that phase `reader` is to read.

    Raises `UsageError` where it is missing, or partial without `--allow-partial`.
    """
    paths = PhasePaths(phase_directory(config, options, phase))
    cure = f"run: {run_command(config, phase)}"
    try:
        record = read_record(paths)
    except PipelineError as error:
        raise UsageError(f"phase {reader} reads phase {phase}: {error}") from error
    if record is None:
        done = unfinished(paths)
        if done:
            raise UsageError(
                f"phase {reader} reads phase {phase}, which is unfinished in {paths.root} ({done}); {cure}"
            )
        cure += bundled_hint(config)
        raise UsageError(f"phase {reader} reads phase {phase}: {paths.metadata} is missing; {cure}")
    if record["phase"] != phase:
        raise UsageError(f"{paths.metadata} is the record of phase {record['phase']}, not of phase {phase}; {cure}")
    if not record["complete"] and not options.allow_partial:
        raise UsageError(
            f"phase {reader} reads phase {phase}, which is partial in {paths.root}: {record['done']} of "
            f"{record['expected']} problems; {cure} (or accept it with --allow-partial)"
        )
    return PhaseOutput(phase, paths, record)


def bundled_hint(config: Config) -> str:
    """Returns a question that names the bundled model's profile, where that has a run and this configuration none."""
    bundled = load_profile(BUNDLED_PROFILE)
    place = Path(bundled.data_dir_of(full=False))
    has_run = (place / "phase0" / "metadata.json").is_file()
    is_here = config.profile == bundled.name or PhasePaths(config.phase_dir("0")).metadata.is_file()
    return f" (or did you mean --profile {bundled.name}? {place} holds a run)" if has_run and not is_here else ""


def override_for(options: RunOptions, phase: str, columns: Collection[str]) -> Path | None:
    """Returns the `--input` meant for `phase`: the one that names it, or a table that has `columns`."""
    for override in options.inputs:
        if override.phase == phase or (override.phase is None and _serves(override, columns)):
            return override.path
    return None


def unfit_inputs(options: RunOptions, phase: str, columns: Collection[str]) -> dict[InputOverride, str]:
    """Returns why each `--input` that names no phase cannot stand for the table of `phase`."""
    return {
        override: reason
        for override in options.inputs
        if override.phase is None and (reason := _unfit(override, phase, columns))
    }


def unfinished(paths: PhasePaths) -> str | None:
    """Returns in words how far an unpublished run came, None where there is no trace of one."""
    stages = [path for stage in ("generation", "vectors") for path in paths.segments.glob(f"{stage}/*")]
    done = max((positions_done(path) for path in stages), default=0)
    return f"{done} positions done so far" if done else None


def run_command(config: Config, phase: str) -> str:
    """Returns the command that runs `phase` under this configuration's profile and data directory."""
    return command_line(config, "phase", phase)


def command_line(config: Config, *what: str) -> str:
    """Returns the command `run.py WHAT` with this configuration's profile and data directory."""
    words = ["python3", "run.py", *what]
    if config.profile != DEFAULT_PROFILE:
        words += ["--profile", config.profile]
    if config.full:
        words.append("--full")
    if config.data_dir != load_profile(config.profile).data_dir_of(full=config.full):
        words += ["--data-dir", config.data_dir]
    return shlex.join(words)


def phase_directory(config: Config, options: RunOptions, phase: str) -> Path:
    """Returns the directory in which the output of `phase` is looked for."""
    for override in options.inputs:
        if override.phase == phase:
            return override.path if override.path.is_dir() else override.path.parent
    if options.inputs_from is not None:
        if not options.inputs_from.is_dir():
            raise UsageError(f"--inputs-from {options.inputs_from}: no such directory")
        return options.inputs_from / f"phase{phase.replace('.', '_')}"
    return config.phase_dir(phase)


def _serves(override: InputOverride, columns: Collection[str]) -> bool:
    return not _unfit(override, "", columns)


def _unfit(override: InputOverride, phase: str, columns: Collection[str]) -> str | None:
    if override.path.suffix != ".parquet":
        return "it is not a parquet file"
    found = read_parquet(override.path).column_names
    lacking = [column for column in columns if column not in found]
    return f"it lacks the columns {', '.join(lacking)} of phase {phase}'s table" if lacking else None
