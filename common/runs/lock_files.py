"""Lock files: who holds what, and whether the holder still lives, also where the kernel's lock does not reach.

A lock file names its owner's host, process and boot, and a beat: a counter that a thread of the owner raises every few
seconds. The owner also holds the file by `flock`, which the kernel gives back when it dies. Whoever runs under the same
kernel (the same boot id) asks the kernel. Elsewhere, on another host of a shared file system, only the beat can be
seen: an owner whose beat has stood still for a minute of the reader's own monotonic clock counts as dead. No decision
rests on the time of day, on file times, or on two hosts' clocks agreeing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from common.logging import get_logger
from common.runs.files import temporary_path, write_bytes, writing

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BEAT_SECONDS = 5.0
STANDSTILL_SECONDS = 60.0
_UNREADABLE = "?"
_log = get_logger(__name__)


class Place(NamedTuple):
    """Where a process runs: its host's name, and the boot of its kernel ("" where the system names none)."""

    host: str
    boot: str


class Owner(NamedTuple):
    """Who holds a lock, and how far its beat has come."""

    host: str
    pid: int
    boot: str
    beat: int

    @property
    def is_elsewhere(self) -> bool:
        """Whether the owner runs under another kernel, so that only its beat shows whether it lives."""
        return self.boot not in ("", here().boot)


def here() -> Place:
    """Returns where this process runs."""
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Place(socket.gethostname(), boot)


class HeldLock:
    """A lock file of this process, from its creation until the block ends; its beat is raised meanwhile.

    Every lock file has a name of its own, so that removing a dead owner's never hits the one that came after it.
    """

    def __init__(self, directory: Path, what: str) -> None:
        self.path = directory / f"{what}.{secrets.token_hex(6)}.lock"
        self._place, self._beat, self._ended = here(), 0, threading.Event()
        with writing(self.path):
            self._descriptor = self._put_down()
        self._thread = threading.Thread(target=self._keep_beating, name=f"beat of {self.path.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Gives the lock back."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # what cannot be removed stands still, and is taken over
            forget(self.path)
        os.close(self._descriptor)

    def _put_down(self) -> int:
        """Makes the file, whole and locked from the moment it has its name; returns its descriptor."""
        temporary = temporary_path(self.path)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            try_flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(descriptor)
            os.rename(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def _write(self, descriptor: int) -> None:
        # Of fixed width and in one call: whoever reads meanwhile finds the old beat, the new one, or a moving one.
        record = {**self._place._asdict(), "pid": os.getpid(), "beat": f"{self._beat:012d}"}
        os.pwrite(descriptor, json.dumps(record).encode() + b"\n", 0)
        os.fsync(descriptor)  # another host sees only what has reached the file's server

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._beat += 1
            try:
                self._write(self._descriptor)
                os.stat(self.path)
            except FileNotFoundError:
                self._stop_this_run()
                return
            except OSError:
                continue  # a full or absent disk may come back, and nobody is stopped for it

    def _stop_this_run(self) -> None:
        """Asks this process to stop, as a user would: it stood still for so long that another took its lock over."""
        if self._ended.is_set():
            return
        _log.error("the lock %s was taken over or removed: stopping", self.path)
        default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGINT if default else signal.SIGTERM)


def living_owner(path: Path) -> Owner | None:
    """Returns who holds a lock, None where the file has gone or its owner is dead.

    Of an owner under another kernel it is remembered, beside the lock, which beat was seen when by this kernel's
    monotonic clock; a later call counts the owner dead where the beat has stood still since for long enough.
    """
    with writing(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
    try:
        owner = _parsed(os.pread(descriptor, 4096, 0))
        return owner if _lives(path, owner, descriptor) else None
    finally:
        os.close(descriptor)


def forget(path: Path) -> None:
    """Removes a lock file and what was remembered of its beat."""
    path.unlink(missing_ok=True)
    for memory in path.parent.glob(f"{path.stem}.*.seen"):
        memory.unlink(missing_ok=True)


def try_flock(descriptor: int, operation: int) -> bool | None:
    """Returns whether the kernel gave the lock; None where this file system knows no such locks."""
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _lives(path: Path, owner: Owner, descriptor: int) -> bool:
    if not owner.is_elsewhere:
        free = try_flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if free is not None:
            return not free
        if owner.host == here().host and not _is_running(owner.pid):
            return False
    return not _has_stood_still(path, owner.beat)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _has_stood_still(path: Path, beat: int) -> bool:
    memory = path.with_name(f"{path.stem}.{here().boot or 'here'}.seen")
    now = time.monotonic()
    try:
        seen = json.loads(memory.read_bytes())
        elapsed = now - seen["moment"] if seen["beat"] == beat else -1.0
    except (OSError, ValueError, TypeError, KeyError):
        elapsed = -1.0
    if elapsed < 0:
        write_bytes(memory, json.dumps({"beat": beat, "moment": now}).encode(), durable=False)
    return elapsed >= STANDSTILL_SECONDS


def _parsed(data: bytes) -> Owner:
    try:
        found = json.loads(data)
        return Owner(str(found["host"]), int(found["pid"]), str(found.get("boot", "")), int(found.get("beat", 0)))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Owner(_UNREADABLE, 0, _UNREADABLE, -1)
