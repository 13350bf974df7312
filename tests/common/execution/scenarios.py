"""What the fault tests have an evaluator do in a process of its own: `scenarios.py NAME`, arguments on standard input.

Imports only the standard library and the sandbox, so that any Python can run it as any user; answers in JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.execution import EvaluationPool, EvaluationResult
from common.execution.ladder import choose_isolation
from tests.common.execution.processes import (
    all_processes,
    family,
    forget_peak_memory,
    inner_worker,
    marked,
    memory_mb,
    outer_worker,
    process,
    worker_directory,
)

NOT_HERE = 77
WARM_UP = 40
_TESTS = ["assert f(1) == 2", "assert f(2) == 3"]
GOOD = "def f(x):\n    return x + 1\n"


def choose(sandbox: str) -> dict[str, Any]:
    """Answers which isolation is chosen, what it leaves open, and why nothing better; or the error's text and type."""
    try:
        choice = choose_isolation(sandbox)
    except PipelineError as error:
        return {"error": str(error), "type": type(error).__name__}
    return {
        "rung": choice.isolation.rung,
        "used": choice.isolation.describe(),
        "open": choice.open,
        "refusals": dict(choice.refusals),
    }


def evaluate(
    sandbox: str,
    programs: list[tuple[str, list[str], str]],
    workers: int = 1,
    timeout: float = 5.0,
    memory_mb_each: int = 2048,
    open_files: int | None = None,
) -> dict[str, Any]:
    """Answers the outcome of each program with its message and times, and by how much this process grew at most."""
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    with EvaluationPool(workers, timeout, memory_mb_each, sandbox) as pool:
        served_by = [inner_worker(pool, slot) for slot in range(workers)]
        forget_peak_memory()
        before = memory_mb()
        results = [future.result() for future in [pool.submit(*program) for program in programs]]
        growth = memory_mb(what="VmHWM") - before
        same_workers = served_by == [inner_worker(pool, slot) for slot in range(workers)]
    return {
        "outcomes": [result.outcome for result in results],
        "messages": [result.error_message for result in results],
        "cpu_seconds": [result.cpu_seconds for result in results],
        "wall_seconds": [result.wall_seconds for result in results],
        "rungs": sorted({result.rung for result in results}),
        "growth_mb": round(growth, 1),
        "same_workers": same_workers,
    }


def soak(sandbox: str, count: int, hostile: list[str], mark: str, workers: int = 1) -> dict[str, Any]:
    """Answers what is left behind after `count` evaluations, every tenth of a hostile program."""
    with EvaluationPool(workers, 0.2, 256, sandbox) as pool:
        _serve(pool, WARM_UP, hostile)
        before = _held(pool)
        started = time.monotonic()
        results = _serve(pool, count, hostile)
        seconds = time.monotonic() - started
        after = _held(pool)
    honest = [result for index, result in enumerate(results) if index % 10]
    return {
        "false_fails": sum(not result for result in honest),
        "strays": sum(result.strays_killed for result in results),
        "outcomes": sorted({result.outcome for index, result in enumerate(results) if index % 10 == 0}),
        "before": before,
        "after": after,
        "left_by_mark": len(marked(mark)),
        "left_below": len(family(os.getpid())),
        "left_in_temporary": os.listdir(tempfile.gettempdir()),
        "seconds": round(seconds, 1),
    }


def _serve(pool: EvaluationPool, count: int, hostile: list[str]) -> list[EvaluationResult]:
    codes = [hostile[index // 10 % len(hostile)] if index % 10 == 0 else GOOD for index in range(count)]
    futures = [pool.submit(code, _TESTS) for code in codes]
    wait(futures)
    return [future.result() for future in futures]


def _held(pool: EvaluationPool) -> dict[str, Any]:
    """Returns what the evaluator and its workers hold while no sample runs."""
    slots = range(pool.workers)
    workers = [inner_worker(pool, slot) for slot in slots]
    below = family(os.getpid())
    own = {*workers, *(outer_worker(pool, slot) for slot in slots)}
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "worker_descriptors": [_count(f"/proc/{worker}/fd") for worker in workers],
        "zombies": sum(item.state == "Z" for item in below),
        "others_below": sum(item.pid not in own for item in below),
        "in_directories": [sorted(os.listdir(worker_directory(pool, slot))) for slot in slots],
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
        "shared_memory": sorted(os.listdir("/dev/shm")),
        "inside": [_names(f"/proc/{worker}/root/{name}") for worker in workers for name in ("box", "dev/shm")],
        "workers": workers,
        "worker_mb": [round(memory_mb(worker), 2) for worker in workers],
    }


def _names(directory: str) -> list[str]:
    """Returns what a directory holds; nothing where it is not there or only root may look."""
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []


def _count(directory: str) -> int:
    return len(_names(directory))


def break_down(
    sandbox: str, steps: list[list[Any]], programs: list[tuple[str, list[str], str]], room: int | None = None
) -> dict[str, Any]:
    """Answers what programs give before and after `steps` that break the sandbox under a pool of one worker.

    A step is a name of `_STEPS` with its arguments; `room` is how many more processes this user may have.
    """
    if room is not None:
        limit = sum(_threads(item.pid) for item in all_processes() if _owner(item.pid) == os.getuid()) + room
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    with EvaluationPool(1, 1.0, 2048, sandbox) as pool:
        before = [_answer(pool, *program) for program in programs]
        for name, *arguments in steps:
            _STEPS[name](pool, *arguments)
        after = [_answer(pool, *program) for program in programs]
    return {"before": before, "after": after}


def _answer(pool: EvaluationPool, code: str, tests: list[str], setup: str) -> list[str]:
    try:
        result = pool.submit(code, tests, setup).result(timeout=120)
    except BaseException as error:
        return [type(error).__name__, str(error)]
    return [result.outcome, result.error_message]


def _end_worker(pool: EvaluationPool) -> None:
    worker = inner_worker(pool)
    os.kill(worker, signal.SIGKILL)
    while (now := process(worker)) is not None and now.state != "Z":
        time.sleep(0.002)


def _use_up_processes(_: EvaluationPool, spare: int) -> None:
    """Starts processes until the user may have no more, then ends `spare` of them."""
    started: list[subprocess.Popen[bytes]] = []
    with contextlib.suppress(OSError):
        while len(started) < 2000:
            started.append(subprocess.Popen(["/bin/sleep", "600"]))
    _others.extend(started)
    for other in started[:spare]:
        other.kill()
        other.wait()


_others: list[subprocess.Popen[bytes]] = []
_STEPS: dict[str, Callable[..., object]] = {
    "end worker": _end_worker,
    "remove": lambda _, path: os.unlink(path),
    "write": lambda _, path, text: Path(path).write_text(text),
    "chmod": lambda _, path, mode: os.chmod(path, mode),
    "use up processes": _use_up_processes,
}


def _owner(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid
    return None


def _threads(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def main() -> None:
    """Runs the scenario that the first argument names."""
    arguments = json.load(sys.stdin)
    if sys.argv[1] != "choose":
        try:
            choose_isolation(arguments["sandbox"])
        except PipelineError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(NOT_HERE)
    try:
        json.dump(globals()[sys.argv[1]](**arguments), sys.stdout)
    finally:
        for other in _others:
            other.kill()


if __name__ == "__main__":
    main()
