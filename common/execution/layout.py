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


_PARTS = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "etc", "pyvenv.cfg")


@cache
def readable_paths() -> tuple[str, ...]:
    """Returns existing files and directories that a sample may read, none inside another; links are among them."""
    wanted = [*SYSTEM_DIRECTORIES, *SYSTEM_FILES, str(_HERE)]
    for path in (*_interpreter(), *filter(None, os.environ.get(LIBRARY_VARIABLE, "").split(":"))):
        plain = "/" + os.path.normpath(os.path.abspath(path)).lstrip("/")
        wanted += [plain, os.path.realpath(plain)]
    found: list[str] = []
    for path in sorted(set(wanted), key=lambda name: (name.count("/"), name)):
        inside = any(path == other or path.startswith(f"{other}/") for other in found)
        if os.path.exists(path) and not inside and not _too_wide(path):
            found.append(path)
    return tuple(found)


def _interpreter() -> list[str]:
    """Returns where the interpreter, its standard library and its packages lie.

    Of a prefix only the parts that an installation has: a virtual environment may be made among other files.
    """
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    program = sys.executable
    programs = [program]
    while program and os.path.islink(program):
        program = os.path.normpath(os.path.join(os.path.dirname(program), os.readlink(program)))
        programs.append(program)
        if os.path.basename(os.path.dirname(program)) == "bin":
            prefixes.add(os.path.dirname(os.path.dirname(program)))
    scheme = sysconfig.get_paths()
    found = [os.path.join(prefix, part) for prefix in sorted(prefixes) for part in _PARTS]
    found += [scheme[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [*found, *site.getsitepackages(), *programs]


def _too_wide(path: str) -> bool:
    """Tells whether a path would open what must stay closed: the root, the user's home, or what holds homes."""
    home = os.path.realpath(os.path.expanduser("~"))
    real = os.path.realpath(path)
    return home == real or home.startswith(f"{real.rstrip('/')}/") or real == os.path.realpath(tempfile.gettempdir())
