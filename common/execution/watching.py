"""The worker's eye on a child: its verdict, its end, its limits, and the processes that it leaves behind.

CPU time is the limit, of the child and of all that it started; wall time, four times as much, catches sleepers. Memory
is limited process by process by the kernel, and for all of them together here. Loaded by the worker on its own, so it
imports only the standard library.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

_BUFFER_BYTES = 2_500_000
_CHUNK_BYTES = 1 << 16
_LOOK_EVERY = 0.05
# Longer than any poll: the worker itself stood still (a suspended job, a paused container), and the child with it.
_STOOD_STILL = 0.5
READY = b"r"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def unforked_buffer() -> mmap.mmap:
    """Returns memory for what a child sends, which no later child inherits."""
    buffer = mmap.mmap(-1, _BUFFER_BYTES)
    if hasattr(mmap, "MADV_DONTFORK"):
        buffer.madvise(mmap.MADV_DONTFORK)
    return buffer


class Abandoned(Exception):
    """Whoever asked is gone."""


class Usage(NamedTuple):
    """What the processes below this one use together; the first child's own CPU time is not among the seconds."""

    cpu_seconds: float
    memory_bytes: int
    processes: int


class Watcher:
    """Waits for a child's verdict, its end or its limits, whichever comes first."""

    def __init__(
        self,
        pid: int,
        pipes: tuple[int, int],
        asker: int,
        request: dict[str, Any],
        protocol: Any,
        buffer: mmap.mmap,
    ) -> None:
        """Watches `pid`; `pipes` are verdict and control, `asker` a pipe that hangs up when whoever asked is gone."""
        self._pid = pid
        self._verdict, self._control = pipes
        self._asker = asker
        self._cpu_limit = request["cpu_seconds"]
        self._wall_limit = request["wall_seconds"]
        self._memory_limit = request["memory_bytes"] + (32 << 20)
        self._wall_end = time.monotonic() + self._wall_limit
        self._looked = self._seen = time.monotonic()
        self._most_processes = request["most_processes"]
        self._nonce = os.urandom(protocol.NONCE_BYTES)
        self._nonce_sent = False
        self._buffer, self._length, self._searched = buffer, 0, 0
        self._max_message = protocol.MAX_MESSAGE_BYTES
        self._others = Usage(0.0, 0, 1)
        self._inherited = _memory_of(os.getpid())
        self.message = memoryview(b"")

    def wait(self) -> str:
        """Returns done, timeout, memory, died or, where it never ran, unready; raises `Abandoned`."""
        status = self._wait()
        ran = self._length > 0 and self._buffer[:1] == READY
        return status if ran else "unready"

    def _wait(self) -> str:
        poller = select.poll()
        poller.register(self._verdict, select.POLLIN)
        poller.register(self._asker, 0)
        pidfd = _pidfd(self._pid)
        if pidfd >= 0:
            poller.register(pidfd, select.POLLIN)
        try:
            while True:
                if (over := self._over()) is not None:
                    return "done" if self._read() and self._complete() else over
                ready = {descriptor for descriptor, _ in poller.poll(1000 * min(self._seconds_left(), _LOOK_EVERY))}
                if self._asker in ready:
                    raise Abandoned
                if self._verdict in ready and not self._read() and self._has_hung_up():
                    poller.unregister(self._verdict)
                if self._complete():
                    return "done"
                if pidfd in ready or self._is_full() or (pidfd < 0 and self._has_ended()):
                    while not self._is_full() and self._read():
                        pass
                    return "done" if self._complete() else "died"
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def limit_reached(self) -> str:
        """Returns which limit ended the child."""
        if self._others.processes > self._most_processes:
            return f"ran more than {self._most_processes} processes at once"
        if self._others.memory_bytes > self._memory_limit:
            return f"its processes together used more than {self._memory_limit >> 20} MiB"
        if time.monotonic() >= self._wall_end:
            return f"ran for {self._wall_limit:g} s of wall time"
        return f"used {self._cpu_limit:g} s of CPU time"

    def last_words(self) -> str:
        """Returns what a child that could not be isolated has said of it."""
        return self._buffer[: min(self._length, 200)].decode("ascii", "replace")

    def _over(self) -> str | None:
        now = time.monotonic()
        if now - self._seen > _STOOD_STILL:
            self._wall_end += now - self._seen
        self._seen = now
        if now - self._looked >= _LOOK_EVERY:
            self._others, self._looked = usage_below(self._pid, self._inherited), now
        if self._others.processes > self._most_processes:
            return "processes"
        if self._others.memory_bytes > self._memory_limit and unshared_memory() > self._memory_limit:
            return "memory"
        return "timeout" if self._seconds_left() <= 0 else None

    def _seconds_left(self) -> float:
        """Returns how long the child can still run at least, as far as one thread of it uses the CPU."""
        try:
            used = time.clock_gettime((~self._pid << 3) | 2)
        except OSError:
            used = 0.0
        return min(self._cpu_limit - used - self._others.cpu_seconds, self._wall_end - time.monotonic())

    def _read(self) -> bool:
        """Takes what the verdict pipe holds; returns False where that is nothing.

        The first byte says that the child is isolated and has its program, the second asks for the nonce.
        """
        try:
            with memoryview(self._buffer) as whole:
                count = os.readv(self._verdict, [whole[self._length : self._length + _CHUNK_BYTES]])
        except BlockingIOError:  # a child of the sample was quicker
            return False
        self._length += count
        if self._length > len(READY) and not self._nonce_sent:
            self._nonce_sent = True
            with contextlib.suppress(OSError):
                os.write(self._control, self._nonce)
        return count > 0

    def _has_hung_up(self) -> bool:
        """Tells whether nobody holds the other end of the verdict pipe any more."""
        poller = select.poll()
        poller.register(self._verdict, 0)
        return bool(poller.poll(0))

    def _is_full(self) -> bool:
        return self._length >= _BUFFER_BYTES

    def _complete(self) -> bool:
        start = self._buffer.find(self._nonce, self._searched, self._length)
        if start < 0:
            self._searched = max(0, self._length - len(self._nonce))
            return False
        self._searched = start
        start += len(self._nonce)
        try:
            length = int(self._buffer[start : min(start + 8, self._length)], 16)
        except ValueError:
            return False
        if length > self._max_message or self._length < start + 8 + length:
            return False
        self.message = memoryview(self._buffer)[start + 8 : start + 8 + length]
        return True

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def usage_below(first: int, inherited: int) -> Usage:
    """Returns what the processes below this one use; what they only share with it (`inherited` bytes) is left out."""
    cpu, memory, processes = 0.0, 0, 0
    for pid in family(os.getpid()):
        fields = _stat(pid)
        if fields is None:
            continue
        processes += 1
        own, waited_for = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
        cpu += (waited_for + (0 if pid == first else own)) / _TICKS
        memory += max(0, int(fields[21]) * _PAGE - inherited)
    return Usage(cpu, memory, processes)


def unshared_memory() -> int:
    """Returns the bytes of the processes below this one, what several share counted once; what cannot be read, whole.

    Slower than `usage_below`, which counts shared pages for each process.
    """
    total = 0
    for pid in family(os.getpid()):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
        except (OSError, StopIteration):
            total += _memory_of(pid)
    return total


def end_family(pid: int) -> tuple[str, Any, int]:
    """Kills the child's group, the child and every orphan; returns how the child ended, its usage and the orphans."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    strays = end_children()
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}", usage, strays
    return f"exit status {os.WEXITSTATUS(status)}", usage, strays


def end_children() -> int:
    """Kills and reaps every child of this process, adopted ones included, until none is left; returns how many."""
    ended = 0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid:
            ended += 1
            continue
        # Process 1 of a process space can kill all that is in it at once, however fast it multiplies.
        for child in (-1,) if os.getpid() == 1 else _children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.0005)


def family(pid: int) -> Iterator[int]:
    """Yields the ids of all processes below a process."""
    waiting = _children(pid)
    while waiting:
        child = waiting.pop()
        yield child
        waiting += _children(child)


def _children(pid: int) -> list[int]:
    """Returns the ids of the living children of a process, whichever of its threads started them."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return found if _LISTS_CHILDREN else _children_by_parent(pid)
    except OSError:
        pass
    return found


_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _children_by_parent(pid: int) -> list[int]:
    """Returns the children of a process where the kernel keeps no lists of them."""
    entries = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    return [int(entry) for entry in entries if (fields := _stat(int(entry))) is not None and fields[1] == str(pid)]


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # an older kernel, or a container that refuses the call
        return -1


def _stat(pid: int) -> list[str] | None:
    """Returns the fields of `/proc/PID/stat` behind the command's name, or None where the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _memory_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * _PAGE if fields else 0
