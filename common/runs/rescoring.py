"""Tests stored solutions again: which verdicts changed, and why, as far as that is known.

Nothing is generated. A changed verdict is evaluated a second time, which tells a program that is not deterministic, or
runs near a limit, from a verdict that other settings explain. At most `IN_FLIGHT` evaluations are under way twice over,
and of the rows only those are held in decoded form.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.code_survival import survival_columns
from common.config import Config
from common.errors import UsageError
from common.execution import EvaluationPool, EvaluationResult
from common.progress import Progress
from common.runs.files import parquet_bytes, write_json_lines, write_parquet
from common.runs.labelling import EVALUATION_VERSION, evaluation_pool, extract_solution, verdict_columns
from common.runs.stored_solutions import FAILED, NO_VERDICT, Count, Solution, StoredRows, StoredSolutions
from common.runs.tables import EVALUATION_SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa

IN_FLIGHT = 128
LINES_SHOWN = 40
VERDICT_COLUMNS = (
    *("test_passed", "outcome", "sandbox_rung", "opaque", "error_message", "tests_passed", "tests_total"),
)
_LIMITS = (("timeout_seconds", "timeout", "s"), ("memory_mb", "memory limit", "MB"))
_CHANCE = "the program is not deterministic or near a limit"


class Tested(NamedTuple):
    """A solution with the code that was tested and its verdict."""

    solution: Solution
    code: str
    result: EvaluationResult

    @property
    def changed(self) -> bool:
        """Whether the verdict is another than the earlier one, as far as that one is known."""
        return is_change(self.solution.earlier.outcome, self.result.outcome)


@dataclass
class Rescoring:
    """What testing again found.

    `lines` tells of the first changed verdicts, `agreeing` counts those that a second evaluation confirms, `verdicts`
    holds the new columns by row, where they are kept for writing.
    """

    excluded: int
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    agreeing: int = 0
    verdicts: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def tested(self) -> int:
        """Number of solutions that were tested."""
        return self.transitions.total()

    @property
    def changed(self) -> int:
        """Number of changed verdicts."""
        return sum(n for (before, now), n in self.transitions.items() if is_change(before, now))

    @property
    def flipped(self) -> int:
        """Number of changes between passing and not passing."""
        changes = {pair: n for pair, n in self.transitions.items() if is_change(*pair)}
        return sum(n for (before, now), n in changes.items() if "passed" in (before, now))

    def passing(self, moment: int) -> int:
        """Number of solutions that passed before (0), or pass now (1)."""
        return sum(n for pair, n in self.transitions.items() if pair[moment] == "passed")

    @property
    def without_verdict(self) -> int:
        """Number of solutions that carried no earlier verdict."""
        return sum(n for (before, _), n in self.transitions.items() if before == NO_VERDICT)


def is_change(before: str, now: str) -> bool:
    """Tells whether outcome `now` contradicts what was stored; `failed` is contradicted by passing only."""
    if before == FAILED:
        return now == "passed"
    return before not in (NO_VERDICT, now)


def rescore(solutions: StoredSolutions, count: Count, *, keep: bool) -> Rescoring:
    """Tests every solution of a file that was checked; with `keep`, the new columns of each are kept for writing."""
    found = Rescoring(count.excluded)
    if count.solutions == 0:
        return found
    with (
        evaluation_pool(solutions.config) as pool,
        Progress("testing again", count.solutions, unit="solution") as progress,
    ):
        for tested in _confirmed(pool, solutions, found):
            _count(found, tested, keep=keep)
            progress.advance(1)
            progress.judge(int(tested.result.passed), 1)
    return found


def _confirmed(pool: EvaluationPool, solutions: StoredSolutions, found: Rescoring) -> Iterator[Tested]:
    """Yields the verdicts, has the changed ones evaluated again meanwhile, and notes what came of that."""
    again: deque[tuple[Tested, Future[EvaluationResult]]] = deque()
    explain = _Explainer(solutions.rows.settings(), solutions.config)
    for tested in _results(pool, solutions):
        if tested.changed:
            again.append((tested, _submit(pool, tested.solution, tested.code)))
        if len(again) >= IN_FLIGHT:
            _confirm(found, again, explain)
        yield tested
    while again:
        _confirm(found, again, explain)


def _results(pool: EvaluationPool, solutions: StoredSolutions) -> Iterator[Tested]:
    """Yields the verdicts in order of the rows, with a bounded number of evaluations under way."""
    waiting: deque[tuple[Solution, str, Future[EvaluationResult]]] = deque()
    for solution in solutions:
        code = _code_of(solution)
        waiting.append((solution, code, _submit(pool, solution, code)))
        if len(waiting) >= IN_FLIGHT:
            first, its_code, future = waiting.popleft()
            yield Tested(first, its_code, future.result())
    for solution, code, future in waiting:
        yield Tested(solution, code, future.result())


def _code_of(solution: Solution) -> str:
    if solution.text is not None:
        return extract_solution(solution.text, solution.tests, solution.setup_code)
    assert solution.code is not None, solution.name
    return solution.code


def _submit(pool: EvaluationPool, solution: Solution, code: str) -> Future[EvaluationResult]:
    return pool.submit(code, solution.tests, solution.setup_code)


def _count(found: Rescoring, tested: Tested, *, keep: bool) -> None:
    found.transitions[tested.solution.earlier.outcome, tested.result.outcome] += 1
    if keep:
        found.verdicts[tested.solution.index] = _columns(tested)


def _columns(tested: Tested) -> dict[str, Any]:
    """Returns a row's new columns; those that follow from a verdict are made again where the reference is known."""
    solution, code = tested.solution, tested.code
    made = verdict_columns(code, tested.result)
    columns = {name: made[name] for name in VERDICT_COLUMNS}
    if solution.text is not None:
        columns["generated_code"] = code
    problem = solution.problem
    if solution.derived and problem is not None:
        columns |= survival_columns(tested.result.outcome, code, problem.entry_point, problem.code)
    return columns


def _confirm(found: Rescoring, again: deque[tuple[Tested, Future[EvaluationResult]]], explain: _Explainer) -> None:
    """Takes the oldest second evaluation and notes what it says of its changed verdict."""
    tested, future = again.popleft()
    second = future.result()
    found.agreeing += second.outcome == tested.result.outcome
    if len(found.lines) < LINES_SHOWN:
        found.lines.append(explain.line(tested, second))


class _Explainer(NamedTuple):
    """Says why a verdict may have changed, from the settings of the earlier one as far as they are recorded."""

    earlier: Mapping[str, Any]
    config: Config

    def line(self, tested: Tested, second: EvaluationResult) -> str:
        """Returns the change, what the new verdict says, and the reason, in one line."""
        said = f" ({_shown(tested.result.error_message)})" if tested.result.error_message else ""
        change = f"{tested.solution.earlier.outcome} → {tested.result.outcome}{said}"
        return f"{_shown(tested.solution.name)}: {change}; {self._reason(tested, second)}"

    def _reason(self, tested: Tested, second: EvaluationResult) -> str:
        differences, unknown = self._differences(tested), self._unknown(tested)
        if second.outcome != tested.result.outcome:
            return "; ".join([*differences, f"a second evaluation ended as {second.outcome}: {_CHANCE}"])
        if not differences:
            recorded = f"same settings: {_CHANCE}"
            differences = [f"earlier settings not recorded ({', '.join(unknown)})" if unknown else recorded]
        return "; ".join([*differences, "a second evaluation agrees"])

    def _differences(self, tested: Tested) -> list[str]:
        solution, result = tested.solution, tested.result
        found = []
        if solution.text is not None and solution.code not in (None, tested.code):
            found.append("code extracted differently")
        compared = [("rung", "", self._rung(solution), result.rung)]
        compared += [(word, f" {unit}", self.earlier.get(key), self._limit(key)) for key, word, unit in _LIMITS]
        compared += [("version of the evaluator", "", self.earlier.get("evaluation_version"), EVALUATION_VERSION)]
        for word, unit, before, now in compared:
            if before is not None and before != now:
                found.append(f"another {word} ({before:g} → {now:g}{unit})")
        if result.opaque and not solution.earlier.opaque:
            found.append("opaque: a value of the program's own type stands where a literal is expected")
        return found

    def _unknown(self, tested: Tested) -> list[str]:
        """Returns what no record says of the earlier verdict."""
        unknown = ["rung"] if self._rung(tested.solution) is None else []
        return unknown + [word for key, word, _ in _LIMITS if self.earlier.get(key) is None]

    def _rung(self, solution: Solution) -> int | None:
        return self.earlier.get("sandbox_rung") if solution.earlier.rung is None else solution.earlier.rung

    def _limit(self, key: str) -> float:
        return getattr(self.config, f"evaluation_{key}")


def _shown(text: str) -> str:
    """Returns text of unknown origin as one printable line."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


class OutputFile:
    """The file that gets the rows with their new verdicts; refuses beforehand what its form cannot hold."""

    def __init__(self, path: Path, rows: StoredRows) -> None:
        self._path, self._rows = path, rows
        self._table = _as_table(rows) if path.suffix == ".parquet" else None

    def write(self, verdicts: Mapping[int, Mapping[str, Any]]) -> None:
        """Writes every row, atomically: with new columns where it was tested, as it was where it was not."""
        if self._table is None:
            updated = (_updated(row, verdicts.get(index)) for index, (_, row) in enumerate(self._rows))
            write_json_lines(self._path, updated)
            return
        write_parquet(self._path, _updated_table(self._table, verdicts))


def _updated(row: dict[str, Any], verdict: Mapping[str, Any] | None) -> dict[str, Any]:
    if verdict is None:
        return row
    return {**row, **verdict, **({"passed": verdict["test_passed"]} if "passed" in row else {})}


def _updated_table(table: pa.Table, verdicts: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Returns the table with the new columns, in place of those that it has and after them."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for verdict in verdicts.values() for name in verdict))
    for name in [*names, *({"passed"} & set(table.column_names))]:
        given = "test_passed" if name == "passed" else name
        old = table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows
        values = [verdicts[index].get(given, value) if index in verdicts else value for index, value in enumerate(old)]
        column = pa.array(values, type=_type_of(name))
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), pa.field(name, column.type), column)
        else:
            table = table.append_column(name, column)
    return table


def _type_of(name: str) -> pa.DataType:
    import pyarrow as pa

    if name in EVALUATION_SCHEMA.names:
        return EVALUATION_SCHEMA.field(name).type
    return pa.string() if name == "failure_mode" else pa.bool_()


def _as_table(rows: StoredRows) -> pa.Table:
    import pyarrow as pa

    if rows.table is not None:
        return rows.table
    held = [row for _, row in rows]
    columns = {}
    for name in dict.fromkeys(name for row in held for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in held])
            parquet_bytes(pa.table({name: columns[name][:0]}))
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            raise UsageError(
                f"{rows.path}: the values of {name} fit no parquet column; give --output a .jsonl"
            ) from None
    return pa.table(columns)
