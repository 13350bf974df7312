"""What the kernel is asked to do for the sandbox: limits, death signals, adopted orphans, dropped capabilities.

This is rung 0 of the ladder: it needs no privilege and no kernel feature beyond Linux's `prctl`, and does less where
that is missing (macOS). The rungs above it (seccomp, landlock, another user, namespaces) extend `isolate_child`.
Loaded by the worker on its own, so it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys

RUNG = 0

# Wall time for a sample over its CPU time: it catches sleepers, and spares honest ones on a busy machine.
WALL_FACTOR = 4.0
FILE_SIZE_BYTES = 16 << 20
OPEN_FILES = 64
EXTRA_PROCESSES = 128

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)


def isolate_worker(parent: int) -> None:
    """Makes the worker unreadable to its children, adopt their orphans, and die with the process `parent`."""
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def isolate_child(parent: int, cpu_seconds: float, memory_bytes: int, processes: int | None) -> None:
    """Puts the calling process under its limits; `processes` is the most that its user may run, None for no limit.

    The soft memory limit lies 32 MiB below the hard one: the room in which a verdict is written after a `MemoryError`.
    """
    _limit(resource.RLIMIT_AS, memory_bytes, memory_bytes + (32 << 20))
    # Far above the limit that the worker keeps by the precise clock: the kernel counts whole ticks here, and was
    # seen a quarter ahead of it on a busy machine. It only ends a sample whose worker cannot.
    cpu = math.ceil(WALL_FACTOR * cpu_seconds) + 1
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    _limit(resource.RLIMIT_FSIZE, FILE_SIZE_BYTES)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    if processes is not None:
        _limit(resource.RLIMIT_NPROC, processes)
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Last, since a change of credentials clears it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def process_limit() -> int | None:
    """Returns how many processes and threads the user may run with a sample: those running now and some more.

    The kernel counts the whole user, so a fixed number would fail every threaded sample on a busy machine. It does not
    limit root. Costs about 10 microseconds a process.
    """
    if not _LINUX or os.getuid() == 0:
        return None
    user, running = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == user:
                    running += os.stat(f"/proc/{entry.name}/task").st_nlink - 2
            except OSError:
                continue
    return running + EXTRA_PROCESSES


def children_of_this_process() -> list[int]:
    """Returns the ids of the living children of a single-threaded process, adopted ones included."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def _limit(which: int, soft: int, hard: int | None = None) -> None:
    hard = soft if hard is None else hard
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    try:
        resource.setrlimit(which, (soft, hard))
    except (ValueError, OSError):
        if _LINUX:
            raise


def _prctl(option: int, value: int) -> None:
    if _LINUX and _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _drop_capabilities() -> None:
    """Gives up root's privileges over other processes and files; the user id stays."""
    if not _LINUX or os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")
