"""How soon the command line answers (P9)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile

from benchmarks.timing import Row, seconds
from common.profiles import REPOSITORY

GOAL_SECONDS = 0.15
COMMANDS = (("--help",), ("status",), ("phase", "1.0"), ("phase", "9.9"))


def command_rows(repeats: int) -> list[Row]:
    """Returns row P9: the slowest of several commands' medians."""
    with tempfile.TemporaryDirectory() as empty:
        took = {" ".join(words): _seconds(words, empty, repeats + 1) for words in COMMANDS}
    medians = {name: statistics.median(values) for name, values in took.items()}
    slowest = max(medians, key=lambda name: medians[name])
    value = medians[slowest]
    return [
        Row(
            "P9",
            "run.py --help, status, refusals: the slowest of them",
            value,
            "s",
            f"≤ {GOAL_SECONDS} s",
            value <= GOAL_SECONDS,
            medians,
            took[slowest],
        )
    ]


def _seconds(words: tuple[str, ...], data_dir: str, times: int) -> tuple[float, ...]:
    options = () if words[0] == "--help" else ("--data-dir", data_dir)
    command = [sys.executable, str(REPOSITORY / "run.py"), *words, *options]
    return tuple(seconds(lambda: subprocess.run(command, capture_output=True, check=False)) for _ in range(times))
