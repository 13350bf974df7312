"""Killing a process at a chosen system call, by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from common.profiles import REPOSITORY
from tests.cli.helpers import environment

CALLS = ("write", "pwrite64", "fsync", "rename", "unlink", "mkdir", "rmdir", "ftruncate")


class Call(NamedTuple):
    """One system call of the main thread: its name, its number among those of this name, and strace's line."""

    name: str
    number: int
    line: str


def need_strace(tmp_path: Path) -> None:
    """Skips the test where strace is missing or may not inject."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if traced([sys.executable, "-c", "import os; os.sync()"], tmp_path / "probe", "sync", 1).returncode != -9:
        pytest.skip("strace may not inject signals here")


def traced(
    words: Sequence[object], log: Path, calls: str, killed_at: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command under strace and writes its `calls` to `log`; kills it when it enters the given one of them."""
    inject = [] if killed_at is None else ["-e", f"inject={calls}:signal=KILL:when={killed_at}"]
    command = ["strace", "-qq", "-s", "300", "-o", str(log), "-e", f"trace={calls}", *inject]
    return subprocess.run(
        [*command, *map(str, words)],
        cwd=REPOSITORY,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def calls_under(root: Path, words: Sequence[object], log: Path) -> list[Call]:
    """Runs a command and returns the system calls of its main thread from its first rename under `root` on."""
    done = traced(words, log, ",".join(CALLS))
    assert done.returncode == 0, done
    counts = dict.fromkeys(CALLS, 0)
    found: list[Call] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"(\w+)\(", line)
        if match is None:
            continue
        counts[match[1]] += 1
        if found or (match[1] == "rename" and str(root) in line):
            found.append(Call(match[1], counts[match[1]], line))
    assert found, "nothing was renamed"
    return found
