from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from common.problems import Problem
from common.runs.files import read_parquet, write_parquet
from common.runs.tables import (
    dataset_table,
    generation_table,
    problem_table,
    problems_of,
    timing_table,
    vector_column,
    vectors_of,
)
from tests.common.runs.helpers import evaluated, generated, generated_rows, problem

pytestmark = pytest.mark.unit

NAN = float("nan")


def test_problems_come_back_from_their_table_as_they_were(tmp_path: Path) -> None:
    problems = [
        Problem(3, "täxt\r\n\tlast", "def f():\r\n\treturn 1", ("assert f() == 1",), "import math", 4),
        Problem(2**40, "b", "x", ("assert True", "assert 1"), "", None),
    ]
    write_parquet(tmp_path / "problems.parquet", problem_table(problems))
    assert problems_of(read_parquet(tmp_path / "problems.parquet")) == problems


def test_a_missing_setup_is_an_empty_one() -> None:
    table = problem_table([problem(1)])
    column = table.column_names.index("test_setup_code")
    empty = table.set_column(column, "test_setup_code", pa.nulls(1, pa.string()))
    assert problems_of(empty) == [problem(1)]


def test_vectors_come_back_and_rows_without_one_are_null() -> None:
    matrix = np.array([[1, 2, 3], [NAN, NAN, NAN], [4, np.inf, 6], [-0.0, 8, 9]], dtype=np.float32)
    table = generated(range(4), {5: matrix})
    assert table["vector_5"].to_pylist() == [[1.0, 2.0, 3.0], None, None, [-0.0, 8.0, 9.0]]
    expected = matrix.copy()
    expected[2] = NAN
    np.testing.assert_array_equal(vectors_of(table, 5), expected)


@pytest.mark.parametrize(("first", "length"), [(0, 2), (1, 2), (2, 2), (3, 1), (1, 3)])
def test_vectors_of_a_slice_belong_to_its_rows(first: int, length: int) -> None:
    matrix = np.array([[1, 2], [NAN, NAN], [3, 4], [5, 6]], dtype=np.float32)
    part = generated(range(4), {0: matrix}).slice(first, length)
    np.testing.assert_array_equal(vectors_of(part, 0), matrix[first : first + length])
    np.testing.assert_array_equal(vectors_of(part.combine_chunks(), 0), matrix[first : first + length])


def test_vectors_of_joined_tables_stay_in_order() -> None:
    one, other = np.float32([[1, 2], [NAN, NAN]]), np.float32([[3, 4]])
    joined = pa.concat_tables([generated([0, 1], {0: one}), generated([2], {0: other})])
    np.testing.assert_array_equal(vectors_of(joined, 0), np.concatenate([one, other]))


def test_all_rows_may_lack_a_vector() -> None:
    np.testing.assert_array_equal(vectors_of(generated([0], {0: np.full((1, 2), NAN, np.float32)}), 0), [[NAN, NAN]])


def test_vectors_and_rows_that_do_not_match_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="2 vectors for 3 rows"):
        generation_table(generated_rows(range(3)), {0: np.zeros((2, 4), np.float32)})


def test_a_column_of_vectors_keeps_float32_bits() -> None:
    matrix = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    flat = vector_column(matrix).flatten().to_numpy()
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat.view(np.uint32), matrix.reshape(-1).view(np.uint32))


def test_the_dataset_joins_problem_generation_and_label_by_position() -> None:
    problems = [problem(10), problem(11), problem(12)]
    rows = [{"generated_text": None, "stop_reason": None, "n_new_tokens": None, "excluded_reason": "no memory"}]
    parts = [generated([0]), generated([2], **rows[0])]
    table = dataset_table(problems, pa.concat_tables(parts), evaluated([0, 2], [True, None]))
    first, second = table.to_pylist()
    assert first == {
        "task_id": 10,
        "text": "Add 10.",
        "code": "def add(x):\n    return x + 10",
        "test_list": ["assert add(1) == 11", "assert add(0) == 10"],
        "test_setup_code": "",
        "cyclomatic_complexity": 1,
        "temperature": 0.0,
        "sample": 0,
        "prompt": "prompt 0",
        "generated_text": "text 0",
        "generated_code": "code 0",
        "test_passed": True,
        "outcome": "passed",
        "sandbox_rung": 2,
        "opaque": False,
        "error_message": None,
        "tests_passed": 2,
        "tests_total": 2,
        "n_prompt_tokens": 5,
        "n_new_tokens": 7,
        "stop_reason": "function_end",
        "excluded_reason": None,
    }
    assert second["task_id"] == 12
    assert second["text"] == "Add 12."
    assert second["test_passed"] is None
    assert second["excluded_reason"] == "no memory"


def test_seconds_stand_apart_from_the_data() -> None:
    rows, labels = generated([0, 1]), evaluated([0, 1], [True, False])
    times = timing_table(rows, labels)
    assert times.to_pylist()[1] == {
        "position": 1,
        "task_id": 11,
        "temperature": 0.0,
        "sample": 0,
        "batch_rows": 2,
        "batch_seconds": 0.5,
        "tries": 1,
        "cpu_seconds": 0.1,
        "wall_seconds": 0.2,
        "peak_memory_mb": 9.0,
    }
    dataset = dataset_table([problem(10), problem(11)], rows, labels)
    assert not {name for name in dataset.column_names if "seconds" in name or "memory" in name}


@pytest.mark.parametrize("positions", [[0, 2], [1, 0]])
def test_rows_of_different_problems_are_never_joined(positions: list[int]) -> None:
    with pytest.raises(AssertionError, match="differ in position"):
        dataset_table([problem(10), problem(11), problem(12)], generated([0, 1]), evaluated(positions, [True, True]))
