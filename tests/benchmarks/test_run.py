"""`make bench` measures each row that it names, notes the load, and keeps what could not be measured apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.sandbox_rows import MBPP_VARIABLE
from benchmarks.timing import Row, not_measured

pytestmark = pytest.mark.unit
ROWS = [
    Row("P9", "answers", 0.1234, "s", "≤ 0.15 s", True, {"n": 1}, (0.12, 0.13)),
    not_measured("P2", "share of the floor", "≥ 45%", "no CUDA device"),
    Row("P4", "a reference", 2.0, "×", "", None, {}),
]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    names = ("P9", "P2", "P4")
    monkeypatch.setattr(run, "BENCHMARKS", (run.Benchmark(names, lambda repeats: ROWS),))
    monkeypatch.delenv(MBPP_VARIABLE, raising=False)
    return tmp_path


def test_every_row_of_the_specification_has_a_benchmark() -> None:
    assert ("C11", *(f"P{number}" for number in range(1, 13))) == run.NAMES


def test_each_benchmark_names_a_function_that_exists() -> None:
    import importlib

    for benchmark in run.BENCHMARKS:
        module = benchmark.measure.__closure__[0].cell_contents  # type: ignore[index]
        assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), module))


def test_results_hold_machine_versions_rows_and_load(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([]) == 0
    kept = json.loads((bench / "latest.json").read_text("utf-8"))
    assert [row["name"] for row in kept["rows"]] == ["P2", "P4", "P9"]
    assert all(row["load"] is not None for row in kept["rows"])
    assert kept["rows"][0]["not_measured"] == "no CUDA device" and kept["rows"][2]["samples"] == [0.12, 0.13]
    assert {"cores", "processor", "memory_gb", "accelerator", "load"} <= kept["machine"].keys()
    assert {"torch", "transformers"} <= kept["versions"].keys()
    said = capsys.readouterr().out
    assert "not measured: no CUDA device" in said and "0.123 s" in said


def test_named_rows_have_a_file_of_their_own(bench: Path) -> None:
    assert run.main(["--only", "P9,P2"]) == 0
    assert [row["name"] for row in json.loads((bench / "P2-P9.json").read_text("utf-8"))["rows"]] == ["P2", "P9"]


def test_the_file_of_mbpp_can_be_given(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv(MBPP_VARIABLE, "before")
    assert run.main(["--mbpp", "problems.jsonl"]) == 0
    assert os.environ[MBPP_VARIABLE] == "problems.jsonl"


def test_a_row_without_a_goal_is_neither_reached_nor_missed() -> None:
    assert [run.reached(row) for row in ROWS] == ["yes", "", ""]
    assert [run.figure(row) for row in ROWS] == ["0.123 s", "not measured: no CUDA device", "2 ×"]
