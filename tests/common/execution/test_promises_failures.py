"""A dead worker costs one retry (E7), and a broken sandbox stops the run before anything is recorded (E11)."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from common.execution import EvaluationPool
from tests.common.execution.conftest import Figure
from tests.common.execution.elsewhere import (
    BEST,
    PLACES,
    Circumstances,
    Place,
    ask,
    copy_sandbox,
    give,
    private_directory,
    private_python,
)
from tests.common.execution.hostile import GOOD, TESTS
from tests.common.execution.processes import family, inner_worker, outer_worker
from tests.common.execution.references import references
from tests.common.execution.rungs import RUNGS, need_rung, pool_at_every_rung, rung_id

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
pool = pool_at_every_rung(timeout=30.0, memory_mb=512)

SLEEPS = f"import time\ntime.sleep(20)\n{GOOD}"
WRONG = "def f(x):\n    return x\n"


@pytest.mark.smoke
def test_a_program_whose_worker_dies_once_is_tried_again(pool: EvaluationPool) -> None:
    waits_once = f"import time\ntime.sleep(1.2)\n{GOOD}"
    future = pool.submit(waits_once, TESTS)
    kill_worker_in_its_sample(pool, inner_worker)
    assert future.result(timeout=60)


@pytest.mark.smoke
@pytest.mark.parametrize("which", [inner_worker, outer_worker], ids=["inner", "outer"])
def test_a_program_whose_worker_dies_twice_is_called_crashed(
    pool: EvaluationPool, which: Callable[[EvaluationPool], int]
) -> None:
    future = pool.submit(SLEEPS, TESTS)
    kill_worker_in_its_sample(pool, which)
    kill_worker_in_its_sample(pool, which)
    result = future.result(timeout=60)
    assert result.outcome == "crashed", result
    assert "twice" in result.error_message
    assert result.rung == pool.isolation.rung
    assert pool.submit(GOOD, TESTS).result(timeout=60)


def kill_worker_in_its_sample(pool: EvaluationPool, which: Callable[[EvaluationPool], int]) -> None:
    """Kills the worker when a sample has run in it for a moment; the samples given here run long."""
    end, since, last = time.monotonic() + 30, 0.0, 0
    while time.monotonic() < end:
        samples = samples_of(pool)
        if samples != [last] or not last:
            last, since = (samples or [0])[0], time.monotonic()
        elif time.monotonic() - since > 0.2:
            os.kill(which(pool), signal.SIGKILL)
            while last in samples_of(pool):
                time.sleep(0.005)
            return
        time.sleep(0.01)
    raise AssertionError("no sample was seen")


def samples_of(pool: EvaluationPool) -> list[int]:
    try:
        worker = inner_worker(pool)
    except (AssertionError, ValueError):
        return []
    return [item.pid for item in family(worker) if item.parent == worker and item.state != "Z"]


@pytest.mark.fault
@pytest.mark.parametrize("rung", RUNGS, ids=rung_id)
def test_references_pass_while_their_workers_are_killed(rung: str, figure: Figure) -> None:
    need_rung(rung)
    asked = [(f"{item.task_id} for the {turn}. time", item) for turn in (1, 2, 3) for item in references()]
    with EvaluationPool(workers=6, sandbox=rung) as running, killer(running, every=(0.01, 0.1)) as (killed, done):
        futures = {name: running.submit(*item[1:]) for name, item in asked}
        for future in futures.values():
            future.add_done_callback(done)
        failed = {name: future.result() for name, future in futures.items() if not future.result()}
    figure(f"E7 rung {rung}: {len(futures)} references, {len(killed)} workers killed, {len(failed)} failed")
    assert len(killed) >= 20
    assert not failed


@pytest.mark.smoke
def test_a_few_references_pass_while_their_workers_are_killed() -> None:
    found = [item for item in references() if item.task_id != 123][::20]
    with EvaluationPool(workers=2) as running, killer(running, every=(0.01, 0.05)) as (killed, done):
        futures = [running.submit(*item[1:]) for item in found * 4]
        for future in futures:
            future.add_done_callback(done)
        assert all(future.result() for future in futures)
    assert killed


@contextmanager
def killer(pool: EvaluationPool, every: tuple[float, float]) -> Iterator[tuple[list[int], Callable[[object], None]]]:
    """Kills workers at random moments, but none twice in one program: a slot must have ended two since the last time.

    Yields the killed and what is to be called when a program has ended, which happens in its slot's thread.
    """
    chance, stop = random.Random(0), threading.Event()
    killed: list[int] = []
    ended = dict.fromkeys(pool._slots, 2)

    def count(_: object) -> None:
        slot = threading.current_thread()
        if isinstance(slot, type(pool._slots[0])):
            ended[slot] += 1

    def kill_some() -> None:
        while not stop.wait(chance.uniform(*every)):
            number = chance.randrange(pool.workers)
            slot = pool._slots[number]
            with suppress(AssertionError, ValueError, ProcessLookupError):
                worker, outer = inner_worker(pool, number), outer_worker(pool, number)
                if ended[slot] >= 2:
                    ended[slot] = 0
                    os.kill(chance.choice((worker, outer)), signal.SIGKILL)
                    killed.append(worker)

    thread = threading.Thread(target=kill_some)
    thread.start()
    try:
        yield killed, count
    finally:
        stop.set()
        thread.join()


# A worker that judges nothing: as a data set of failures would look.
ALWAYS_DIED = """
import json, sys
reply = {"status": "died", "detail": "", "cpu_seconds": 0, "wall_seconds": 0, "peak_memory_mb": 0, "strays_killed": 0}
reply = json.dumps({**reply, "rung": 4}).encode() + b"\\n"
while size := sys.stdin.buffer.read(8):
    sys.stdin.buffer.read(int(size, 16))
    sys.stdout.buffer.write(b"%08x" % len(reply) + reply)
    sys.stdout.buffer.flush()
"""
BREAKS = {
    "the worker's script is gone": [["remove", "worker.py"]],
    "a file that the worker loads is gone": [["remove", "values.py"]],
    "the worker's script is empty": [["write", "worker.py", ""]],
    "the worker's script is no Python": [["write", "worker.py", "{"]],
    "the worker says that every program dies": [["write", "worker.py", ALWAYS_DIED]],
    "the worker answers with noise": [["write", "worker.py", "while True: print('x' * 100)"]],
    "the child's script reports nothing": [["write", "child.py", "NONCE_BYTES, MAX_MESSAGE_BYTES = 16, 1000"]],
}
PROGRAMS = [(GOOD, TESTS, ""), (WRONG, TESTS, ""), (f"import colorsys\n{GOOD}", TESTS, "")]


@pytest.mark.fault
@pytest.mark.parametrize("what", BREAKS)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_sandbox_broken_midway_stops_the_run(place: Place, what: str) -> None:
    check_that_it_stops(place, BREAKS[what])


@pytest.mark.smoke
@pytest.mark.parametrize("what", list(BREAKS)[:5:2])
def test_a_sandbox_broken_midway_at_the_best_rung_stops_the_run(what: str) -> None:
    check_that_it_stops(BEST, BREAKS[what])


def check_that_it_stops(place: Place, steps: list[list[str]]) -> None:
    with private_directory(place) as directory:
        copy_sandbox(directory)
        give(place, directory)
        folder = directory / "common" / "execution"
        there = [[name, str(folder / file), *text] for name, file, *text in steps] + [["end worker"]]
        at = Circumstances(environment={"PYTHONPATH": str(directory)})
        answer = ask(place, "break_down", at=at, steps=there, programs=PROGRAMS)
    assert [outcome for outcome, _ in answer["before"]] == ["passed", "wrong_answer", "passed"]
    assert_stopped(answer)


def assert_stopped(answer: dict[str, Any]) -> None:
    for error, text in answer["after"]:
        assert error == "PipelineError", (error, text)
        assert "\n" not in text


@pytest.mark.fault
@pytest.mark.parametrize("rung", ["4", "2", "1", "0"], ids=rung_id)
@pytest.mark.parametrize("spare", [0, 3])
def test_running_out_of_processes_stops_the_run(rung: str, spare: int) -> None:
    """With `spare` the worker can still start a program, but the program's own threads cannot all start."""
    place = Place("user", rung)
    threads = "import threading\ndef f(x):\n    hold = threading.Event()\n"
    threads += "    waiting = [threading.Thread(target=hold.wait) for _ in range(8)]\n"
    threads += "    [one.start() for one in waiting]\n    hold.set()\n    return x + 1\n"
    answer = ask(
        place,
        "break_down",
        steps=[["use up processes", spare]],
        programs=[(threads, TESTS, ""), *PROGRAMS],
        room=90,
    )
    assert [outcome for outcome, _ in answer["before"]] == ["passed", "passed", "wrong_answer", "passed"]
    if spare == 0:
        assert_stopped(answer)
    else:
        assert answer["after"][0][0] in ("passed", "PipelineError"), answer["after"]


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_packages_that_become_unreadable_stop_the_run(place: Place) -> None:
    """Every program that imports one of them would be called wrong otherwise."""
    if place.user == "root" and int(place.rung) < 3:
        pytest.skip("root reads everything")
    with private_python(place) as directory:
        (packages,) = directory.glob("lib/python3.*/site-packages")
        program = f"import numpy\n{GOOD}"
        at = Circumstances(python=str(directory / "bin" / "python"))
        steps = [["chmod", str(packages), 0o000]]
        answer = ask(place, "break_down", at=at, steps=steps, programs=[(program, TESTS, "")])
    assert answer["before"][0][0] == "passed", answer
    assert answer["after"][0][0] == "PipelineError", answer
