"""Driving the real launcher in a child process, and comparing what phases published by the role of each file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.slice_records import SliceRecord, read_slice_records
from tests.cli.helpers import Answer, environment, wait_until

_STAMP = re.compile(r"\d{8}_\d{6}")
# What a run leaves besides its results; a record and timings tell of the run itself.
_BESIDE = {"logs", "locks", "superseded", "metadata.json", "timings.parquet"}


def launch(*arguments: object) -> Answer:
    """Runs the launcher to its end."""
    return ended(begin(*arguments), 300)


def begin(*arguments: object) -> subprocess.Popen[str]:
    """Starts the launcher in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "multi_gpu_launcher.py"), *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(launcher: subprocess.Popen[str], seconds: float = 60) -> Answer:
    """Waits for a launcher; one that does not end is killed, and with it its workers."""
    try:
        out, err = launcher.communicate(timeout=seconds)
    finally:
        if launcher.returncode is None:
            launcher.send_signal(signal.SIGTERM)
            launcher.communicate(timeout=60)
    return Answer(launcher.wait(), out, err)


def wait_for(
    launcher: subprocess.Popen[str], paths: PhasePaths, wanted: Callable[[list[SliceRecord]], bool]
) -> list[SliceRecord]:
    """Waits until the slice records are as wanted, and returns them."""
    wait_until(lambda: wanted(read_slice_records(paths)), launcher)
    return read_slice_records(paths)


def contents(directory: Path) -> dict[str, bytes]:
    """Returns every file of results, by its name without a timestamp."""
    found = {}
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_file() and not _BESIDE & set(parts):
            found[_STAMP.sub("STAMP", "/".join(parts))] = path.read_bytes()
    return found


def assert_same_results(one: Path, other: Path) -> None:
    """Asserts that two phase directories hold the same files of results with the same bytes."""
    first, second = contents(one), contents(other)
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert first


def alive(process: int) -> bool:
    """Says whether a process runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
