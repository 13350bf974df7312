"""Small tables, records and child processes for the tests of runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.config import Config
from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.files import write_parquet
from common.runs.metadata import Extent, InputFile, OutputFile, write_record
from common.runs.tables import EVALUATION_SCHEMA, generation_table, problem_table

REPOSITORY = Path(__file__).resolve().parents[3]


def start_python(program: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Starts a Python child that can import the project; its output comes line by line."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", program, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_line(child: subprocess.Popen[str], word: str) -> str:
    """Returns the child's first line that begins with `word`."""
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(word):
            return line.strip()
    raise AssertionError(f"the child ended with {child.wait()} and never said {word!r}")


def end(child: subprocess.Popen[str]) -> None:
    """Kills a child of ours and waits for it."""
    child.send_signal(signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def problem(number: int) -> Problem:
    """A problem whose solution adds `number`."""
    tests = (f"assert add(1) == {number + 1}", f"assert add(0) == {number}")
    return Problem(number, f"Add {number}.", f"def add(x):\n    return x + {number}", tests, "", 1)


def generated_rows(positions: Sequence[int], **changes: Any) -> list[dict[str, Any]]:
    """Rows of the generating stage, one a position; the problem at position p has task id 10 + p."""
    return [
        {
            "position": position,
            "task_id": 10 + position,
            "temperature": 0.0,
            "sample": 0,
            "prompt": f"prompt {position}",
            "generated_text": f"text {position}",
            "n_prompt_tokens": 5,
            "n_new_tokens": 7,
            "stop_reason": "function_end",
            "excluded_reason": None,
            "tries": 1,
            "batch_rows": len(positions),
            "batch_seconds": 0.5,
            **changes,
        }
        for position in positions
    ]


def generated(positions: Sequence[int], vectors: dict[int, np.ndarray] | None = None, **changes: Any) -> pa.Table:
    """A table of the generating stage."""
    return generation_table(generated_rows(positions, **changes), vectors or {})


def evaluated(positions: Sequence[int], passed: Sequence[bool | None]) -> pa.Table:
    """A table of the evaluating stage."""
    rows = [
        {
            "position": position,
            "task_id": 10 + position,
            "temperature": 0.0,
            "sample": 0,
            "generated_code": f"code {position}",
            "test_passed": label,
            "outcome": None if label is None else ("passed" if label else "wrong_answer"),
            "sandbox_rung": 2,
            "opaque": False,
            "error_message": None,
            "tests_passed": 2 if label else 0,
            "tests_total": 2,
            "cpu_seconds": 0.1,
            "wall_seconds": 0.2,
            "peak_memory_mb": 9.0,
        }
        for position, label in zip(positions, passed, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=EVALUATION_SCHEMA)


def publish_output(
    config: Config,
    phase: str,
    table: pa.Table,
    *,
    name: str = "table.parquet",
    expected: int | None = None,
    done: int | None = None,
    inputs: Sequence[InputFile] = (),
    inputs_complete: bool = True,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Publishes `table` as the output of `phase` and returns the record."""
    paths = PhasePaths(config.phase_dir(phase))
    output = OutputFile(name, write_parquet(paths.root / name, table), table.num_rows)
    n = table.num_rows if expected is None else expected
    extent = Extent(n, n if done is None else done, inputs_complete=inputs_complete)
    return write_record(
        paths,
        phase=phase,
        config=config,
        extent=extent,
        inputs=inputs,
        outputs=[output],
        wall_seconds={},
        details=details or {},
    )


def publish_problems(config: Config, *numbers: int) -> None:
    """Publishes phase 0 with the problem of each number under that task id."""
    table = problem_table([problem(number) for number in numbers])
    publish_output(config, "0", table, name="mapping.parquet", details={"mapping": "mapping.parquet"})
