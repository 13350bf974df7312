"""One slot of the sandbox: a fresh interpreter that forks a child per sample, watches it, and cleans up after it.

Started as a script in whatever namespaces the sandbox has, never imported by the pipeline. A request is two frames on
its standard input, each eight hexadecimal digits of length and then the bytes: the limits, and the program, which only
the child reads, so that nothing of one program is left in the memory that the next one inherits. A reply is one frame
on its standard output: a line of JSON and, behind it, the child's message. Its one argument is JSON: what `ladder` has
found to work on this machine.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import json
import os
import random
import signal
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, NoReturn

_VERDICT_FD, _CONTROL_FD = 62, 63
_SHARED_MEMORY = "/dev/shm"
_NOT_ISOLATED = 71
_MODES = {"directory": 0o755, "shared": 0o1777}
_NO_RANDOM_ADDRESSES = 0x40000
_COMMON_MODULES = (
    "array bisect cmath collections collections.abc copy dataclasses datetime decimal enum fractions functools heapq "
    "itertools math numbers operator re statistics string tempfile textwrap threading typing"
)
# A numeric library that starts a thread a core reserves more address space than a sample may have.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "USER": "sandbox", "LOGNAME": "sandbox", **_ONE_THREAD}


class Watched(NamedTuple):
    """What became of a child: `status` is done, timeout, memory or died."""

    status: str
    detail: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_mb: float
    strays_killed: int


def main() -> None:
    """Serves requests until standard input ends."""
    _settle_addresses()
    options = json.loads(sys.argv[1])
    modules = SimpleNamespace(
        **{
            name: _load(name)
            for name in ("isolation", "seccomp", "landlock", "watching", "cleaning", "child", "values")
        }
    )
    if options["parent"]:  # process 1 of a process space is ended by no signal of its own, and needs none from outside
        signal.signal(signal.SIGTERM, lambda *_: _end(modules.watching))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    modules.isolation.isolate_worker(options, modules.seccomp)
    requests, replies = _take_over_descriptors()
    for name in _COMMON_MODULES.split():
        __import__(name)
    os.environ.clear()
    gc.collect()
    gc.freeze()
    worker = _Worker(options, modules, requests)
    with contextlib.suppress(modules.watching.Abandoned, BrokenPipeError):
        while (frame := _read_frame(requests)) is not None:
            watched, message = worker.evaluate(json.loads(frame))
            is_clean = worker.clean()
            header = json.dumps({**watched._asdict(), "rung": options["rung"]}).encode("ascii") + b"\n"
            _write_all(replies, b"%08x" % (len(header) + len(message)) + header)
            _write_all(replies, message)
            if not is_clean or watched.status == "unready":
                return  # the next program gets a fresh worker


def _settle_addresses() -> None:
    """Starts again without random addresses, by which Python orders a set that holds None, say; where that can be."""
    if not sys.platform.startswith("linux"):
        return
    personality = ctypes.CDLL(None).personality
    now = personality(ctypes.c_ulong(0xFFFFFFFF))
    if now < 0 or now & _NO_RANDOM_ADDRESSES or personality(ctypes.c_ulong(now | _NO_RANDOM_ADDRESSES)) < 0:
        return
    if personality(ctypes.c_ulong(0xFFFFFFFF)) & _NO_RANDOM_ADDRESSES:
        os.execv(sys.executable, sys.orig_argv)


def _end(watching: Any) -> NoReturn:
    """Ends everything below the worker, and the worker: whoever started it is gone."""
    watching.end_children()
    os._exit(0)


class _Worker:
    def __init__(self, options: dict[str, Any], modules: Any, asker: int) -> None:
        self._options = options
        self._modules = modules
        self._asker = asker
        self._count = 0
        self._buffer = modules.watching.unforked_buffer()
        self._readable = modules.landlock.open_paths(options["readable"]) if options["landlock"] else []

    def evaluate(self, request: dict[str, Any]) -> tuple[Watched, memoryview]:
        """Runs the program that follows under the limits of `request` and leaves nothing of it behind.

        Returns the child's message too, which stands until the next evaluation.
        """
        self._count += 1
        self._reset_modes()
        directory = os.path.join(self._options["directory"], str(self._count))
        os.mkdir(directory, 0o700)
        if self._options["user"] is not None:
            os.chown(directory, self._options["user"], self._options["user"])
        return self._watch(request, directory)

    def clean(self) -> bool:
        """Removes what a sample has left in the directories that it may write; returns whether nothing is left."""
        self._reset_modes()
        places = [(self._options["directory"], "" if self._options["shared_memory"] else "lock")]
        places += [(_SHARED_MEMORY, "")] if self._options["shared_memory"] else []
        for directory, keep in places:
            self._modules.cleaning.empty_directory(directory, keep)
        return all(set(os.listdir(directory)) <= {keep} for directory, keep in places)

    def _reset_modes(self) -> None:
        """Opens both directories again: a sample that runs as the worker's user may have closed them."""
        if self._options["shared_memory"]:
            os.chmod(self._options["directory"], _MODES["directory"])
            os.chmod(_SHARED_MEMORY, _MODES["shared"])

    def _watch(self, request: dict[str, Any], directory: str) -> tuple[Watched, memoryview]:
        verdict_read, verdict_write = os.pipe()
        control_read, control_write = os.pipe()
        # A sample may fill the one pipe and empty the other.
        os.set_blocking(control_write, False)
        os.set_blocking(verdict_read, False)
        worker = os.getpid()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._become_child(request, directory, verdict_write, control_read, worker)
        os.close(verdict_write)
        os.close(control_read)
        request["most_processes"] = self._modules.isolation.MOST_PROCESSES
        request["wall_seconds"] = self._modules.isolation.WALL_FACTOR * request["cpu_seconds"]
        watching = self._modules.watching
        pipes = (verdict_read, control_write)
        watcher = watching.Watcher(pid, pipes, self._asker, request, self._modules.child, self._buffer)
        try:
            status = watcher.wait()
        finally:
            detail, usage, strays = watching.end_family(pid)
            os.close(verdict_read)
            os.close(control_write)
        peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        cpu = usage.ru_utime + usage.ru_stime
        if status == "died" and cpu >= request["cpu_seconds"]:
            status = "timeout"
        if status == "unready":
            detail = f"{detail} {watcher.last_words()}"
        elif status in ("timeout", "memory", "processes"):
            detail = watcher.limit_reached()
        wall = time.monotonic() - started
        watched = Watched(status, detail, round(cpu, 4), round(wall, 4), round(peak, 1), strays)
        return watched, watcher.message

    def _become_child(
        self, request: dict[str, Any], directory: str, verdict: int, control: int, worker: int
    ) -> NoReturn:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            os.chdir(directory)
            assert max(verdict, control) < _VERDICT_FD, (verdict, control)
            program = json.loads(_read_frame(self._asker) or b"null")
            self._isolate(request, worker, verdict)
            os.write(verdict, self._modules.watching.READY)
            os.dup2(verdict, _VERDICT_FD)
            os.dup2(control, _CONTROL_FD)
            os.closerange(3, _VERDICT_FD)
            os.closerange(_CONTROL_FD + 1, 65536)
            os.environ.update(HOME=directory, TMPDIR=directory, **_ENVIRONMENT)
            sys.modules["__main__"] = ModuleType("__main__")
            sys.argv = [""]
            random.seed(0)
            self._modules.child.run_sample(program, self._modules.values, _VERDICT_FD, _CONTROL_FD)
        finally:
            os._exit(70)

    def _isolate(self, request: dict[str, Any], worker: int, verdict: int) -> None:
        try:
            self._modules.isolation.isolate_child(self._options, worker, request, self._readable, self._modules)
        except (OSError, OverflowError, ValueError) as error:
            os.write(verdict, f"({error})".encode("ascii", "replace")[:200])
            os._exit(_NOT_ISOLATED)


def _load(name: str) -> SimpleNamespace:
    """Loads a neighbouring file with builtins of its own, and without an entry in `sys.modules`."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    scope: dict[str, Any] = {"__builtins__": dict(vars(builtins)), "__name__": f"sandbox_{name}", "__file__": path}
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec", dont_inherit=True, optimize=0), scope)
    return SimpleNamespace(**scope)


def _take_over_descriptors() -> tuple[int, int]:
    """Moves the pipes away from descriptors 0 and 1 and leaves nothing behind them."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return requests, replies


def _read_frame(descriptor: int) -> bytes | None:
    header = _read_exactly(descriptor, 8)
    return None if header is None else _read_exactly(descriptor, int(header, 16))


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(descriptor, min(1 << 16, count - len(data)))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
