"""The two runs that are compared, and which of their problems are the same.

A problem is the same in both where its number, its wording and its tests are: problem 12 of another data set is another
problem. Wordings are read from phase 0, or from the splits and data sets where a directory holds no phase 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.config import Config
from common.errors import PipelineError, UsageError
from common.results import published_phases, reading, refuse_no_directory
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import canonical_json
from common.runs.status import PhaseState, all_states
from common.statistics.selection import IntArray

_WORDED = ("0", "0.1", "1.0", "3.5", "3.6", "7.3")
_WHOLE = ("0", "0.1")  # which hold every problem
_WORDING = ("text", "test_list", "test_setup_code")


class Draws(NamedTuple):
    """What the bootstrap of a comparison draws with."""

    seed: int
    n_draws: int


class Side:
    """One run: the outputs that stand in its data directory."""

    def __init__(self, name: str, data_dir: Path) -> None:
        self.name, self.data_dir = name, data_dir
        refuse_no_directory(data_dir)
        self._published = {one.phase: one for one in published_phases(Config(data_dir=str(data_dir)))}
        if not self._published:
            hint = "; give the directory above it" if PhasePaths(data_dir).metadata.is_file() else ""
            raise UsageError(f"{data_dir} holds no output of any phase{hint or '; give the data directory of a run'}")

    @property
    def phases(self) -> list[str]:
        """The phases that have published something."""
        return list(self._published)

    def output(self, phase: str) -> PhaseOutput:
        """Returns what a phase published; raises `PipelineError` where it is damaged."""
        return self._published[phase].output

    @cached_property
    def states(self) -> list[PhaseState]:
        """The state of every phase."""
        with reading(self.data_dir):
            return all_states(Config(data_dir=str(self.data_dir)))

    @cached_property
    def wordings(self) -> dict[int, str]:
        """A digest of the wording and the tests of every problem that can be found."""
        found: dict[int, str] = {}
        for phase in (phase for phase in _WORDED if phase in self._published):
            with suppress(PipelineError):  # what is damaged is said where its own figures would stand
                output = self.output(phase)
                for name in (name for name in output.names() if name.endswith(".parquet")):
                    found |= _digests(output.table(name))
            if found and phase in _WHOLE:
                break
        return found


class Pair:
    """Both runs, and the numbers under which their problems are known here."""

    def __init__(self, a: Side, b: Side, draws: Draws) -> None:
        self.a, self.b, self.draws = a, b, draws

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both runs, A first."""
        return self.a, self.b

    def shared(self) -> list[str]:
        """Returns the phases that both runs have published."""
        return [phase for phase in self.a.phases if phase in self.b.phases]

    def outputs(self, phase: str) -> tuple[PhaseOutput, PhaseOutput]:
        """Returns what both published of a phase."""
        return self.a.output(phase), self.b.output(phase)

    def problems(self, side: Side, task_ids: Iterable[int]) -> IntArray:
        """Returns the numbers of a run's problems; the same problem has the same number in both runs."""
        return np.array([self._numbers[_key(side, int(task_id))] for task_id in task_ids], dtype=np.int64)

    @cached_property
    def _numbers(self) -> _Numbers:
        keys = {_key(side, task_id) for side in self.sides for task_id in side.wordings}
        return _Numbers({key: number for number, key in enumerate(sorted(keys))})


class _Numbers(dict[tuple[int, str], int]):
    """Numbers of problems; one whose wording is nowhere to be found gets the next, and is the same as no other."""

    def __missing__(self, key: tuple[int, str]) -> int:
        self[key] = len(self)
        return self[key]


def _key(side: Side, task_id: int) -> tuple[int, str]:
    return task_id, side.wordings.get(task_id, f"unknown in {side.name}")


def _digests(table: pa.Table) -> dict[int, str]:
    if not {"task_id", *_WORDING} <= set(table.column_names):
        return {}
    rows: list[dict[str, Any]] = table.select(["task_id", *_WORDING]).to_pylist()
    return {row["task_id"]: _digest([row[name] or "" for name in _WORDING]) for row in rows}


def _digest(parts: list[Any]) -> str:
    # What a parquet file can hold and UTF-8 cannot (a lone surrogate) does not occur: it was written as UTF-8.
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def opened(dir_a: Path, dir_b: Path) -> tuple[Side, Side]:
    """Returns both runs; raises `UsageError` where a directory is missing or empty, or both are one."""
    for path in (dir_a, dir_b):
        refuse_no_directory(path)
    with reading(dir_b):
        if dir_a.samefile(dir_b):
            raise UsageError(f"{dir_a} and {dir_b} are the same directory; give two runs")
    a, b = Side("A", dir_a), Side("B", dir_b)
    if not set(a.phases) & set(b.phases):
        raise UsageError(
            f"no phase is published in both: {dir_a} has {', '.join(a.phases)}, {dir_b} has {', '.join(b.phases)}"
        )
    return a, b


def failure(error: PipelineError) -> str:
    """Returns an error as the reason of a row."""
    return " ".join(str(error).split())
