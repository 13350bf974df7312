from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import PipelineError, UsageError
from common.runs.locks import EVERYTHING, directory_lock, refuse_held, span_lock
from common.runs.slices import Span
from tests.common.runs.helpers import end, start_python, wait_for_line

pytestmark = pytest.mark.unit

HOLDER = (
    "import sys, time; from pathlib import Path\n"
    "from common.runs.locks import span_lock; from common.runs.slices import Span\n"
    "with span_lock(Path(sys.argv[1]), Span(int(sys.argv[2]), int(sys.argv[3]))):\n"
    "    print('held'); time.sleep(600)"
)

Holder = Callable[[int, int], subprocess.Popen[str]]


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "phase1_0" / "locks"


@pytest.fixture
def holder(locks: Path) -> Iterator[Holder]:
    """Starts real processes that hold the lock of a span until the test ends."""
    children = []

    def hold(first: int, last: int) -> subprocess.Popen[str]:
        children.append(start_python(HOLDER, str(locks), str(first), str(last)))
        wait_for_line(children[-1], "held")
        return children[-1]

    yield hold
    for child in children:
        end(child)


@pytest.mark.parametrize("wanted", [Span(0, 9), Span(9, 20), Span(3, 4), EVERYTHING])
def test_an_overlapping_span_is_refused_naming_host_and_process(locks: Path, holder: Holder, wanted: Span) -> None:
    child = holder(0, 9)
    said = f"positions 0 to 9 are being worked on by process {child.pid} on host {re.escape(socket.gethostname())}"
    with pytest.raises(UsageError, match=said), span_lock(locks, wanted):
        pytest.fail("two processes hold one span")


def test_disjoint_spans_are_held_at_the_same_time(locks: Path, holder: Holder) -> None:
    holder(0, 9)
    holder(20, 29)
    refused = pytest.raises(UsageError, match="positions 20 to 29")
    with span_lock(locks, Span(10, 19)), refused, span_lock(locks, Span(25, 40)):
        pytest.fail("two processes hold one span")


def test_the_lock_of_a_killed_process_is_taken_over_at_once(locks: Path, holder: Holder) -> None:
    end(holder(0, 9))
    assert len(list(locks.glob("*.lock"))) == 1
    with span_lock(locks, Span(5, 12)):
        assert [path.name.split(".")[0] for path in locks.glob("*.lock")] == ["000005-000012"]
    assert list(locks.glob("*.lock")) == []


def test_a_lock_is_given_back_where_the_block_raises(locks: Path) -> None:
    with pytest.raises(KeyError), span_lock(locks, Span(0, 9)):
        raise KeyError
    with span_lock(locks, Span(0, 9)):
        pass


def test_one_process_cannot_hold_overlapping_spans_either(locks: Path) -> None:
    said = f"by process {os.getpid()} on host"
    with span_lock(locks, Span(0, 9)), pytest.raises(UsageError, match=said), span_lock(locks, Span(9, 9)):
        pytest.fail("two holders of one span")


def test_a_lock_that_vanishes_while_locks_are_examined_is_no_error(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = locks / "000000-000009.lock"
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([ghost]))
    with span_lock(locks, Span(0, 9)):
        pass


def test_the_lock_of_a_directory_waits_for_its_holder(locks: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from common.runs.locks import directory_lock\n"
        "print('started')\n"
        "with directory_lock(Path(sys.argv[1])): print('got', (Path(sys.argv[1]) / 'released').exists())"
    )
    with directory_lock(locks):
        child = start_python(program, str(locks))
        wait_for_line(child, "started")
        (locks / "released").touch()
    assert wait_for_line(child, "got") == "got True"
    end(child)


def test_a_second_one_is_refused_at_once_also_while_the_first_publishes(locks: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from common.runs.locks import directory_lock, span_lock; from common.runs.slices import Span\n"
        "with span_lock(Path(sys.argv[1]), Span(0, 9)), directory_lock(Path(sys.argv[1])):\n"
        "    print('held'); time.sleep(600)"
    )
    child = start_python(program, str(locks))
    try:
        wait_for_line(child, "held")
        started = time.monotonic()
        with pytest.raises(UsageError, match=f"process {child.pid}"), span_lock(locks, Span(0, 9)):
            pytest.fail("two processes hold one span")
        assert time.monotonic() - started < 5  # the promise is one second, on a machine that is not busy
    finally:
        end(child)


def test_of_processes_that_start_at_once_exactly_one_holds_a_span(locks: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from common.errors import UsageError\n"
        "from common.runs.locks import span_lock; from common.runs.slices import Span\n"
        "print('ready'); sys.stdin.readline()\n"
        "try:\n    with span_lock(Path(sys.argv[1]), Span(0, 9)): print('held'); time.sleep(600)\n"
        "except UsageError as error: print('refused', error)"
    )
    children = [start_python(program, str(locks), stdin=subprocess.PIPE) for _ in range(4)]
    try:
        for child in children:
            wait_for_line(child, "ready")
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        said = [wait_for_line(child, "") for child in children]
        assert sorted(line.split()[0] for line in said) == ["held", "refused", "refused", "refused"]
        holder = children[[line.split()[0] for line in said].index("held")]
        assert all(f"process {holder.pid} on host" in line for line in said if line.startswith("refused"))
    finally:
        for child in children:
            end(child)


def test_what_is_held_is_refused_without_taking_a_lock(locks: Path, holder: Holder) -> None:
    refuse_held(locks)
    assert not locks.exists()
    child = holder(3, 4)
    with pytest.raises(UsageError, match=f"positions 3 to 4 are being worked on by process {child.pid}"):
        refuse_held(locks)
    end(child)
    refuse_held(locks)
    assert list(locks.glob("*.lock")) == []


def test_locks_in_an_unusable_place_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    refused = pytest.raises(PipelineError, match="a file stands where a directory is needed")
    with refused, span_lock(tmp_path / "data" / "locks", Span(0, 1)):
        pytest.fail("a lock without a place")
