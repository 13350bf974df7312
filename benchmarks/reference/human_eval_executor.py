"""human-eval's method of evaluating programs, the reference of row P8.

Written from its public description (Chen et al. 2021, arXiv 2107.03374, section 2.3, and the project's README): threads
that each start a manager and a forked process for every program, which runs under an alarm with destructive functions
taken away. Most of what it costs are the two forks and the talk with the manager. It is not a sandbox: give it only
the data set's own solutions.
"""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, MutableSequence, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType, ModuleType

from common.problems import Problem

TIMEOUT_SECONDS = 3.0
PASSED, TIMED_OUT, FAILED = "passed", "timed out", "failed: "

_GRACE_SECONDS = 1.0
_FORK = multiprocessing.get_context("fork")
_TAKEN_AWAY: tuple[tuple[ModuleType, str], ...] = (
    (builtins, "exit quit help"),
    (os, "kill killpg system fork forkpty putenv setuid"),
    (os, "remove unlink rmdir removedirs rename renames replace truncate"),
    (os, "chmod fchmod lchmod chown fchown lchown chflags lchflags chroot chdir fchdir getcwd"),
    (shutil, "rmtree move chown"),
    (subprocess, "Popen"),
)


class _AlarmError(Exception):
    """The time limit was reached."""


class _WriteOnly(io.StringIO):
    """Takes what a program prints, and refuses to be read as its input."""

    def read(self, _size: int | None = -1, /) -> str:
        raise OSError("a program has no input")

    def readline(self, _size: int = -1, /) -> str:  # type: ignore[override]
        raise OSError("a program has no input")

    def readable(self) -> bool:
        return False


def program_text(problem: Problem) -> str:
    """Returns the reference solution with its setup code and its tests behind it, as one text."""
    return "\n".join((problem.code, problem.test_setup_code, *problem.test_list))


def verdicts(programs: Sequence[str], workers: int, timeout: float = TIMEOUT_SECONDS) -> list[str]:
    """Returns what `verdict` says of each program, with `workers` of them at a time."""
    with ThreadPoolExecutor(max_workers=workers) as threads:
        return list(threads.map(partial(verdict, timeout=timeout), programs))


def verdict(program: str, timeout: float = TIMEOUT_SECONDS) -> str:
    """Returns "passed", "timed out" or "failed: " with the error's text; a process that says nothing has timed out."""
    with _FORK.Manager() as manager:
        said = manager.list()
        process = _FORK.Process(target=_run, args=(program, timeout, said))
        process.start()
        process.join(timeout + _GRACE_SECONDS)
        if process.is_alive():
            process.kill()
        return said[0] if len(said) else TIMED_OUT


def _run(program: str, timeout: float, said: MutableSequence[str]) -> None:
    """Runs the program in the calling process and appends the verdict to `said`."""
    with _temporary_working_directory(), _destructive_functions_disabled():
        try:
            with _standard_streams_redirected(), _alarm(timeout):
                exec(program, {})
            said.append(PASSED)
        except _AlarmError:
            said.append(TIMED_OUT)
        except BaseException as error:
            said.append(f"{FAILED}{error}")


@contextlib.contextmanager
def _temporary_working_directory() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        yield


@contextlib.contextmanager
def _destructive_functions_disabled() -> Iterator[None]:
    """Puts None in their place, and puts them back for the removal of the temporary directory."""
    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    names = [(module, name) for module, words in _TAKEN_AWAY for name in words.split() if hasattr(module, name)]
    usual = [getattr(module, name) for module, name in names]
    for module, name in names:
        setattr(module, name, None)
    try:
        yield
    finally:
        for (module, name), function in zip(names, usual, strict=True):
            setattr(module, name, function)


@contextlib.contextmanager
def _standard_streams_redirected() -> Iterator[None]:
    stream, usual_input = _WriteOnly(), sys.stdin
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        sys.stdin = stream
        try:
            yield
        finally:
            sys.stdin = usual_input


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ring(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise _AlarmError
