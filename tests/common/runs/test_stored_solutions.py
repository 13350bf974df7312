from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.config import Config
from common.errors import UsageError
from common.runs.files import write_parquet
from common.runs.metadata import InputFile
from common.runs.stored_solutions import NO_VERDICT, Solution, StoredSolutions, read_rows, record_naming
from common.runs.tables import problem_table
from tests.common.runs.helpers import problem, publish_output, publish_problems

pytestmark = pytest.mark.unit

TESTS = ["assert add(1) == 2"]
CODE = "def add(x):\n    return x + 1"
ROW: dict[str, Any] = {"task_id": 7, "code": CODE, "test_list": TESTS}


def lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    """Writes JSON lines; text goes in as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def config(root: Path) -> Config:
    return Config(data_dir=str(root / "data"))


def stored(path: Path, *, extract: bool = False) -> StoredSolutions:
    return StoredSolutions(read_rows(path).narrowed(), config(path.parent), extract)


def read(path: Path, *, extract: bool = False) -> list[Solution]:
    return list(stored(path, extract=extract))


def refused(path: Path, *, extract: bool = False) -> str:
    """Returns the one line with which a file is refused."""
    with pytest.raises(UsageError) as caught:
        stored(path, extract=extract).check()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


# --- code


@pytest.mark.parametrize("column", ["generated_code", "code_generated", "code", "solution", "completion"])
def test_code_is_found_under_each_of_its_names(column: str, tmp_path: Path) -> None:
    (solution,) = read(lines(tmp_path / "a.jsonl", {"task_id": 7, column: CODE, "test_list": TESTS}))
    assert (solution.code, solution.text, solution.tests) == (CODE, None, tuple(TESTS))


def test_beside_generated_code_the_reference_solution_is_not_tested(tmp_path: Path) -> None:
    (solution,) = read(lines(tmp_path / "a.jsonl", {**ROW, "code": "reference", "generated_code": CODE}))
    assert solution.code == CODE
    said = refused(lines(tmp_path / "b.jsonl", {**ROW, "code": "reference", "generated_code": None}))
    assert "it holds no code" in said


def test_a_row_with_two_programs_is_refused_with_both_names(tmp_path: Path) -> None:
    said = refused(lines(tmp_path / "a.jsonl", {**ROW, "completion": CODE}))
    assert said == "FILE line 1, task_id 7: it holds code and completion; rename the one to be tested to generated_code"


def test_for_extraction_the_text_is_taken_and_the_stored_code_kept_to_compare(tmp_path: Path) -> None:
    row = {**ROW, "generated_text": "text"}
    rows = [row, {"task_id": 7, "completion": "more text", "test_list": TESTS}]
    found = read(lines(tmp_path / "a.jsonl", *rows), extract=True)
    assert [(solution.text, solution.code) for solution in found] == [("text", CODE), ("more text", None)]


def test_without_text_there_is_nothing_to_extract(tmp_path: Path) -> None:
    said = refused(lines(tmp_path / "a.jsonl", ROW), extract=True)
    assert said.endswith("it has no text to extract from (generated_text or completion); leave --extract out")


def test_extraction_for_tests_that_name_no_function_is_refused_before_anything_runs(tmp_path: Path) -> None:
    row = {"task_id": 7, "completion": CODE, "test_list": ["assert 1 + 1 == 2"]}
    assert "calls no function" in refused(lines(tmp_path / "a.jsonl", row), extract=True)


# --- tests


def test_tests_come_from_the_row_and_else_from_phase_0_by_task_id(tmp_path: Path) -> None:
    publish_problems(config(tmp_path), 3, 4)
    rows = [{**ROW, "task_id": 3}, {"task_id": 4, "code": CODE}, {"task_id": 3, "code": CODE, "test_list": None}]
    own, looked_up, other = read(lines(tmp_path / "a.jsonl", *rows))
    assert (own.tests, own.problem) == (tuple(TESTS), None)
    assert looked_up.tests == problem(4).test_list and looked_up.problem == problem(4)
    assert other.tests == problem(3).test_list


def test_a_row_without_tests_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", ROW, {"task_id": 9, "code": CODE})
    said = refused(path)
    assert said.startswith("FILE line 2, task_id 9: it carries no test_list, and ")
    assert said.endswith(f"metadata.json is missing; run: python3 run.py phase 0 --data-dir {tmp_path / 'data'}")
    publish_problems(config(tmp_path), 3)
    assert refused(path).endswith("phase0 knows no such task_id; give the row its tests")


def test_a_damaged_phase_0_is_refused_by_name(tmp_path: Path) -> None:
    publish_problems(config(tmp_path), 3)
    mapping = tmp_path / "data" / "phase0" / "mapping.parquet"
    mapping.write_bytes(mapping.read_bytes()[:-1])
    said = refused(lines(tmp_path / "a.jsonl", {"task_id": 3, "code": CODE}))
    assert f"it carries no test_list, and {mapping} is damaged" in said


def steering_results(root: Path, task_id: int) -> Path:
    """Publishes a table without tests whose record names the problems of phase 0.1, lying beside its directory."""
    sha256 = write_parquet(root / "phase0_1" / "sae_mbpp.parquet", problem_table([problem(5)]))
    given = InputFile("0.1", "elsewhere/phase0_1/sae_mbpp.parquet", sha256, 1, "x")
    table = pa.table({"task_id": [task_id], "condition": ["correct 3"], "generated_code": [CODE], "failure_mode": [""]})
    publish_output(Config(data_dir=str(root)), "4.5", table, name="results.parquet", inputs=[given])
    return root / "phase4_5" / "results.parquet"


def test_rows_of_steering_take_the_tests_of_the_problems_that_their_record_names(tmp_path: Path) -> None:
    (solution,) = read(steering_results(tmp_path / "moved", 5))
    assert solution.tests == problem(5).test_list
    assert solution.derived and solution.name == "row 0, task_id 5, condition correct 3"


def test_problems_that_changed_since_are_not_taken_for_those_that_the_record_names(tmp_path: Path) -> None:
    path = steering_results(tmp_path / "moved", 5)
    write_parquet(tmp_path / "moved" / "phase0_1" / "sae_mbpp.parquet", problem_table([problem(6)]))
    assert "it carries no test_list" in refused(path)


@pytest.mark.parametrize("tests", ["assert add(1) == 2", [1], [""], [["a"]], {"a": 1}])
def test_tests_that_are_no_list_of_assertions_are_refused(tests: object, tmp_path: Path) -> None:
    said = refused(lines(tmp_path / "a.jsonl", {**ROW, "test_list": tests}))
    assert said.startswith("FILE line 1, task_id 7: test_list is not a list of assertions")


# --- earlier verdicts


@pytest.mark.parametrize(
    ("verdict", "label"),
    [
        ({}, NO_VERDICT),
        ({"test_passed": None, "outcome": None}, NO_VERDICT),
        ({"passed": True}, "passed"),
        ({"test_passed": False}, "failed"),
        ({"passed": False, "outcome": "timeout"}, "timeout"),
        ({"outcome": "passed"}, "passed"),
    ],
)
def test_an_earlier_verdict_is_read_as_far_as_it_is_there(verdict: dict[str, Any], label: str, tmp_path: Path) -> None:
    (solution,) = read(lines(tmp_path / "a.jsonl", {**ROW, **verdict}))
    assert solution.earlier == (label, None, False)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ({"outcome": "fail"}, "outcome 'fail' is none of passed, wrong_answer"),
        ({"passed": 1}, "its earlier verdict 1 is neither true nor false"),
        ({"test_passed": True, "outcome": "timeout"}, "outcome timeout contradicts test_passed True"),
    ],
)
def test_a_verdict_that_says_nothing_clear_is_refused(verdict: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(lines(tmp_path / "a.jsonl", {**ROW, **verdict}))


def test_excluded_rows_are_counted_and_nothing_more_is_asked_of_them(tmp_path: Path) -> None:
    excluded = {"task_id": 8, "generated_code": None, "excluded_reason": "out of memory"}
    solutions = stored(lines(tmp_path / "a.jsonl", ROW, excluded, {**ROW, "excluded_reason": None}))
    assert solutions.check() == (2, 1)
    assert [solution.index for solution in solutions] == [0, 2]


# --- files


def test_the_marks_of_a_row_stand_in_its_name(tmp_path: Path) -> None:
    (solution,) = read(lines(tmp_path / "a.jsonl", "", {**ROW, "temperature": 0.6, "sample": 3}))
    assert solution.name == "line 2, task_id 7, temperature 0.6, sample 3"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"task_id": 1', "FILE line 2 is not valid JSON ("),
        ("\udcff", "FILE line 2 is not valid JSON ("),
        ("[" * 100_000, "FILE line 2 is not valid JSON ("),
        ("[1]", "FILE line 2 is not a JSON object but list"),
        ('{"code": "x", "test_list": ["assert f()"]}', "FILE line 2: task_id None is neither a whole number nor text"),
        ('{"task_id": true}', "FILE line 2, task_id True: task_id True is neither"),
        ('{"task_id": 1.5}', "FILE line 2, task_id 1.5: task_id 1.5 is neither"),
        ('{"task_id": 1, "code": 3, "test_list": ["assert f()"]}', "code is not text but int"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_by_its_number(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{json.dumps(ROW)}\n{line}\n".encode("utf-8", "surrogateescape"))
    assert said in refused(path)


def test_a_byte_order_mark_and_foreign_line_separators_do_no_harm(tmp_path: Path) -> None:
    row = {**ROW, "prompt": "a\u2028b\x85c"}
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert len(read(tmp_path / "a.jsonl")) == 1


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    assert refused(tmp_path / "a.jsonl") == "FILE holds no rows; check that it was written whole"


@pytest.mark.parametrize(
    ("columns", "extract", "said"),
    [
        ({"code": [CODE]}, False, "no column of task_id (task_id), found: code"),
        ({"task_id": [1]}, False, "no column of code (generated_code or code_generated or code or solution"),
        ({"task_id": [1], "code": [CODE]}, True, "no column of text (generated_text or completion)"),
    ],
)
def test_a_table_without_a_needed_column_is_refused_by_that_column(
    columns: dict[str, Any], extract: bool, said: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert said in refused(tmp_path / "a.parquet", extract=extract)


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1], [CODE], [CODE]], names=["task_id", "code", "code"]), tmp_path / "a.parquet")
    assert "has the column code more than once" in refused(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_a_file_that_is_not_what_its_name_says_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00\xff\x01")
    assert refused(tmp_path / name).startswith("FILE")


def test_a_published_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = steering_results(tmp_path, 5)
    assert record_naming(path) is not None
    write_parquet(path, pq.read_table(path).append_column("more", pa.array([1])))
    assert "is damaged: its SHA-256 is not the recorded" in refused(path)


@pytest.mark.parametrize("text", ["{}", "not JSON", "[]"])
def test_a_foreign_metadata_file_beside_the_input_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(text)
    path = lines(tmp_path / "a.jsonl", ROW)
    assert record_naming(path) is None
    assert read_rows(path).settings() == {} and len(read(path)) == 1


def test_many_rows_are_decoded_a_few_hundred_at_a_time(tmp_path: Path) -> None:
    table = pa.table({"task_id": list(range(1000)), "code": [CODE] * 1000, "test_list": [TESTS] * 1000})
    pq.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert [solution.index for solution in found] == list(range(1000))
    assert found[999].name == "row 999, task_id 999"
