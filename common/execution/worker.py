"""One slot of the sandbox: a fresh interpreter that forks a child per sample, watches it, and cleans up after it.

Started by `common.execution.pool` as a script, never imported by the pipeline. It reads requests from its standard
input and answers on its standard output, one frame each: eight hexadecimal digits of length, then the bytes. A reply
is one line of JSON and, behind it, the child's message. CPU time is the limit; wall time, four times as much, catches
sleepers.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import json
import os
import random
import select
import shutil
import signal
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, NoReturn

_VERDICT_FD, _CONTROL_FD = 62, 63
_MAX_BYTES_READ = 2_500_000
_PROCESS_LIMIT_AGE = 2.0
_COMMON_MODULES = (
    "array bisect cmath collections collections.abc copy dataclasses datetime decimal enum fractions functools heapq "
    "itertools math numbers operator re statistics string tempfile textwrap threading typing"
)
# A numeric library that starts a thread a core reserves more address space than a sample may have.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Watched(NamedTuple):
    """What became of a child: `status` is done, timeout or died; `message` is the verdict's text if it is done."""

    status: str
    message: bytes
    detail: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_mb: float
    strays_killed: int


def main() -> None:
    """Serves requests until standard input ends."""
    base, parent = sys.argv[1], int(sys.argv[2])
    isolation, child, values = _load("isolation"), _load("child"), _load("values")
    isolation.isolate_worker(parent)
    requests, replies = _take_over_descriptors()
    for name in _COMMON_MODULES.split():
        __import__(name)
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.environ.clear()
    gc.collect()
    gc.freeze()
    worker = _Worker(base, isolation, child, values)
    while (frame := _read_frame(requests)) is not None:
        watched = worker.evaluate(json.loads(frame))
        header = json.dumps({**watched._asdict(), "message": None, "rung": isolation.RUNG}).encode("ascii")
        _write_frame(replies, header + b"\n" + watched.message)


class _Worker:
    def __init__(self, base: str, isolation: Any, child: Any, values: Any) -> None:
        self._base = base
        self._isolation = isolation
        self._child = child
        self._values = values
        self._count = 0
        self._process_limit: int | None = None
        self._process_limit_at = -1e9

    def evaluate(self, request: dict[str, Any]) -> Watched:
        """Runs one request in a child of its own and leaves nothing of it behind."""
        self._count += 1
        directory = os.path.join(self._base, str(self._count))
        os.mkdir(directory, 0o700)
        now = time.monotonic()
        if now - self._process_limit_at > _PROCESS_LIMIT_AGE:
            self._process_limit, self._process_limit_at = self._isolation.process_limit(), now
        try:
            return self._watch(request, directory)
        finally:
            _remove(directory)

    def _watch(self, request: dict[str, Any], directory: str) -> Watched:
        verdict_read, verdict_write = os.pipe()
        control_read, control_write = os.pipe()
        worker = os.getpid()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._become_child(request, directory, verdict_write, control_read, worker)
        os.close(verdict_write)
        os.close(control_read)
        wall_seconds = self._isolation.WALL_FACTOR * request["cpu_seconds"]
        watcher = _Watcher(pid, verdict_read, control_write, self._child, request["cpu_seconds"], wall_seconds)
        try:
            status = watcher.wait()
        finally:
            detail, usage, strays = _end(pid, self._isolation)
            os.close(verdict_read)
            os.close(control_write)
        peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        cpu = usage.ru_utime + usage.ru_stime
        if status == "died" and cpu >= request["cpu_seconds"]:
            status = "timeout"
        if status == "timeout":
            detail = watcher.limit_reached()
        wall = time.monotonic() - started
        return Watched(status, watcher.message, detail, round(cpu, 4), round(wall, 4), round(peak, 1), strays)

    def _become_child(
        self, request: dict[str, Any], directory: str, verdict: int, control: int, worker: int
    ) -> NoReturn:
        try:
            os.setsid()
            os.chdir(directory)
            assert max(verdict, control) < _VERDICT_FD, (verdict, control)
            os.dup2(verdict, _VERDICT_FD)
            os.dup2(control, _CONTROL_FD)
            os.closerange(3, _VERDICT_FD)
            os.closerange(_CONTROL_FD + 1, 65536)
            os.environ.update(HOME=directory, TMPDIR=directory, PATH="/usr/bin:/bin", **_ONE_THREAD)
            sys.modules["__main__"] = ModuleType("__main__")
            sys.argv = [""]
            random.seed(0)
            self._isolation.isolate_child(worker, request["cpu_seconds"], request["memory_bytes"], self._process_limit)
            self._child.run_sample(request, self._values, _VERDICT_FD, _CONTROL_FD)
        finally:
            os._exit(70)


class _Watcher:
    """Waits for a child's verdict, its end or its limits, whichever comes first."""

    def __init__(
        self, pid: int, verdict: int, control: int, child: Any, cpu_seconds: float, wall_seconds: float
    ) -> None:
        self._pid = pid
        self._verdict = verdict
        self._control = control
        self._cpu_limit = cpu_seconds
        self._wall_limit = wall_seconds
        self._wall_end = time.monotonic() + wall_seconds
        self._nonce = os.urandom(child.NONCE_BYTES)
        self._nonce_sent = False
        self._received = bytearray()
        self._max_message = child.MAX_MESSAGE_BYTES
        self.message = b""

    def wait(self) -> str:
        """Returns done, timeout or died."""
        poller = select.poll()
        poller.register(self._verdict, select.POLLIN)
        pidfd = os.pidfd_open(self._pid) if hasattr(os, "pidfd_open") else -1
        if pidfd >= 0:
            poller.register(pidfd, select.POLLIN)
        try:
            while True:
                remaining = self._seconds_left()
                if remaining <= 0:
                    return "timeout"
                ready = {descriptor for descriptor, _ in poller.poll(1000 * min(remaining, 0.02 + remaining / 8, 0.25))}
                if self._verdict in ready and not self._read():
                    poller.unregister(self._verdict)
                if self._complete():
                    return "done"
                if pidfd in ready or len(self._received) > _MAX_BYTES_READ or (pidfd < 0 and self._has_ended()):
                    while self._read() and len(self._received) <= _MAX_BYTES_READ:
                        pass
                    return "done" if self._complete() else "died"
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def limit_reached(self) -> str:
        """Returns which limit ended the child."""
        if time.monotonic() >= self._wall_end:
            return f"ran for {self._wall_limit:g} s of wall time"
        return f"used {self._cpu_limit:g} s of CPU time"

    def _seconds_left(self) -> float:
        """Returns how long the child can still run at least, as far as one thread of it uses the CPU."""
        try:
            used = time.clock_gettime((~self._pid << 3) | 2)
        except OSError:
            used = 0.0
        return min(self._cpu_limit - used, self._wall_end - time.monotonic())

    def _read(self) -> bool:
        """Takes what the verdict pipe holds; returns False at its end. The first byte asks for the nonce."""
        if not select.select([self._verdict], [], [], 0)[0]:
            return False
        chunk = os.read(self._verdict, 1 << 16)
        self._received += chunk
        if chunk and not self._nonce_sent:
            self._nonce_sent = True
            with contextlib.suppress(OSError):
                os.write(self._control, self._nonce)
        return bool(chunk)

    def _complete(self) -> bool:
        start = self._received.find(self._nonce)
        if start < 0:
            return False
        start += len(self._nonce)
        try:
            length = int(self._received[start : start + 8], 16)
        except ValueError:
            return False
        if length > self._max_message or len(self._received) < start + 8 + length:
            return False
        self.message = bytes(self._received[start + 8 : start + 8 + length])
        return True

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(pid: int, isolation: Any) -> tuple[str, Any, int]:
    """Kills the child's group, the child and every orphan; returns how the child ended, its usage and the orphans."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    strays = 0
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if ended:
            strays += 1
            continue
        for orphan in isolation.children_of_this_process():
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        time.sleep(0.0005)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}", usage, strays
    return f"exit status {os.WEXITSTATUS(status)}", usage, strays


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


def _remove(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)


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


def _write_frame(descriptor: int, data: bytes) -> None:
    data = b"%08x" % len(data) + data
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
