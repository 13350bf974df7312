"""How soon the command line answers (P9)."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile

from benchmarks.timing import Row, seconds
from common.profiles import REPOSITORY

COMMANDS = (("--help",), ("status",), ("phase", "1.0"), ("phase", "9.9"))


def command_rows(repeats: int) -> list[Row]:
    """Returns row P9: the slowest of several commands' medians."""
    with tempfile.TemporaryDirectory() as empty:
        medians = {" ".join(words): _median(words, empty, repeats) for words in COMMANDS}
    slowest = max(medians.values())
    return [Row("P9", "run.py --help, status, refusals", slowest, "s", "≤ 0.15 s", slowest <= 0.15, medians)]


def _median(words: tuple[str, ...], data_dir: str, repeats: int) -> float:
    options = () if words[0] == "--help" else ("--data-dir", data_dir)
    command = [sys.executable, str(REPOSITORY / "run.py"), *words, *options]
    return statistics.median(
        seconds(lambda: subprocess.run(command, capture_output=True, check=False)) for _ in range(repeats + 1)
    )
