"""SIGKILL on the record store: at random moments, and at every system call that changes a file (C1, C2, C10, C12)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common.profiles import REPOSITORY
from tests.cli.helpers import environment
from tests.faults.conftest import Figure
from tests.faults.harness import assert_whole, temporaries
from tests.faults.store_worker import published
from tests.faults.strace import Call, calls_under, need_strace, traced

WORKER = [sys.executable, "-m", "tests.faults.store_worker"]
POSITIONS = 12


def trials(place: Path, *numbers: int) -> dict[str, int]:
    words = [*WORKER, "trials", str(place), *map(str, numbers)]
    done = subprocess.run(words, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def assert_nothing_lost(found: dict[str, int]) -> None:
    promised = ("ended otherwise", "snapshots lost", "snapshots not three", "temporaries left")
    assert {name: found[name] for name in promised} == dict.fromkeys(promised, 0)


@pytest.mark.smoke
def test_killed_and_damaged_until_done_the_store_ends_as_if_undisturbed(tmp_path: Path) -> None:
    found = trials(tmp_path, 38, 1, 2, 8)
    assert_nothing_lost(found)
    assert found["kills"] >= 8


@pytest.mark.fault
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_third_of_a_thousand_kills_lose_and_change_nothing(tmp_path: Path, figure: Figure, seed: int) -> None:
    found = trials(tmp_path, 98, seed, 60, 334)
    figure(
        f"C1, C2, C10: record store, seed {seed}: {found['kills']} kills and {found['damaged']} damaged files in "
        f"{found['trials']} trials; unreadable files 0, ended otherwise {found['ended otherwise']}, temporaries seen "
        f"{found['temporaries']}, left {found['temporaries left']}; snapshots lost {found['snapshots lost']}"
    )
    assert_nothing_lost(found)
    assert found["kills"] >= 334
    assert found["damaged"] >= 20


def words_on(root: Path) -> list[object]:
    return [*WORKER, "run", root, POSITIONS]


def killed_at(call: Call, root: Path, expected: dict[str, bytes], log: Path) -> None:
    """Kills a worker at a call, looks at what it left, and lets another one finish it."""
    done = traced(words_on(root), log, call.name, call.number)
    assert done.returncode == -9, (call, done)
    assert_whole(root)
    again = subprocess.run([str(word) for word in words_on(root)], cwd=REPOSITORY, env=environment(), check=False)
    assert again.returncode == 0, call
    assert published(root) == expected, call
    assert temporaries(root) == []
    assert (root / "metadata.json").is_file() and not (root / "segments").exists()


@pytest.fixture
def calls(tmp_path: Path) -> list[Call]:
    need_strace(tmp_path)
    return calls_under(tmp_path, words_on(tmp_path / "traced"), tmp_path / "log")


@pytest.mark.smoke
def test_killed_at_a_write_an_fsync_and_a_rename_it_ends_as_if_undisturbed(calls: list[Call], tmp_path: Path) -> None:
    expected = published(tmp_path / "traced")
    for name in ("write", "fsync", "rename"):
        chosen = [call for call in calls if call.name == name]
        call = chosen[len(chosen) // 2]
        killed_at(call, tmp_path / call.name, expected, tmp_path / "log")


@pytest.mark.fault
def test_killed_at_every_call_that_changes_a_file_it_ends_as_if_undisturbed(
    calls: list[Call], tmp_path: Path, figure: Figure
) -> None:
    expected = published(tmp_path / "traced")
    kinds = {name: sum(call.name == name for call in calls) for name in sorted({call.name for call in calls})}
    assert min(kinds[name] for name in ("write", "fsync", "rename", "unlink")) >= 3, kinds
    for place, call in enumerate(calls):
        killed_at(call, tmp_path / f"killed{place}", expected, tmp_path / "log")
    figure(f"C1, C12: record store killed at each of {len(calls)} calls {kinds}: all whole, all ended byte-identical")
