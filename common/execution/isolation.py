"""What the kernel is asked to do for the sandbox, in the worker and in each child.

Limits, death signals and adopted orphans come first and need no privilege; another user, landlock and seccomp are added
as the worker's options say (namespaces are entered before the worker starts). Does less where Linux's `prctl` is
missing (macOS). Loaded by the worker on its own, so it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

# Wall time for a sample over its CPU time: it catches sleepers, and spares honest ones on a busy machine.
WALL_FACTOR = 4.0
FILE_SIZE_BYTES = 16 << 20
OPEN_FILES = 64
# The watcher ends a sample with more processes than MOST_PROCESSES; the kernel's limit, which counts the whole user and
# all threads, only has to hold a bomb until it looks.
MOST_PROCESSES = 256
OWN_PROCESSES, SHARED_PROCESSES = 512, 4096
STACK_BYTES = 8 << 20

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)


def isolate_worker(options: Mapping[str, Any], seccomp: Any) -> None:
    """Makes the worker unreadable to its children, adopt their orphans, and end when the evaluator ends.

    The signal is one that the worker handles: it ends its children first, which no death signal of theirs can do for
    the children of a child.
    """
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if options["parent"]:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != options["parent"]:
            os._exit(1)
    if options["seccomp"]:
        seccomp.install_general_filter(options["truncates_unseen"])


def isolate_child(
    options: Mapping[str, Any], parent: int, request: Mapping[str, Any], readable: list[int], modules: Any
) -> None:
    """Puts the calling process, a fresh child whose directory is the current one, under its limits and its isolation.

    `readable` holds descriptors for landlock. The soft memory limit lies 32 MiB below the hard one: the room in which
    a verdict is written after a `MemoryError`.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if options["landlock"]:
        own = [os.open(".", os.O_PATH | os.O_CLOEXEC), *modules.landlock.open_paths(_WRITABLE)]
        itself = modules.landlock.open_paths(["/proc/self"])
        modules.landlock.restrict_files(options["landlock"], readable + itself, own)
    _set_limits(request)
    if options["user"] is not None:
        os.setgroups([])
        os.setresgid(options["user"], options["user"], options["user"])
        os.setresuid(options["user"], options["user"], options["user"])
    _drop_capabilities()
    # After every change of credentials, since those clear it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if options["seccomp"]:
        modules.seccomp.install_own_process_filter(os.getpid(), options["reaches_others"], options["shares_files"])


_WRITABLE = ("/dev/null", "/dev/zero", "/dev/full")


def _set_limits(request: Mapping[str, Any]) -> None:
    memory = request["memory_bytes"]
    _limit(resource.RLIMIT_AS, memory, memory + (32 << 20))
    # Far above the limit that the worker keeps by the precise clock: the kernel counts whole ticks here, and was
    # seen a quarter ahead of it on a busy machine. It only ends a sample whose worker cannot.
    cpu = math.ceil(WALL_FACTOR * request["cpu_seconds"]) + 1
    _limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    _limit(resource.RLIMIT_FSIZE, FILE_SIZE_BYTES)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_STACK, STACK_BYTES, resource.getrlimit(resource.RLIMIT_STACK)[1])
    if request["processes"] is not None:
        _limit(resource.RLIMIT_NPROC, request["processes"])


def process_limit(child_user: int | None) -> int | None:
    """Returns how many processes and threads the user of a sample may run with it: those running now and some more.

    The kernel counts the whole user, so a fixed number would fail every threaded sample on a busy machine; a user of
    the sample's own has none. It does not limit root. Costs about 10 microseconds a process.
    """
    if child_user is not None:
        return OWN_PROCESSES
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
    return running + SHARED_PROCESSES


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
    if not _LINUX:
        return
    unused = (ctypes.c_ulong(0),) * 3
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), *unused) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _drop_capabilities() -> None:
    """Gives up root's privileges over other processes and files, where there are any; the user id stays."""
    if not _LINUX:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")
