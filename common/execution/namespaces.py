"""Starts a command in namespaces of its own without bubblewrap: `python namespaces.py SPECIFICATION COMMAND...`.

Works for root, and for an ordinary user where the kernel gives users namespaces. The command sees a new root of
read-only bindings, its own processes, an empty network, and two directories in memory, and is process 1 of its process
space: when it ends, or when whoever started this ends, all ends. Run as a script; imports only the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from typing import Any, NoReturn

_NEW_MOUNTS, _NEW_HOST_NAME, _NEW_IPC, _NEW_USER = 0x20000, 0x04000000, 0x08000000, 0x10000000
_NEW_PROCESSES, _NEW_NETWORK = 0x20000000, 0x40000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Enters the namespaces, then waits for the command in them and ends as it does."""
    specification, command = json.loads(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _die_with(specification["parent"])
    _enter()
    child = os.fork()
    if child == 0:
        _die_with(0)
        build_root(specification)
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))), "no_new_privs")
        os.execve(command[0], command, specification["environment"])
    for descriptor in (0, 1):
        os.close(descriptor)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def build_root(specification: dict[str, Any]) -> None:
    """Replaces the root by the one of the specification."""
    root = os.path.realpath(specification["staging"])  # the kernel's list of mounts names no links
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "mode=755")
    for path in specification["parents"]:
        os.makedirs(root + path, 0o755, exist_ok=True)
    for path, target in specification["links"]:
        os.symlink(target, root + path)
    for path in specification["readable"]:
        _bind_read_only(path, root + path)
    os.mkdir(root + "/proc", 0o755)
    _mount("proc", root + "/proc", "proc", _NO_SETUID | _NO_DEVICES | _NO_PROGRAMS)
    for path in specification["kernel_settings"]:
        if os.path.exists(root + path):
            _bind_read_only(path, root + path, source=root + path)
    _make_devices(root, specification)
    _in_memory(root + specification["box"], 0o755, specification["box_bytes"])
    os.mkdir(root + "/old", 0o700)
    _enter_root(root)


def _enter() -> None:
    user, group = os.getuid(), os.getgid()
    flags = _NEW_MOUNTS | _NEW_HOST_NAME | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
    _check(_libc.unshare(flags if user == 0 else flags | _NEW_USER), "unshare")
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _make_devices(root: str, specification: dict[str, Any]) -> None:
    os.mkdir(root + "/dev", 0o755)
    for path in specification["devices"]:
        with open(root + path, "wb"):
            pass
        _mount(path, root + path, None, _BIND)
    os.symlink("/proc/self/fd", root + "/dev/fd")
    _in_memory(root + "/dev/shm", 0o1777, specification["shared_memory_bytes"])


def _bind_read_only(path: str, target: str, source: str | None = None) -> None:
    if os.path.isdir(path):
        os.makedirs(target, 0o755, exist_ok=True)
    elif not os.path.exists(target):
        with open(target, "wb"):
            pass
    _mount(source or path, target, None, _BIND | _RECURSIVE)
    points = _mounts_below(target)
    if target not in points:
        raise OSError(f"{target} is not among the mounts, and cannot be made read-only")
    for point in points:
        # Flags that the mount has already must be given again: an ordinary user may not take them away.
        kept = os.statvfs(point).f_flag & (_NO_DEVICES | _NO_PROGRAMS | _NO_SETUID)
        _mount(None, point, None, _BIND | _REMOUNT | _READ_ONLY | _NO_SETUID | _NO_DEVICES | kept)
        if not os.statvfs(point).f_flag & _READ_ONLY:
            raise OSError(f"{point} stays writable")


def _mounts_below(target: str) -> list[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        escaped = [line.split(b" ")[4] for line in file]
    points = [os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), name)) for name in escaped]
    return [point for point in points if point == target or point.startswith(f"{target}/")]


def _in_memory(path: str, mode: int, size: int) -> None:
    os.mkdir(path)
    _mount("tmpfs", path, "tmpfs", _NO_SETUID | _NO_DEVICES, f"mode={mode:o},size={size}")


def _enter_root(root: str) -> None:
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root is not known for {os.uname().machine}")
    _check(_libc.syscall(number, root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/old", _DETACH), "umount")
    os.rmdir("/old")
    _mount(None, "/", None, _BIND | _REMOUNT | _READ_ONLY | _NO_SETUID | _NO_DEVICES)
    os.chdir("/box")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind, options)]
    result = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _check(result, f"mount {target}")


def _die_with(parent: int) -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, *map(ctypes.c_ulong, (signal.SIGKILL, 0, 0, 0))), "prctl")
    if parent and os.getppid() != parent:
        os._exit(1)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


if __name__ == "__main__":
    main()
