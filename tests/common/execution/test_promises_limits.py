"""Limits are kept: of time (E4), of memory, of what the evaluator holds under floods (E9), and of the worker itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from common.execution import EvaluationPool
from common.execution.ladder import choose_isolation
from common.execution.verdict import plan_evaluation
from common.execution.worker_process import WorkerProcess
from tests.common.execution.conftest import Figure
from tests.common.execution.elsewhere import BEST, PLACES, Place, ask
from tests.common.execution.hostile import GOOD, TESTS
from tests.common.execution.processes import inner_worker
from tests.common.execution.rungs import pool_at_every_rung

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
pool = pool_at_every_rung(timeout=5.0, memory_mb=256)

PROMISED_SECONDS = 0.2
# A busy machine may be late to look; the promise itself is measured on a quiet one, by what is printed.
SLACK_SECONDS = 2.0

BURNERS = {
    "a loop": "def f(x):\n    while True: pass",
    "a loop in C": "import itertools\ndef f(x): return sum(itertools.repeat(0))",
    "threads": "import hashlib, threading\ndef burn():\n"
    "    while True: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 100_000)\n"
    "def f(x):\n    [threading.Thread(target=burn).start() for _ in range(3)]\n    threading.Event().wait()",
    "forked children": "import os, time\ndef f(x):\n    for _ in range(3):\n"
    "        if os.fork() == 0:\n            while True: pass\n    time.sleep(1000)",
    "grandchildren in sessions of their own": "import os, time\ndef f(x):\n    for _ in range(2):\n"
    "        if os.fork() == 0:\n            os.setsid()\n            if os.fork():\n                os._exit(0)\n"
    "            while True: pass\n    time.sleep(1000)",
    "children that end and are waited for": "import os\ndef f(x):\n    while True:\n        pid = os.fork()\n"
    "        if pid == 0:\n            sum(range(300_000))\n            os._exit(0)\n        os.waitpid(pid, 0)",
}
SLEEPER = "import time\ndef f(x): time.sleep(1000)"


def is_busy() -> bool:
    """Tells whether more wants to run here than can: a limit of wall time may then come before one of CPU time."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def check_times(figure: Figure, place: Place, limit: float) -> None:
    codes = [*BURNERS.values(), SLEEPER]
    answer = ask(place, "evaluate", programs=[(code, TESTS, "") for code in codes], timeout=limit, workers=2)
    assert set(answer["outcomes"]) == {"timeout"}, answer
    for name, cpu, wall, why in zip(
        [*BURNERS, "a sleeper"], answer["cpu_seconds"], answer["wall_seconds"], answer["messages"], strict=True
    ):
        figure(f"E4 {place}, limit {limit:g} s, {name}: {cpu:.2f} s of CPU, {wall:.2f} s of wall time")
        if name == "a sleeper" or not is_busy():
            assert ("of wall time" in why) == (name == "a sleeper"), (name, why)
        assert cpu <= limit + PROMISED_SECONDS + SLACK_SECONDS, name
        assert wall <= 4 * limit + PROMISED_SECONDS + SLACK_SECONDS, name


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_cpu_time_of_all_processes_and_wall_time_of_sleepers_are_limited(place: Place, figure: Figure) -> None:
    check_times(figure, place, 1.0)


@pytest.mark.smoke
def test_a_short_limit_of_time_is_kept_in_every_way_of_using_it_up(figure: Figure) -> None:
    check_times(figure, BEST, 0.2)


@pytest.mark.smoke
def test_memory_counts_for_one_process_and_for_all_together(pool: EvaluationPool) -> None:
    several = (
        "import os, time\ndef f(x):\n    for _ in range(4):\n        if os.fork() == 0:\n"
        "            kept = b'x' * (120 << 20)\n            time.sleep(60)\n    time.sleep(60)"
    )
    result = pool.submit(several, TESTS).result(timeout=60)
    assert result.outcome == "memory", result
    assert pool.submit("def f(x): return len(bytes(300 << 20))", TESTS).result(timeout=60).outcome == "memory"
    assert pool.submit(f"kept = bytes(100 << 20)\n{GOOD}", TESTS).result(timeout=60)


@pytest.mark.smoke
def test_no_program_changes_the_limits_or_the_priority_of_its_worker(pool: EvaluationPool) -> None:
    if pool.isolation.rung == 0:
        pytest.skip("rung 0 keeps no program from other processes")
    worker = inner_worker(pool)
    before = limits_and_priority(worker)
    code = """
import os, resource
def f(tries):
    worker, changed = os.getppid(), []
    def attempt(name, action, *arguments):
        try: action(*arguments)
        except OSError: return
        changed.append(name)
    for which in ('NOFILE', 'CPU', 'FSIZE', 'NPROC', 'AS'):
        attempt(which, resource.prlimit, worker, getattr(resource, 'RLIMIT_' + which), (90, 90))
    attempt('priority', os.setpriority, os.PRIO_PROCESS, worker, 19)
    attempt('priority of its group', os.setpriority, os.PRIO_PGRP, os.getpgid(worker), 19)
    attempt('priority of its user', os.setpriority, os.PRIO_USER, os.getuid(), 19)
    attempt('processors', os.sched_setaffinity, worker, {min(os.sched_getaffinity(0))})
    attempt('scheduling', os.sched_setscheduler, worker, os.SCHED_IDLE, os.sched_param(0))
    return changed
"""
    result = pool.submit(code, ["assert f(1) == []"]).result(timeout=60)
    assert result, result
    assert limits_and_priority(worker) == before
    assert inner_worker(pool) == worker


def limits_and_priority(pid: int) -> tuple[str, str, set[int]]:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return Path(f"/proc/{pid}/limits").read_text("ascii"), fields[16], os.sched_getaffinity(pid)


FLOODS = {
    "printed words": "def f(x):\n    while True: print('x' * 65536)",
    "the verdict's pipe": "import os\ndef f(x):\n    while True:\n        for d in range(3, 64):\n"
    "            try: os.write(d, b'x' * 65536)\n            except OSError: pass",
    "a huge string": "def f(x): return 'x' * 100_000_000",
    "a huge list": "def f(x): return list(range(5_000_000))",
    "a huge number": "def f(x): return 1 << (1 << 28)",
    "a deep value": "def f(x):\n    v = []\n    for _ in range(1_000_000): v = [v]\n    return v",
    "wide values in many tests": "def f(x): return list(range(200_000))",
    "a string as long as may be sent": "def f(x): return 'x' * 480_000",
    "a number as long as may be sent": "def f(x): return 1 << 1_600_000",
    "as many strings as may be sent": "def f(x): return ['a%d' % i for i in range(45_000)]",
    "a huge exception": "def f(x): raise ValueError('x' * 100_000_000)",
    "an exception of a long name": "def f(x): raise type('E' * 10_000_000, (Exception,), {})('x' * 1000)",
}


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_floods_leave_the_evaluator_small_and_the_messages_short(place: Place, figure: Figure) -> None:
    check_floods(figure, place, 1.0)


@pytest.mark.smoke
def test_floods_at_the_best_rung_leave_the_evaluator_small(figure: Figure) -> None:
    check_floods(figure, BEST, 0.2)


def check_floods(figure: Figure, place: Place, limit: float) -> None:
    programs = [(code, TESTS * (50 if "many tests" in name else 1), "") for name, code in FLOODS.items()]
    answer = ask(place, "evaluate", programs=programs, timeout=limit)
    figure(f"E9 {place}: the evaluator grew by {answer['growth_mb']} MB; outcomes {answer['outcomes']}")
    assert "passed" not in answer["outcomes"]
    assert max(map(len, answer["messages"])) <= 300
    assert answer["growth_mb"] <= 64


@pytest.mark.unit
@pytest.mark.parametrize("name", [name for name in FLOODS if "huge" in name or "wide" in name])
def test_no_message_of_a_worker_is_larger_than_a_megabyte(name: str) -> None:
    worker = WorkerProcess(choose_isolation().isolation)
    try:
        plan = plan_evaluation(FLOODS[name], TESTS, "", 2.0, 2048)
        reply = worker.evaluate(plan)
    finally:
        worker.close()
    assert len(reply.message) <= 1_000_000
    report: dict[str, Any] = json.loads(reply.message or b"{}")
    assert len(report.get("results", [])) in (0, 2)
