"""What the sandbox is tried with: programs whose verdict is known, and one that reaches for what it must not have.

A broken sandbox looks like a data set of failures, and an open one like nothing at all, so both are looked for: the
first two programs at every worker's start and every 500 samples, the others when a rung of the ladder is chosen.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from common.execution.layout import readable_paths
from common.execution.results import EvaluationResult
from common.execution.verdict import EvaluationPlan, plan_evaluation

READS, CHANGES = "reading files", "changing files"
PROCESSES, SIGNALS = "reading other processes' environment", "signalling other processes"
NETWORK, LIMITS = "the network", "changing other processes' limits"
# What a rung may leave open; every rung that is not named leaves nothing.
MAY_STAY_OPEN = {1: {READS, CHANGES, PROCESSES}, 0: {READS, CHANGES, PROCESSES, NETWORK, SIGNALS, LIMITS}}

_CPU_SECONDS, _MEMORY_MB = 5.0, 2048
_TESTS = ("assert pva_sae_check(2) == [1, 2]", "assert pva_sae_check(0) == []")
# The right program needs a module that no worker has loaded: the standard library may become unreadable.
_GOOD = "import colorsys\ndef pva_sae_check(n):\n    return list(range(1, n + 1))"
_BAD = "def pva_sae_check(n):\n    return list(range(n))"
# A module that no worker has loaded, a temporary file, threads, a child process; numpy where the pipeline has it.
_HONEST = """
def pva_sae_check(with_numpy):
    import colorsys, os, subprocess, tempfile, threading, time
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("kept")
        file.seek(0)
        parts = [file.read()]
    hold = threading.Event()
    threads = [threading.Thread(target=hold.wait) for _ in range(32)]
    for thread in threads:
        thread.start()
    hold.set()
    parts.append("threaded")
    parts.append(subprocess.run(["/bin/sh", "-c", "echo run"], capture_output=True, text=True).stdout.strip())
    if with_numpy:
        import numpy
        parts.append(str(int(numpy.ones(3).sum())))
    return parts
"""
_REACH = f"""
def pva_sae_check(secret, harness, evaluator, enclosed):
    import os, resource, socket
    found = []
    def reach(name, action):
        try:
            action()
        except OSError:
            return
        found.append(name)
    reach({READS!r}, lambda: open(secret).close())
    reach({CHANGES!r}, lambda: open(secret, "a").close())
    reach({CHANGES!r}, lambda: os.truncate(secret, 0))
    reach({CHANGES!r}, lambda: os.close(os.open(secret, os.O_RDONLY | os.O_TRUNC)))
    reach({CHANGES!r}, lambda: os.rmdir(harness) or os.mkdir(harness))
    reach({LIMITS!r}, lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)))
    if enclosed:
        return found + ([{PROCESSES!r}] if os.getppid() != 1 else [])
    reach({PROCESSES!r}, lambda: open(f"/proc/{{evaluator}}/environ", "rb").read())
    reach({NETWORK!r}, lambda: socket.socket().bind(("127.0.0.1", 0)))
    reach({NETWORK!r}, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 0)))
    reach({NETWORK!r}, lambda: socket.socket(socket.AF_UNIX).bind("listener"))
    reach({SIGNALS!r}, lambda: os.kill(evaluator, 0))
    return found
"""

# No more threads or processes, no more descriptors or disk, a library that cannot be loaded.
_LACKING = re.compile(r"can't start new thread|\b(BlockingIOError|OSError|ImportError): ")

Evaluate = Callable[[EvaluationPlan], EvaluationResult]


class CheckFailedError(Exception):
    """The sandbox judges wrongly, or a sample reaches what it must not."""


class Reached(NamedTuple):
    """What a sample of this rung can get at, of the names above."""

    names: tuple[str, ...]


def check_verdicts(evaluate: Evaluate) -> None:
    """Raises `CheckFailedError` unless a right program passes and a wrong one fails by its answers."""
    for code, expected in ((_GOOD, "passed"), (_BAD, "wrong_answer")):
        _expect(evaluate(_plan(code, _TESTS)), expected, f"a program that must end as {expected}")


def check_honest_programs(evaluate: Evaluate) -> None:
    """Raises `CheckFailedError` unless a program passes that uses files, threads, processes and packages."""
    with_numpy = _is_readable("numpy")
    parts = ["kept", "threaded", "run", *(["3"] if with_numpy else [])]
    _expect(evaluate(_plan(_HONEST, [f"assert pva_sae_check({with_numpy}) == {parts}"])), "passed", "an honest program")


def check_reach(evaluate: Evaluate, rung: int, *, enclosed: bool) -> Reached:
    """Returns what a sample reaches; raises `CheckFailedError` where it is more than `rung` may leave open."""
    with _secret_file() as secret:
        harness = os.path.join(os.path.dirname(secret), "empty")
        call = f"pva_sae_check({secret!r}, {harness!r}, {os.getpid()}, {enclosed})"
        names = [name for name in MAY_STAY_OPEN[0] if not _is_refused(evaluate, call, name)]
    if too_much := sorted(set(names) - MAY_STAY_OPEN.get(rung, set())):
        raise CheckFailedError(f"it leaves open: {', '.join(too_much)}")
    return Reached(tuple(sorted(names)))


@lru_cache(maxsize=64)
def _is_readable(package: str) -> bool:
    """Tells whether a package lies where samples may read; one in the user's own site directory does not.

    Kept as it was at first: what can no longer be read is to be missed.
    """
    found = importlib.util.find_spec(package)
    origin = os.path.realpath(found.origin) if found is not None and found.origin else ""
    return any(origin.startswith(f"{os.path.realpath(path)}/") for path in readable_paths())


def lacks_what_is_here(result: EvaluationResult) -> bool:
    """Tells whether a program ended for want of what samples should have: a package, a thread, a process, a file.

    Right programs would end so too in a sandbox, or on a machine, that no longer gives these.
    """
    named = re.search(r"ModuleNotFoundError: No module named '(\w+)", result.error_message)
    if named is not None:
        return _is_readable(named[1])
    return _LACKING.search(result.error_message) is not None


def _is_refused(evaluate: Evaluate, call: str, name: str) -> bool:
    result = evaluate(_plan(_REACH, [f"assert ({name!r} in {call}) == False"]))
    if result.outcome not in ("passed", "wrong_answer"):
        raise CheckFailedError(f"the probe of what a sample reaches ended as {told(result)}")
    return result.passed


def _plan(code: str, tests: list[str] | tuple[str, ...]) -> EvaluationPlan:
    return plan_evaluation(code, tests, "", _CPU_SECONDS, _MEMORY_MB)


def _expect(result: EvaluationResult, outcome: str, what: str) -> None:
    if result.outcome != outcome:
        raise CheckFailedError(f"{what} ended as {told(result)}")


def told(result: EvaluationResult) -> str:
    """Returns a result's outcome with its error message."""
    return f"{result.outcome} ({result.error_message})" if result.error_message else result.outcome


@contextmanager
def _secret_file() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="pva-sae-secret-")
    try:
        path = os.path.join(directory, "secret.txt")
        with open(path, "w", encoding="ascii") as file:
            file.write("not for samples")
        os.mkdir(os.path.join(directory, "empty"))
        os.chmod(directory, 0o755)  # a place that other users may enter, as most are
        yield path
    finally:
        shutil.rmtree(directory, ignore_errors=True)
