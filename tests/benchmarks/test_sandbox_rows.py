"""Row P8 measures the sandbox beside its reference in a process of its own, on the problems that it is given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import run, sandbox_rows
from benchmarks.timing import Row
from common.errors import PipelineError, UsageError
from common.profiles import REPOSITORY

PROBLEMS = REPOSITORY / "organism" / "instance" / "problems.jsonl"


@pytest.fixture
def no_mbpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sandbox_rows.MBPP_VARIABLE, raising=False)
    monkeypatch.setattr(sandbox_rows, "MBPP_BESIDE", tmp_path / "mbpp.jsonl")


@pytest.mark.smoke
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")
def test_both_sides_pass_the_references_with_one_worker_and_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(PROBLEMS.read_text("utf-8").splitlines(keepends=True)[:6]), "utf-8")
    monkeypatch.setenv(sandbox_rows.MBPP_VARIABLE, str(few))
    (row,) = sandbox_rows.sandbox_rows()
    assert row.name == "P8"
    assert "6 references of MBPP" in row.what
    assert row.value == row.details["two_workers"]["ratio"]
    for workers in ("one_worker", "two_workers"):
        found = row.details[workers]
        assert (found["sandbox_passed"], found["reference_passed"]) == (6, 6)
        assert found["sandbox_a_second"] > 0 < found["reference_a_second"]
    assert row.details["cores"] <= 2


@pytest.mark.unit
def test_the_variable_comes_first_then_the_file_beside_the_repository_then_the_tiny_models_problems(
    no_mbpp: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox_rows.source() == (PROBLEMS, "the tiny model's data set")
    sandbox_rows.MBPP_BESIDE.touch()
    assert sandbox_rows.source() == (tmp_path / "mbpp.jsonl", "MBPP")
    own = tmp_path / "own.jsonl"
    own.touch()
    monkeypatch.setenv(sandbox_rows.MBPP_VARIABLE, str(own))
    assert sandbox_rows.source() == (own, "MBPP")


@pytest.mark.unit
def test_a_variable_that_names_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sandbox_rows.MBPP_VARIABLE, str(tmp_path / "absent.jsonl"))
    with pytest.raises(UsageError, match="absent.jsonl, which does not exist; set it"):
        sandbox_rows.source()


@pytest.mark.smoke
def test_a_damaged_file_is_refused_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text("{}\n")
    monkeypatch.setenv(sandbox_rows.MBPP_VARIABLE, str(damaged))
    with pytest.raises(PipelineError, match="damaged.jsonl; mend what the lines above name"):
        sandbox_rows.sandbox_rows()
    said = capfd.readouterr().err
    assert "has no column task_id" in said
    assert "Traceback" not in said


@pytest.mark.unit
def test_only_the_wanted_rows_are_measured_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measuring(*names: str) -> run.Benchmark:
        def measure(repeats: int) -> list[Row]:
            asked.append((names, repeats))
            return [Row(name, "", 1.0, "", "", True, {}) for name in names]

        return run.Benchmark(names, measure)

    monkeypatch.setattr(run, "BENCHMARKS", (measuring("P3", "P4"), measuring("P8")))
    assert [row.name for row in run.measured_rows(("P4",), 7)] == ["P4"]
    assert asked == [(("P3", "P4"), 7)]
    assert [row.name for row in run.measured_rows(("P3", "P8"), 1)] == ["P3", "P8"]


@pytest.mark.unit
def test_an_unknown_row_is_refused_before_anything_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--only", "P8,P99"])
    assert "no row 'P99'; the rows are C11, P1, P2, P3" in capsys.readouterr().err
