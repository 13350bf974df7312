"""Locks between hosts, simulated: a child that believes to run under another kernel, and holds its locks there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import UsageError
from common.runs import lock_files
from common.runs.lock_files import HeldLock, Place, living_owner
from common.runs.locks import directory_lock, span_lock
from common.runs.slices import Span
from tests.common.runs.helpers import end, start_python, wait_for_line

pytestmark = pytest.mark.unit

FAR = (
    "import sys, time; from pathlib import Path\n"
    "from common.runs import lock_files, locks; from common.runs.slices import Span\n"
    "from common.runs.locks import directory_lock, span_lock\n"
    "lock_files.here = lambda: lock_files.Place('far', 'another-boot')\n"
    "lock_files.BEAT_SECONDS = float(sys.argv[2])\n"
    "locks.try_flock = lock_files.try_flock = lambda descriptor, operation: None\n"
)
HOLDS = FAR + "with span_lock(Path(sys.argv[1]), Span(0, 9)):\n    print('held'); time.sleep(600)"
PUBLISHES = FAR + "with directory_lock(Path(sys.argv[1])):\n    print('held'); time.sleep(600)"
SAID = "positions 0 to 9 are being worked on by process {} on host far"

Starter = Callable[[str, float], subprocess.Popen[str]]


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "phase1_0" / "locks"


@pytest.fixture
def far(locks: Path) -> Iterator[Starter]:
    """Starts processes of another host that hold a lock until the test ends; the second word is their beat's pause."""
    children = []

    def hold(program: str, pause: float) -> subprocess.Popen[str]:
        children.append(start_python(program, str(locks), str(pause)))
        wait_for_line(children[-1], "held")
        return children[-1]

    yield hold
    for child in children:
        end(child)


def refused(locks: Path, child: subprocess.Popen[str]) -> str:
    with pytest.raises(UsageError, match=SAID.format(child.pid)) as caught, span_lock(locks, Span(4, 20)):
        pytest.fail("two hosts hold one span")
    return str(caught.value)


def stand_still_for(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_files, "STANDSTILL_SECONDS", seconds)


def test_a_lock_names_host_process_and_boot_and_its_beat_rises(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_files, "BEAT_SECONDS", 0.01)
    locks.mkdir(parents=True)
    with HeldLock(locks, "000000-000009") as held:
        for wanted in (1, 2, 3):
            wait_until(lambda wanted=wanted: int(json.loads(held.path.read_text())["beat"]) >= wanted)
        found = json.loads(held.path.read_text())
    assert (found["host"], found["boot"]) == lock_files.here()
    assert found["pid"] == os.getpid()
    assert list(locks.iterdir()) == []


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("the condition never came true")


def test_this_place_has_the_boot_of_the_kernel_where_the_system_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if lock_files.BOOT_ID.exists():
        assert re.fullmatch(r"[0-9a-f-]{36}", lock_files.here().boot)
    monkeypatch.setattr(lock_files, "BOOT_ID", Path("/nowhere/boot_id"))
    assert lock_files.here().boot == ""


def test_a_holder_on_another_host_is_refused_at_once_with_what_to_do_if_it_died(locks: Path, far: Starter) -> None:
    child = far(HOLDS, 600)
    started = time.monotonic()
    line = refused(locks, child)
    assert time.monotonic() - started < 5  # far below what a standstill takes
    assert "if it has died there, run the same command again in 60 s: its lock is taken over once its beat" in line
    with span_lock(locks, Span(10, 19)):
        pass


def test_a_dead_holder_of_another_host_is_taken_over_when_its_beat_has_stood_still(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_for(0.6, monkeypatch)
    child = far(HOLDS, 0.05)
    refused(locks, child)
    end(child)
    for _ in range(2):
        refused(locks, child)
    time.sleep(0.7)
    with span_lock(locks, Span(0, 9)):
        names = [path.name for path in locks.iterdir() if path.name.startswith("0")]
        assert len(names) == 1
    assert not list(locks.glob("*.lock")) + list(locks.glob("*.seen"))


def test_a_living_holder_of_another_host_is_never_taken_over(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_for(0.3, monkeypatch)
    child = far(HOLDS, 0.02)
    for _ in range(4):
        refused(locks, child)
        time.sleep(0.4)


def test_what_one_boot_remembers_of_a_beat_means_nothing_to_another(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_for(0.2, monkeypatch)
    child = far(HOLDS, 600)
    refused(locks, child)
    time.sleep(0.3)
    monkeypatch.setattr(lock_files, "here", lambda: Place("here", "the-next-boot"))
    refused(locks, child)
    assert len(list(locks.glob("*.seen"))) == 2


@pytest.mark.parametrize("remembered", [b"", b"[]", b'{"beat": 0}', b'{"beat": 0, "moment": 1e18}', b"\xff"])
def test_a_memory_that_cannot_be_right_is_made_anew(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch, remembered: bytes
) -> None:
    stand_still_for(0.0, monkeypatch)
    child = far(HOLDS, 600)
    lock = next(locks.glob("*.lock"))
    memory = locks / f"{lock.stem}.{lock_files.here().boot or 'here'}.seen"
    memory.write_bytes(remembered)
    refused(locks, child)
    assert json.loads(memory.read_bytes())["moment"] <= time.monotonic()


def test_a_holder_that_stood_still_and_was_taken_over_stops_itself(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_for(0.3, monkeypatch)
    child = far(HOLDS, 0.05)
    child.send_signal(signal.SIGSTOP)
    refused(locks, child)
    time.sleep(0.4)
    with span_lock(locks, Span(0, 9)):
        child.send_signal(signal.SIGCONT)
        assert child.wait(timeout=20) in (1, -signal.SIGINT)  # KeyboardInterrupt, which the command line words
        assert len(list(locks.glob("*.lock"))) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"host": "x"}', b"\x00" * 90])
def test_a_lock_that_cannot_be_read_is_refused_until_it_has_stood_still(
    locks: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    stand_still_for(0.2, monkeypatch)
    locks.mkdir(parents=True)
    (locks / "000000-000009.abcdef012345.lock").write_bytes(content)
    refusal = pytest.raises(UsageError, match=r"being worked on by process \? on host \?")
    with refusal, span_lock(locks, Span(0, 9)):
        pytest.fail("nobody knows who holds it")
    time.sleep(0.3)
    with span_lock(locks, Span(0, 9)):
        pass


def test_a_lock_without_boot_and_beat_is_decided_by_the_kernel(locks: Path) -> None:
    locks.mkdir(parents=True)
    path = locks / "000000-000009.lock"
    path.write_text(json.dumps({"host": "somewhere", "pid": 4}))
    with open(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        owner = living_owner(path)
        assert owner is not None
        assert (owner.host, owner.pid) == ("somewhere", 4)
    assert living_owner(path) is None


def no_such_locks(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_where_the_file_system_knows_no_kernel_locks_the_process_decides(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_such_locks)
    with span_lock(locks, Span(0, 9)):
        refusal = pytest.raises(UsageError, match=f"process {os.getpid()} on host")
        with refusal, span_lock(locks, Span(9, 9)):
            pytest.fail("two hold one span")
    child = start_python("")
    end(child)
    dead = {"host": lock_files.here().host, "pid": child.pid, "boot": lock_files.here().boot, "beat": "000000000007"}
    (locks / "000000-000009.00ff.lock").write_text(json.dumps(dead))
    with span_lock(locks, Span(0, 9)), directory_lock(locks):
        assert len(list(locks.glob("0*.lock"))) == 1


def test_publishing_waits_for_another_host_and_takes_over_when_it_stands_still(
    locks: Path, far: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still_for(0.5, monkeypatch)
    child = far(PUBLISHES, 0.05)
    ended: list[float] = []
    waiter = start_python(
        "import sys; from pathlib import Path; from common.runs.locks import directory_lock\n"
        "print('waits')\nwith directory_lock(Path(sys.argv[1])): print('got')",
        str(locks),
    )
    try:
        wait_for_line(waiter, "waits")
        time.sleep(1.0)
        assert waiter.poll() is None, waiter.communicate()
    finally:
        end(waiter)
    end(child)
    started = time.monotonic()
    with directory_lock(locks):
        ended.append(time.monotonic() - started)
    assert 0.4 < ended[0] < 20
    assert list(locks.glob("*.lock")) == []


def test_hosts_that_no_kernel_lock_joins_never_hold_one_span_at_once(locks: Path) -> None:
    """Each child claims and gives back again and again, and notes in a file of its own that it is inside.

    Between looking and claiming each dawdles, so that all of them come between each other's steps.
    """
    program = FAR + (
        "import os, random; from common.errors import UsageError\n"
        "root, me = Path(sys.argv[1]), sys.argv[3]\n"
        "lock_files.here = lambda: lock_files.Place(me, me)\n"
        "make = lock_files.HeldLock.__init__\n"
        "def dawdle(*given): time.sleep(random.uniform(0, 0.01)); make(*given)\n"
        "lock_files.HeldLock.__init__ = dawdle\n"
        "inside, mine = root.parent / 'inside', 0\n"
        "inside.mkdir(parents=True, exist_ok=True)\n"
        "while mine < 25:\n"
        "    try:\n"
        "        with span_lock(root, Span(random.randrange(5), 5 + random.randrange(5))):\n"
        "            (inside / me).touch(); time.sleep(0.002)\n"
        "            assert os.listdir(inside) == [me], os.listdir(inside)\n"
        "            (inside / me).unlink(); mine += 1\n"
        "    except UsageError: time.sleep(random.uniform(0, 0.02))\n"
        "print('done')"
    )
    children = [start_python(program, str(locks), "5", f"host{number}") for number in range(3)]
    try:
        for child in children:
            wait_for_line(child, "done")
    finally:
        for child in children:
            end(child)
