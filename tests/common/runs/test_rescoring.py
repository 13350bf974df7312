from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.config import Config
from common.errors import UsageError
from common.execution import EvaluationResult
from common.runs import rescoring
from common.runs.labelling import EVALUATION_VERSION, extract_solution
from common.runs.rescoring import IN_FLIGHT, LINES_SHOWN, Rescoring, is_change, rescore
from common.runs.stored_solutions import StoredSolutions, read_rows
from common.runs.tables import EVALUATION_SCHEMA
from tests.common.runs.helpers import publish_output, publish_problems

pytestmark = pytest.mark.unit

TESTS = ["assert add(1) == 2", "assert add(0) == 1"]
RIGHT = "def add(x):\n    return x + 1"
WRONG = "def add(x):\n    return x"
BUSY = "import time\ndef add(x):\n    while time.process_time() < 0.4:\n        pass\n    return x + 1"
OWN_TYPE = "class N:\n    def __eq__(self, other):\n        return True\ndef add(x):\n    return N()"
SAME = {"timeout_seconds": 5.0, "memory_mb": 2048, "evaluation_version": EVALUATION_VERSION}


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps({"task_id": 7, "test_list": TESTS, **row}) + "\n" for row in rows))
    return path


def again(path: Path, *, extract: bool = False, keep: bool = False, **settings: Any) -> Rescoring:
    """Tests a file again with one real worker."""
    config = Config(data_dir=str(path.parent / "data"), evaluation_workers=1, **settings)
    solutions = StoredSolutions(read_rows(path).narrowed(), config, extract)
    return rescore(solutions, solutions.check(), keep=keep)


def written(path: Path, output: Path, **settings: Any) -> Path:
    """Tests a file again and writes the rows with their new verdicts."""
    rows = read_rows(path)
    file = rescoring.OutputFile(output, rows)
    file.write(again(path, keep=True, **settings).verdicts)
    return output


def published(root: Path, rung: int, settings: dict[str, Any], *rows: dict[str, Any]) -> Path:
    """Publishes rows as a phase does, with the settings of their evaluation in the record."""
    table = pa.Table.from_pylist([{"task_id": 7, "test_list": TESTS, "sandbox_rung": rung, **row} for row in rows])
    details = {"fingerprints": {"evaluation": settings}}
    publish_output(Config(data_dir=str(root)), "1.0", table, name="data.parquet", details=details)
    return root / "phase1_0" / "data.parquet"


@pytest.fixture(scope="module")
def rung(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The rung of this machine."""
    path = lines(tmp_path_factory.mktemp("rung") / "a.jsonl", {"code": RIGHT})
    return again(path, keep=True).verdicts[0]["sandbox_rung"]


# --- what changed


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ("passed", "passed", False),
        ("passed", "timeout", True),
        ("wrong_answer", "exception", True),
        ("failed", "exception", False),
        ("failed", "passed", True),
        ("no verdict", "passed", False),
        ("no verdict", "crashed", False),
    ],
)
def test_a_verdict_changed_where_it_contradicts_what_was_known(before: str, now: str, change: bool) -> None:
    assert is_change(before, now) is change


def test_verdicts_are_compared_and_counted_by_outcome(tmp_path: Path) -> None:
    rows = [
        {"code": RIGHT, "outcome": "passed"},
        {"code": WRONG, "outcome": "passed", "test_passed": True},
        {"code": "def add(x:", "outcome": "wrong_answer"},
        {"code": "def sub(x):\n    return x", "passed": False},
        {"code": RIGHT, "passed": False},
        {"code": RIGHT},
        {"code": None, "excluded_reason": "out of memory"},
    ]
    found = again(lines(tmp_path / "a.jsonl", *rows))
    assert found.transitions == {
        ("passed", "passed"): 1,
        ("passed", "wrong_answer"): 1,
        ("wrong_answer", "syntax_error"): 1,
        ("failed", "no_function"): 1,
        ("failed", "passed"): 1,
        ("no verdict", "passed"): 1,
    }
    assert (found.tested, found.excluded, found.without_verdict) == (6, 1, 1)
    assert (found.passing(0), found.passing(1)) == (2, 3)
    assert (found.changed, found.flipped, found.agreeing) == (3, 2, 3)
    assert [line.split(":")[0] for line in found.lines] == [f"line {n}, task_id 7" for n in (2, 3, 5)]


def test_a_file_of_excluded_rows_starts_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescoring, "evaluation_pool", lambda config: pytest.fail("a worker was started"))
    found = again(lines(tmp_path / "a.jsonl", {"excluded_reason": "out of memory"}))
    assert (found.tested, found.excluded, found.lines) == (0, 1, [])


# --- why


def reason(found: Rescoring) -> str:
    (line,) = found.lines
    return line.split("; ", 1)[1]


def test_the_same_settings_leave_chance_as_the_reason(tmp_path: Path, rung: int) -> None:
    found = again(published(tmp_path, rung, SAME, {"code": RIGHT, "outcome": "timeout"}))
    assert found.lines == [
        "row 0, task_id 7: timeout → passed; same settings: the program is not deterministic or near a limit; "
        "a second evaluation agrees"
    ]


def test_another_timeout_is_the_reason_where_the_record_names_it(tmp_path: Path, rung: int) -> None:
    path = published(tmp_path, rung, SAME, {"code": BUSY, "outcome": "passed"})
    assert again(path).changed == 0
    found = again(path, evaluation_timeout_seconds=0.1)
    assert found.lines[0].startswith("row 0, task_id 7: passed → timeout (")
    assert reason(found) == "another timeout (5 → 0.1 s); a second evaluation agrees"


def test_every_setting_that_differs_is_named(tmp_path: Path, rung: int) -> None:
    earlier = {"timeout_seconds": 5.0, "memory_mb": 512, "evaluation_version": EVALUATION_VERSION + 1}
    found = again(published(tmp_path, rung + 1, earlier, {"code": WRONG, "outcome": "passed"}))
    assert reason(found) == (
        f"another rung ({rung + 1} → {rung}); another memory limit (512 → 2048 MB); another version of the evaluator "
        f"({EVALUATION_VERSION + 1} → {EVALUATION_VERSION}); a second evaluation agrees"
    )


def test_what_no_record_tells_is_called_unknown(tmp_path: Path, rung: int) -> None:
    path = lines(tmp_path / "a.jsonl", {"code": WRONG, "passed": True})
    found = again(path)
    assert reason(found) == "earlier settings not recorded (rung, timeout, memory limit); a second evaluation agrees"
    found = again(lines(path, {"code": WRONG, "passed": True, "sandbox_rung": rung}))
    assert reason(found) == "earlier settings not recorded (timeout, memory limit); a second evaluation agrees"


def test_an_opaque_verdict_says_so_unless_it_was_opaque_before(tmp_path: Path, rung: int) -> None:
    row = {"code": OWN_TYPE, "outcome": "passed"}
    found = again(published(tmp_path / "a", rung, SAME, row))
    assert reason(found).startswith("opaque: a value of the program's own type stands where a literal is expected")
    found = again(published(tmp_path / "b", rung, SAME, {**row, "opaque": True}))
    assert reason(found).startswith("same settings: ")


def test_code_extracted_differently_is_the_reason(tmp_path: Path) -> None:
    text = f"Here:\n{RIGHT}\nprint(add(1))\n"
    path = lines(tmp_path / "a.jsonl", {"generated_text": text, "generated_code": WRONG, "outcome": "wrong_answer"})
    assert again(path).changed == 0
    found = again(path, extract=True, keep=True)
    assert reason(found) == "code extracted differently; a second evaluation agrees"
    assert found.verdicts[0]["generated_code"] == extract_solution(text, TESTS, "") == RIGHT
    agreeing = {"generated_text": text, "generated_code": RIGHT, "outcome": "wrong_answer"}
    assert "extracted" not in reason(again(lines(path, agreeing), extract=True))


class ScriptedPool:
    """A pool that ends programs as told, and counts how many are under way at once."""

    def __init__(self, outcome_of: Callable[[int], str]) -> None:
        self._outcome_of = outcome_of
        self.waiting: list[Future[EvaluationResult]] = []
        self.submitted = self.most = 0

    def __enter__(self) -> ScriptedPool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, code: str, tests: Sequence[str], setup_code: str) -> Future[EvaluationResult]:
        future = _Counted(self, self._outcome_of(self.submitted))
        self.submitted += 1
        self.waiting.append(future)
        self.most = max(self.most, len(self.waiting))
        return future


class _Counted(Future[EvaluationResult]):
    def __init__(self, pool: ScriptedPool, outcome: str) -> None:
        super().__init__()
        self._pool = pool
        self.set_result(EvaluationResult(outcome == "passed", outcome, (outcome,), 0, 1, "a\n\x1b[31m red"))

    def result(self, timeout: float | None = None) -> EvaluationResult:
        self._pool.waiting.remove(self)
        return super().result(timeout)


def test_a_second_evaluation_that_disagrees_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ScriptedPool(lambda number: ("timeout", "passed")[number])
    monkeypatch.setattr(rescoring, "evaluation_pool", lambda config: pool)
    found = again(published(tmp_path, 0, {**SAME, "timeout_seconds": 9.0}, {"code": RIGHT, "outcome": "passed"}))
    assert (found.changed, found.agreeing) == (1, 0)
    assert reason(found) == (
        "another timeout (9 → 5 s); a second evaluation ended as passed: "
        "the program is not deterministic or near a limit"
    )


def test_many_changes_keep_few_evaluations_under_way_and_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ScriptedPool(lambda number: "timeout")
    monkeypatch.setattr(rescoring, "evaluation_pool", lambda config: pool)
    found = again(lines(tmp_path / "a.jsonl", *[{"code": RIGHT, "passed": True, "outcome": "passed"}] * 1000))
    assert pool.submitted == 2000 and pool.waiting == []
    assert IN_FLIGHT <= pool.most <= 2 * IN_FLIGHT
    assert found.changed == found.agreeing == 1000 and found.verdicts == {}
    assert [line.split(",")[0] for line in found.lines] == [f"line {n}" for n in range(1, LINES_SHOWN + 1)]


def test_what_a_program_says_reaches_the_terminal_as_one_printable_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescoring, "evaluation_pool", lambda config: ScriptedPool(lambda number: "timeout"))
    found = again(
        lines(tmp_path / "a.jsonl", {"task_id": "a\n\x1b[2Jb", "code": RIGHT, "passed": True, "outcome": "passed"})
    )
    assert found.lines[0].startswith("line 1, task_id a \\x1b[2Jb: passed → timeout (a \\x1b[31m red); ")
    assert found.lines[0].isprintable()


# --- writing


ROWS = (
    {"code": RIGHT, "passed": False, "note": "a"},
    {"code": WRONG, "passed": True, "note": None},
    {"code": None, "passed": None, "note": "b", "excluded_reason": "out of memory"},
)


def test_json_lines_come_back_with_new_verdicts_and_all_else_as_it_was(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *ROWS)
    before = path.read_bytes()
    rows = [json.loads(line) for line in written(path, tmp_path / "b.jsonl").read_text().splitlines()]
    assert [row["passed"] for row in rows] == [True, False, None]
    assert [row.get("test_passed") for row in rows] == [True, False, None]
    assert [row.get("outcome") for row in rows] == ["passed", "wrong_answer", None]
    assert rows[1]["error_message"] == "add(1) gave 1" and rows[1]["tests_total"] == 2
    assert rows[2] == {"task_id": 7, "test_list": TESTS, **ROWS[2]}
    assert [(row["code"], row["note"]) for row in rows] == [(row["code"], row["note"]) for row in ROWS]
    assert path.read_bytes() == before
    assert again(tmp_path / "b.jsonl").changed == 0


@pytest.mark.parametrize("start", ["jsonl", "parquet"])
@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_either_form_is_written_from_either_form(start: str, end: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *ROWS)
    if start == "parquet":
        path = tmp_path / "a.parquet"
        rows = [{"task_id": 7, "test_list": TESTS, "excluded_reason": None, **row} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), path)
    output = written(path, tmp_path / f"b.{end}")
    found = again(output)
    assert found.transitions == {("passed", "passed"): 1, ("wrong_answer", "wrong_answer"): 1}
    assert found.excluded == 1
    if end == "parquet":
        table = pq.read_table(output)
        made = {name: table.schema.field(name).type for name in rescoring.VERDICT_COLUMNS}
        assert made == {name: EVALUATION_SCHEMA.field(name).type for name in made}
        assert table.column("passed").to_pylist() == [True, False, None]


def test_a_table_whose_verdicts_hold_is_written_as_it_was(tmp_path: Path) -> None:
    made = written(lines(tmp_path / "a.jsonl", *ROWS), tmp_path / "b.parquet")
    once, twice = pq.read_table(made), pq.read_table(written(made, tmp_path / "c.parquet"))
    assert twice.equals(once) and twice.schema.equals(once.schema)


def test_a_value_that_no_file_of_the_asked_form_can_hold_is_refused_beforehand(tmp_path: Path) -> None:
    for name, first, second in (("mixed", 1, "a"), ("empty", {}, {}), ("text", "\ud800", ""), ("large", 2**70, 1)):
        rows = read_rows(lines(tmp_path / f"{name}.jsonl", {"code": RIGHT, name: first}, {"code": RIGHT, name: second}))
        with pytest.raises(UsageError, match=f"the values of {name} fit no parquet column; give --output a .jsonl"):
            rescoring.OutputFile(tmp_path / "b.parquet", rows)
        rescoring.OutputFile(tmp_path / "b.jsonl", rows).write({})
        assert read_rows(tmp_path / "b.jsonl").lines == read_rows(tmp_path / f"{name}.jsonl").lines
    assert not (tmp_path / "b.parquet").exists()


def test_columns_that_follow_from_a_verdict_are_made_again(tmp_path: Path) -> None:
    publish_problems(Config(data_dir=str(tmp_path / "data")), 1)
    row = {"task_id": 1, "test_list": None, "generated_code": "def add():\n    return 1", "outcome": "passed"}
    path = lines(tmp_path / "a.jsonl", {**row, "failure_mode": "passed", "keeps_signature": True})
    made = json.loads(written(path, tmp_path / "b.jsonl").read_text())
    assert (made["outcome"], made["failure_mode"]) == ("exception", "signature_broken")
    assert (made["parses"], made["defines_function"], made["keeps_signature"]) == (True, True, False)
