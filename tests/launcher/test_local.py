from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import PipelineError
from common.profiles import REPOSITORY
from common.runs.slices import Span
from launcher import local
from launcher.engine import Device, Ended, Work
from launcher.local import LocalEngine, how_it_ended

pytestmark = pytest.mark.smoke
DEVICES = [Device("cpu 1", "cpu", {}), Device("cpu 2", "cpu", {})]
FIRST, SECOND = Span(0, 3), Span(4, 7)
SAVES = """
import signal, sys, time
def save(number, frame):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(300)
"""
STUBBORN = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(300)"
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("ready", child.pid, flush=True)
"""


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    made = LocalEngine(DEVICES)
    yield made
    for process in made._running.values():
        process.kill()
        process.wait()


def start(engine: LocalEngine, tmp_path: Path, *programs: str, **environment: str) -> list[Work]:
    spans = [FIRST, SECOND][: len(programs)]
    works = [
        Work(span, (sys.executable, "-c", program), tmp_path / "logs" / f"{span.start}.log", environment)
        for span, program in zip(spans, programs, strict=True)
    ]
    engine.start(works)
    return works


def wait_until(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return found


def said(work: Work) -> list[str]:
    return work.log.read_text().splitlines() if work.log.exists() else []


def ready(work: Work) -> list[str]:
    return [line for line in said(work) if line.startswith("ready")]


def all_ended(engine: LocalEngine, count: int) -> list[Ended]:
    ended: list[Ended] = []
    wait_until(lambda: ended.extend(engine.poll()) or len(ended) >= count)
    return sorted(ended)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_every_end_is_told_once_with_how_it_was(engine: LocalEngine, tmp_path: Path) -> None:
    start(engine, tmp_path, "print('fine')", "import sys; sys.exit(3)")
    assert all_ended(engine, 2) == [Ended(FIRST, True, ""), Ended(SECOND, False, "exit 3")]
    assert engine.poll() == []


def test_output_errors_and_variables_reach_the_log_which_is_appended_to(engine: LocalEngine, tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['SHARE']); print('oh', file=sys.stderr)"
    for _ in range(2):
        (work,) = start(engine, tmp_path, program, SHARE="2")
        all_ended(engine, 1)
    lines = [line for line in said(work) if line]
    assert [line for line in lines if not line.startswith(("$ ", "import"))].count("2") == 2
    assert lines.count("oh") == 2 and lines[0].startswith(f"$ {sys.executable} -c ")


def test_one_that_is_killed_does_not_stop_the_others(engine: LocalEngine, tmp_path: Path) -> None:
    works = start(engine, tmp_path, SAVES, SAVES)
    wait_until(lambda: all(ready(work) for work in works))
    os.kill(engine._running[FIRST].pid, signal.SIGKILL)
    (ended,) = all_ended(engine, 1)
    assert ended == Ended(FIRST, False, "signal 9 (killed, mostly for want of memory)")
    assert engine._running[SECOND].poll() is None


def test_stopping_lets_every_worker_save(engine: LocalEngine, tmp_path: Path) -> None:
    works = start(engine, tmp_path, SAVES, SAVES)
    wait_until(lambda: all(ready(work) for work in works))
    engine.stop()
    assert all(said(work)[-1] == "saved" for work in works)
    assert engine.poll() == []


def test_one_that_does_not_stop_is_ended_when_its_time_is_up(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local.SAVING_SECONDS == 10
    monkeypatch.setattr(local, "SAVING_SECONDS", 0.2)
    works = start(engine, tmp_path, STUBBORN, SAVES)
    wait_until(lambda: all(ready(work) for work in works))
    processes = list(engine._running.values())
    engine.stop()
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 130]


def test_a_second_request_ends_all_at_once(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = start(engine, tmp_path, STUBBORN, STUBBORN)
    wait_until(lambda: all(ready(work) for work in works))
    processes = list(engine._running.values())

    def again(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local.time, "sleep", again)
    with pytest.raises(KeyboardInterrupt):
        engine.stop()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_where_one_cannot_be_started_the_others_are_stopped(engine: LocalEngine, tmp_path: Path) -> None:
    missing = str(tmp_path / "no python")
    works = [Work(FIRST, (sys.executable, "-c", SAVES), tmp_path / "first.log", {})]
    works.append(Work(SECOND, (missing,), tmp_path / "second.log", {}))
    with pytest.raises(PipelineError, match="a process cannot be started: No such file or directory; free"):
        engine.start(works)
    assert engine._running == {}


def test_what_a_worker_leaves_in_its_group_is_ended_with_it(engine: LocalEngine, tmp_path: Path) -> None:
    (work,) = start(engine, tmp_path, WITH_CHILD)
    child = int(wait_until(lambda: ready(work))[0].split()[1])
    all_ended(engine, 1)
    wait_until(lambda: not lives(child))


def test_workers_are_told_to_stop_when_their_launcher_is_killed(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from common.runs.slices import Span
from launcher.engine import Work
from launcher.local import LocalEngine
engine = LocalEngine([])
engine.start([Work(Span(0, 3), (sys.executable, "-c", {SAVES!r}), Path({str(tmp_path / "log")!r}), {{}})])
time.sleep(300)
"""
    launcher = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    log = tmp_path / "log"
    try:
        wait_until(lambda: log.exists() and "\nready" in log.read_text())
    finally:
        launcher.kill()
        launcher.wait()
    wait_until(lambda: log.read_text().endswith("saved\n"))


def test_the_engine_names_its_devices_and_its_workers_end_with_it() -> None:
    assert LocalEngine(DEVICES).describe() == "2 devices: cpu 1, cpu 2"
    assert LocalEngine(DEVICES[:1]).describe() == "1 device: cpu 1"
    assert LocalEngine(DEVICES).attach() == () and LocalEngine(DEVICES).leave() is None


@pytest.mark.parametrize(("code", "words"), [(0, ""), (2, "exit 2"), (-15, "signal 15"), (-11, "signal 11")])
def test_an_exit_code_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words
