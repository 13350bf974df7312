"""The whole pipeline of `make demo` in a fresh directory, on two cores (P11)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.apart import answer, keep_to_cores, measured_apart
from benchmarks.timing import Row, seconds
from common.errors import PipelineError
from common.profiles import REPOSITORY

CORES = 2
GOAL_SECONDS = 300.0
MODULE = "benchmarks.demo_rows"


def demo_rows(repeats: int = 1) -> list[Row]:
    """Returns row P11: seconds from an empty data directory to the table of what was found."""
    return [row_of([_once() for _ in range(repeats)])]


def row_of(found: list[dict[str, Any]]) -> Row:
    """Returns the row of one or more runs."""
    took = tuple(item["seconds"] for item in found)
    median = statistics.median(took)
    what = "make demo: every phase on the tiny model, after installation"
    details = {"cores": found[0]["cores"]}
    return Row("P11", what, median, "s", f"≤ {GOAL_SECONDS:g} s", median <= GOAL_SECONDS, details, took)


def _once() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        return measured_apart(MODULE, directory)


def measure(directory: Path, *more: str) -> dict[str, Any]:
    """Runs the demo below `directory` on two cores."""
    cores = keep_to_cores(CORES)
    words = ["pipeline", "--profile", "organism", "--summary", "--data-dir", str(directory), *more]
    return {"seconds": seconds(lambda: _run(words)), "cores": cores}


def _run(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "run.py", *words], cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise PipelineError(f"run.py {' '.join(words)} failed with exit code {done.returncode}")


if __name__ == "__main__":
    sys.exit(answer(lambda: measure(Path(sys.argv[1]))))
