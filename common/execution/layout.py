"""What a sample may read where its view of the files is cut down: Python, its packages, and what programs expect.

Everything else (homes, data, results, secrets) is not there. Paths are given as they are named and as they resolve,
since an interpreter may be reached through links.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

SYSTEM_DIRECTORIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/timezone",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROCESS_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/sys/devices/system/cpu")
LIBRARY_VARIABLE = "LD_LIBRARY_PATH"
_HERE = Path(__file__).resolve().parent


@cache
def readable_paths() -> tuple[str, ...]:
    """Returns existing files and directories that a sample may read, none inside another."""
    wanted = [*SYSTEM_DIRECTORIES, *SYSTEM_FILES]
    for path in (*_interpreter(), *os.environ.get(LIBRARY_VARIABLE, "").split(":"), str(_HERE)):
        wanted += [path, os.path.realpath(path)] if path else []
    found: list[str] = []
    for path in sorted(set(wanted), key=lambda name: (name.count("/"), name)):
        inside = any(path == other or path.startswith(f"{other}/") for other in found)
        if os.path.isabs(path) and os.path.exists(path) and not inside and not _too_wide(path):
            found.append(path)
    return tuple(found)


def _interpreter() -> list[str]:
    """Returns where the interpreter, its standard library and its packages lie."""
    scheme = sysconfig.get_paths()
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
    found += [scheme[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += site.getsitepackages()
    program = sys.executable
    while program and os.path.islink(program):
        program = os.path.join(os.path.dirname(program), os.readlink(program))
        found.append(os.path.dirname(os.path.dirname(os.path.normpath(program))))
    return found


def _too_wide(path: str) -> bool:
    """Tells whether a path would open what must stay closed: the root, the user's home, or what holds homes."""
    home = os.path.expanduser("~").rstrip("/")
    return path in ("/", home, os.path.dirname(home), tempfile.gettempdir())
