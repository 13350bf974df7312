"""Stored solutions: the rows of a published data set or of JSON lines, as programs with tests and earlier verdicts.

A published data set carries its tests; the rows of a steering phase do not, and take theirs, by task_id, from the
problems that the phase's record names, any other row from phase 0 of the configured data directory. Importing this
loads nothing heavy, so that what cannot be used is refused at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.config import Config
from common.errors import PipelineError, UsageError
from common.execution.results import OUTCOMES
from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput, run_command
from common.runs.files import read_parquet, sha256_file, verified_bytes
from common.runs.metadata import read_record

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".jsonl")
CODE_COLUMNS = ("generated_code", "code_generated", "code", "solution", "completion")
TEXT_COLUMNS = ("generated_text", "completion")
# What a row may say of where it came from, beside its task_id.
MARKS = ("temperature", "sample", "condition")
NO_VERDICT, FAILED = "no verdict", "failed"
_OTHER_COLUMNS = ("task_id", *MARKS, "test_list", "test_setup_code", "excluded_reason", "failure_mode")
_VERDICT_COLUMNS = ("test_passed", "passed", "outcome", "sandbox_rung", "opaque")
_ROWS_AT_ONCE = 256


class Earlier(NamedTuple):
    """An earlier verdict: an outcome, `failed` where only that is known, or `no verdict`; `rung` None if unknown."""

    outcome: str
    rung: int | None
    opaque: bool


class Solution(NamedTuple):
    """One row that is to be tested; `index` counts the file's rows, `name` is what messages call it.

    `text` is what the code is to be extracted from, None where `code` is tested as it is. `problem` is where the tests
    came from, None where the row carried them. `derived` says that the row has columns that follow from its verdict.
    """

    index: int
    name: str
    code: str | None
    text: str | None
    tests: tuple[str, ...]
    setup_code: str
    earlier: Earlier
    problem: Problem | None
    derived: bool


class Count(NamedTuple):
    """How many solutions a file holds, and how many rows that were excluded."""

    solutions: int
    excluded: int


@dataclass(frozen=True)
class StoredRows:
    """The rows of a file, held as its parquet table or as the bytes of its JSON lines."""

    path: Path
    record: Mapping[str, Any] | None
    table: pa.Table | None
    lines: bytes = b""

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields every row with its place in the file; only a few hundred are decoded at a time."""
        if self.table is None:
            yield from self._objects()
            return
        number = 0
        for batch in self.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1

    def narrowed(self) -> StoredRows:
        """Returns the same rows without the columns that testing does not read."""
        if self.table is None:
            return self
        used = {*CODE_COLUMNS, *TEXT_COLUMNS, *_VERDICT_COLUMNS, *_OTHER_COLUMNS}
        kept = [name for name in self.table.column_names if name in used]
        return StoredRows(self.path, self.record, self.table.select(kept))

    def settings(self) -> Mapping[str, Any]:
        """Returns what the file's record says of how its verdicts were made; empty where no record names the file."""
        return {} if self.record is None else self.record.get("fingerprints", {}).get("evaluation", {})

    def _objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        # Lines end at \n only: other separators may stand within a JSON string.
        for number, line in enumerate(io.BytesIO(self.lines), start=1):
            if line.strip():
                yield f"line {number}", _json_object(line, f"{self.path} line {number}")


def read_rows(path: Path) -> StoredRows:
    """Reads the file, checked against the record that names it where there is one, and the names of its columns."""
    record = record_naming(path)
    sha256 = None if record is None else PhaseOutput("", PhasePaths(path.parent), record).entry(path.name)["sha256"]
    try:
        if path.suffix == ".jsonl":
            return StoredRows(path, record, None, verified_bytes(path, sha256).removeprefix(b"\xef\xbb\xbf"))
        table = read_parquet(path, sha256=sha256)
    except PipelineError as error:
        raise UsageError(str(error)) from None
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise UsageError(f"{path} has the column {', '.join(sorted(twice))} more than once; write it with one of each")
    return StoredRows(path, record, table)


def record_naming(path: Path) -> Mapping[str, Any] | None:
    """Returns the phase's record beside `path`, None unless there is one and it names that file as an output."""
    try:
        record = read_record(PhasePaths(path.parent))
    except PipelineError:
        return None
    named = record is not None and any(entry["path"] == path.name for entry in record["outputs"])
    return record if named else None


@dataclass(frozen=True)
class StoredSolutions:
    """The solutions of a file; iterating yields those that are to be tested, and refuses the first that cannot be."""

    rows: StoredRows
    config: Config
    extract: bool

    def __iter__(self) -> Iterator[Solution]:
        return (solution for solution in self._each() if solution is not None)

    def check(self) -> Count:
        """Reads and counts every row; raises `UsageError` for the first that cannot be used."""
        self._check_columns()
        excluded = [solution is None for solution in self._each()]
        if not excluded:
            raise UsageError(f"{self.rows.path} holds no rows; check that it was written whole")
        return Count(excluded.count(False), excluded.count(True))

    def _each(self) -> Iterator[Solution | None]:
        """Yields every row's solution, None for an excluded one."""
        for index, (place, row) in enumerate(self.rows):
            try:
                yield None if row.get("excluded_reason") is not None else self._solution(index, place, row)
            except UsageError as error:
                raise UsageError(f"{self.rows.path} {_name(place, row)}: {error}") from None

    def _check_columns(self) -> None:
        if self.rows.table is None:
            return
        found = self.rows.table.column_names
        needed = {"task_id": ("task_id",), "code": CODE_COLUMNS, **({"text": TEXT_COLUMNS} if self.extract else {})}
        for what, names in needed.items():
            if not any(name in found for name in names):
                raise UsageError(
                    f"{self.rows.path} has no column of {what} ({' or '.join(names)}), found: {', '.join(found)}; "
                    "give a data set that holds solutions"
                )

    def _solution(self, index: int, place: str, row: dict[str, Any]) -> Solution:
        tests, setup_code, problem = self._tests(row)
        text = _text(row) if self.extract else None
        code = _code(row, optional=self.extract)
        if text is not None:
            _check_entry_point(tests)
        return Solution(
            index, _name(place, row), code, text, tests, setup_code, _earlier(row), problem, "failure_mode" in row
        )

    def _tests(self, row: dict[str, Any]) -> tuple[tuple[str, ...], str, Problem | None]:
        task_id = row.get("task_id")
        if not _is_whole(task_id) and not (isinstance(task_id, str) and task_id):
            raise UsageError(f"task_id {task_id!r} is neither a whole number nor text; give every row its problem's")
        if row.get("test_list"):
            return _own_tests(row), row.get("test_setup_code") or "", None
        problem = self._own_problems.get(task_id) or self._configured_problems.get(task_id)
        if problem is None:
            place = self.config.phase_dir("0")
            raise UsageError(f"it carries no test_list, and {place} knows no such task_id; give the row its tests")
        return problem.test_list, problem.test_setup_code, problem

    @cached_property
    def _own_problems(self) -> dict[Any, Problem]:
        """The problems that the phase of this file worked on, as far as they still lie where its record says."""
        read = [] if self.rows.record is None else self.rows.record["inputs"]
        for item in read:
            if item["phase"] in ("0", "0.1") and item["path"].endswith(".parquet"):
                for place in _places(Path(item["path"]), self.rows.path):
                    if place.is_file() and sha256_file(place) == item["sha256"]:
                        return _by_id(read_parquet(place))
        return {}

    @cached_property
    def _configured_problems(self) -> dict[Any, Problem]:
        paths = PhasePaths(self.config.phase_dir("0"))
        try:
            record = read_record(paths)
            if record is None:
                raise UsageError(f"{paths.metadata} is missing; run: {run_command(self.config, '0')}")
            return _by_id(PhaseOutput("0", paths, record).table(record["mapping"]))
        except PipelineError as error:
            raise UsageError(f"it carries no test_list, and {error}") from None


def _by_id(table: pa.Table) -> dict[Any, Problem]:
    from common.runs.tables import problems_of

    return {problem.task_id: problem for problem in problems_of(table)}


def _places(recorded: Path, read: Path) -> Iterator[Path]:
    """Yields where a recorded input may lie: where it lay, or beside the directories that hold the file read."""
    yield recorded
    for above in read.absolute().parents:
        yield above / recorded.parent.name / recorded.name


def _json_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not valid JSON ({error}); mend or remove it") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where} is not a JSON object but {type(row).__name__}; write one object a line")
    return row


def _name(place: str, row: Mapping[str, Any]) -> str:
    marks = [f"{name} {row[name]}" for name in ("task_id", *MARKS) if row.get(name) is not None]
    return ", ".join([place, *marks])


def _code(row: Mapping[str, Any], *, optional: bool) -> str | None:
    """Returns the stored code; where it is `optional`, a completion is text and not code."""
    names = [name for name in CODE_COLUMNS if row.get(name) is not None]
    if "generated_code" in row:  # beside it, `code` is the reference solution
        names = [name for name in names if name == "generated_code"]
    if optional:
        names = [name for name in names if name != "completion"]
    if len(names) > 1:
        raise UsageError(f"it holds {' and '.join(names)}; rename the one to be tested to generated_code")
    if not names and not optional:
        raise UsageError(f"it holds no code; give it one of {', '.join(CODE_COLUMNS)}")
    code = row[names[0]] if names else None
    if code is not None and not isinstance(code, str):
        raise UsageError(f"{names[0]} is not text but {type(code).__name__}; mend the row")
    return code


def _text(row: Mapping[str, Any]) -> str:
    text = next((row[name] for name in TEXT_COLUMNS if row.get(name) is not None), None)
    if not isinstance(text, str):
        raise UsageError(f"it has no text to extract from ({' or '.join(TEXT_COLUMNS)}); leave --extract out")
    return text


def _own_tests(row: Mapping[str, Any]) -> tuple[str, ...]:
    tests, setup_code = row["test_list"], row.get("test_setup_code")
    if not isinstance(tests, list) or not all(isinstance(test, str) and test.strip() for test in tests):
        raise UsageError("test_list is not a list of assertions; mend it, or remove it to take phase 0's")
    if setup_code is not None and not isinstance(setup_code, str):
        raise UsageError(f"test_setup_code is not text but {type(setup_code).__name__}; mend it")
    return tuple(tests)


def _check_entry_point(tests: tuple[str, ...]) -> None:
    from common.execution.extraction import entry_point_from_tests

    entry_point_from_tests(tests)


def _earlier(row: Mapping[str, Any]) -> Earlier:
    outcome, rung = row.get("outcome"), row.get("sandbox_rung")
    passed = row.get("passed") if row.get("test_passed") is None else row["test_passed"]
    if outcome is not None and outcome not in OUTCOMES:
        raise UsageError(f"outcome {outcome!r} is none of {', '.join(OUTCOMES)}; rename that column")
    if passed is not None and not isinstance(passed, bool):
        raise UsageError(f"its earlier verdict {passed!r} is neither true nor false; mend or rename that column")
    if outcome is not None and passed is not None and passed != (outcome == "passed"):
        raise UsageError(f"outcome {outcome} contradicts test_passed {passed}; remove one of the two columns")
    label = outcome or {True: "passed", False: FAILED, None: NO_VERDICT}[passed]
    return Earlier(label, rung if _is_whole(rung) else None, row.get("opaque") is True)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
