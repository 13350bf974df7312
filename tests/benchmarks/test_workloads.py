"""What benchmarks generate: the tiny model's problems, and lengths from a file of problems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import workloads
from benchmarks.sandbox_rows import MBPP_VARIABLE
from benchmarks.workloads import Workload
from tests.benchmarks.conftest import SMALL

pytestmark = pytest.mark.unit


def test_lengths_come_from_the_references_of_the_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = ["def f():\n    return 1", "def f():\n    value = 1\n    return value"]
    rows = [
        {"task_id": 1 + place, "text": "Return one.", "code": code, "test_list": ["assert f() == 1"]}
        for place, code in enumerate(codes)
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv(MBPP_VARIABLE, str(path))
    work = workloads.scripted(SMALL, 2)
    made = work.engine().generate(work.requests).rows
    assert [len(row.tokens) for row in made] == [-(-len(code) // 3) for code in codes]
    assert work.limit == max(len(row.tokens) for row in made) and "MBPP" in work.lengths


def test_problems_are_taken_from_all_over_the_file() -> None:
    from benchmarks.procedure_rows import few_of

    numbers = list(range(100))
    assert workloads.spread(numbers, 4) == [0, 25, 50, 75]  # type: ignore[arg-type,comparison-overlap]
    assert few_of(numbers, 2) == [25, 75]  # type: ignore[arg-type,comparison-overlap]


def test_fewer_rows_are_the_first_ones(small: Workload) -> None:
    fewer = small.first(2)
    assert (len(fewer.requests), len(fewer.problems), fewer.points) == (2, 2, small.points)
    assert [point.layer for point in small.points] == [0, 1, 2]
