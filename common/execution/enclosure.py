"""How a worker is started: plainly, inside bubblewrap, or in namespaces that `namespaces.py` makes.

Inside namespaces the worker sees a root of read-only bindings (`layout`), processes and a network of its own, and an
empty directory in memory; it is process 1 there, so no sample can signal it, and its end ends all.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.execution.landlock import SIGNAL_ABI, TRUNCATION_ABI
from common.execution.layout import DEVICES, LIBRARY_VARIABLE, PROCESS_FILES, readable_paths

OWN_NAMESPACES = "namespaces.py"

_HERE = Path(__file__).resolve().parent
_SCRIPT = _HERE / "worker.py"
# As `-I`, except that the hash seed can be set: the order of a set of strings, and with it a label, must not change
# between runs. `-s -P` keep the user's packages and the script's directory off the path.
_PYTHON = (sys.executable, "-s", "-P", "-B", "-X", "utf8")
# Every arena of the C library's allocator reserves 64 MB of address space; by default their number follows the cores,
# and with it the number of threads that a sample can start.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2", "TZ": "UTC"}
_BOX = "/box"
_BOX_BYTES = 256 << 20
_SHARED_MEMORY_BYTES = 64 << 20
# A process without any capability that keeps the user id 0 could still write these.
_KERNEL_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")


@dataclass(frozen=True)
class Isolation:
    """What keeps a sample from the machine: a rung of the ladder and the means that make it up.

    `namespaces` is the path of bubblewrap, `OWN_NAMESPACES` or None; `landlock` the version of its interface, 0 where
    it is not used.
    """

    rung: int
    namespaces: str | None = None
    other_user: bool = False
    landlock: int = 0
    seccomp: bool = False

    def describe(self) -> str:
        """Returns the rung with its means, as it is logged."""
        means = {
            "bubblewrap": self.namespaces not in (None, OWN_NAMESPACES),
            "namespaces": self.namespaces == OWN_NAMESPACES,
            "another user": self.other_user,
            "landlock": self.landlock > 0,
            "seccomp": self.seccomp,
        }
        return f"rung {self.rung} ({', '.join([name for name, used in means.items() if used] or ['limits only'])})"


def worker_environment() -> dict[str, str]:
    """Returns the whole environment of a worker: nothing of the pipeline's but where Python's own libraries lie."""
    libraries = os.environ.get(LIBRARY_VARIABLE)
    return {**_ENVIRONMENT, **({LIBRARY_VARIABLE: libraries} if libraries else {})}


def worker_command(isolation: Isolation, directory: str, user: int | None) -> list[str]:
    """Returns the command that starts a worker, in namespaces where the isolation has them."""
    enclosed = isolation.namespaces is not None
    options = {
        "directory": _BOX if enclosed else directory,
        "parent": 0 if enclosed else os.getpid(),
        "rung": isolation.rung,
        "user": user,
        "landlock": isolation.landlock,
        "seccomp": isolation.seccomp,
        "readable": [*readable_paths(), *PROCESS_FILES, *DEVICES] if isolation.landlock else [],
        "shares_files": not enclosed and user is None,
        "reaches_others": not enclosed and user is None and isolation.landlock < SIGNAL_ABI,
        "shared_memory": enclosed,
        "truncates_unseen": 0 < isolation.landlock < TRUNCATION_ABI and user is None,
    }
    command = [*_PYTHON, str(_SCRIPT), json.dumps(options)]
    if isolation.namespaces is None:
        return command
    if isolation.namespaces != OWN_NAMESPACES:
        paths, environment = readable_paths(), worker_environment()
        return _bubblewrap(isolation.namespaces, paths, environment, as_root=os.geteuid() == 0) + command
    return [*_PYTHON, str(_HERE / "namespaces.py"), json.dumps(_specification(directory)), *command]


def _specification(directory: str) -> dict[str, Any]:
    paths = readable_paths()
    return {
        "parent": os.getpid(),
        "staging": directory,
        "environment": worker_environment(),
        "parents": _parents(paths),
        "links": [(path, os.path.realpath(path)) for path in paths if os.path.islink(path)],
        "readable": [path for path in paths if not os.path.islink(path)],
        "kernel_settings": _KERNEL_SETTINGS,
        "devices": DEVICES,
        "shared_memory_bytes": _SHARED_MEMORY_BYTES,
        "box": _BOX,
        "box_bytes": _BOX_BYTES,
    }


def _bubblewrap(program: str, paths: Sequence[str], environment: dict[str, str], *, as_root: bool) -> list[str]:
    """Returns the words before the worker's own command; the worker's directory is `_BOX`, empty and in memory.

    The worker is process 1 of its own process space, so no sample can signal it, and its end ends all.
    """
    words = [program, "--die-with-parent", "--as-pid-1", "--clearenv", "--unshare-cgroup-try"]
    words += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--cap-add", "ALL"] if as_root else []
    for name, value in environment.items():
        words += ["--setenv", name, value]
    for directory in _parents(paths):
        words += ["--perms", "0755", "--dir", directory]
    for path in paths:
        linked = os.path.islink(path)
        words += ["--symlink", os.path.realpath(path), path] if linked else ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for path in _KERNEL_SETTINGS:
        words += ["--ro-bind-try", path, path]
    words += ["--perms", "1777", "--size", str(_SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]
    words += ["--perms", "0755", "--size", str(_BOX_BYTES), "--tmpfs", _BOX]
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", _BOX, "--"]


def _parents(paths: Iterable[str]) -> list[str]:
    """Returns the directories above `paths`, outermost first: they are made anew, so that any user may pass."""
    found: set[str] = set()
    for path in paths:
        above = os.path.dirname(path)
        while above != "/":
            found.add(above)
            above = os.path.dirname(above)
    return sorted(found)
