"""What runs on a node: the worker, its log, Slurm's signals."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.runs.lock_files import HeldLock
from common.runs.slices import Span
from launcher.slurm_task import SlurmTask

pytestmark = pytest.mark.unit


def task(tmp_path: Path, program: str, *, reach: bool = False) -> SlurmTask:
    command = (sys.executable, "-c", program)
    log, locks = tmp_path / "logs" / "w.log", tmp_path / "locks"
    return SlurmTask(
        Span(0, 3), command, log, {"GIVEN": "x y"}, directory=tmp_path, locks=locks, signals_reach_worker=reach
    )


def test_a_task_runs_the_worker_where_it_was_started_from_and_appends_to_its_log(tmp_path: Path) -> None:
    worker = task(tmp_path, "import os; print(os.environ['GIVEN'], os.getcwd())")
    (tmp_path / "logs").mkdir()
    worker.log.write_text("before\n")
    assert worker() == 0
    lines = worker.log.read_text().splitlines()
    assert (lines[0], lines[2]) == ("before", f"x y {tmp_path}")
    assert lines[1].startswith("== Slurm task ? on ")


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_task_ends_with_its_workers_exit_code(tmp_path: Path, program: str, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        task(tmp_path, program)()
    assert ended.value.code == code


LISTS_LOCKS = "from pathlib import Path; print(sorted(path.name[:13] for path in Path('locks').glob('*.lock')))"


def test_a_task_waits_while_an_earlier_worker_still_holds_its_positions(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    held = HeldLock(tmp_path / "locks", "000002-000009")
    threading.Timer(0.5, held.release).start()
    waiting = task(tmp_path, LISTS_LOCKS)
    assert waiting() == 0
    assert waiting.log.read_text().splitlines()[-1] == "[]"


def test_a_task_does_not_wait_for_workers_on_other_positions(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    with HeldLock(tmp_path / "locks", "000004-000009"):
        busy = task(tmp_path, LISTS_LOCKS)
        assert busy() == 0
    assert busy.log.read_text().splitlines()[-1] == "['000004-000009']"


DRIVER = """
import pickle, sys
from pathlib import Path
task = pickle.load(open(sys.argv[1], "rb"))
if sys.argv[2] == "checkpoint":
    import signal
    def warned(number, frame):
        assert task.checkpoint().function is task
        print("saved" if "saved" in task.log.read_text() else "lost", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGUSR2, warned)
task()
"""
SAVES = (
    "import signal, sys, time\n"
    "def stop(number, frame):\n    print('saved', flush=True); sys.exit(130)\n"
    "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\ntime.sleep(60)"
)


@pytest.mark.parametrize(
    ("kind", "number", "code", "said"),
    [("checkpoint", signal.SIGUSR2, 0, "saved\n"), ("pass on", signal.SIGTERM, 130, "")],
)
def test_a_task_that_is_warned_or_ended_lets_its_worker_save(
    tmp_path: Path, kind: str, number: int, code: int, said: str
) -> None:
    worker = task(tmp_path, SAVES)
    (tmp_path / "task").write_bytes(pickle.dumps(worker))
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path / "task"), kind], stdout=subprocess.PIPE, text=True
    )
    for _ in range(1000):
        if worker.log.exists() and "ready" in worker.log.read_text():
            break
        time.sleep(0.02)
    child.send_signal(number)
    out, _ = child.communicate(timeout=30)
    assert (child.returncode, out) == (code, said)
    assert "saved" in worker.log.read_text()
