"""File access by whitelist without any privilege (Linux's landlock, since 5.13).

A sample reads Python, its libraries and a few system files, and writes its own directory alone; where the kernel
can (ABI 4, 6), TCP and signals to processes outside are refused as well. Loaded by the worker on its own, so it
imports only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Iterable

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION_QUERY, _BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIRECTORY
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# What each version of the interface can refuse about files; devices' ioctl (ABI 5) stays free for /dev/null.
_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF}
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 0x3, 0x3
TRUNCATION_ABI, NETWORK_ABI, SIGNAL_ABI = 3, 4, 6
_HIGH_DESCRIPTORS = 100

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def landlock_abi() -> int:
    """Returns the version of landlock that the kernel offers this process, 0 for none."""
    return max(0, _libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_QUERY)))


def open_paths(paths: Iterable[str]) -> list[int]:
    """Returns descriptors that stand for those of `paths` that are there for this user, out of the way of others."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            low = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                found.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTORS))
                os.close(low)
            except OSError:  # few descriptors are allowed here
                found.append(low)
    return found


def restrict_files(abi: int, readable: Iterable[int], writable: Iterable[int]) -> None:
    """Leaves this process and its children only what lies beneath the descriptors; raises `OSError` where it fails.

    Needs no new privileges to have been renounced before.
    """
    handled = _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]
    network = _TCP if abi >= NETWORK_ABI else 0
    scoped = _SIGNALS_AND_ABSTRACT_SOCKETS if abi >= SIGNAL_ABI else 0
    size = 24 if abi >= SIGNAL_ABI else 16 if abi >= NETWORK_ABI else 8
    attributes = struct.pack("=QQQ", handled, network, scoped)[:size]
    ruleset = _call(_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for descriptors, rights in ((readable, _READ), (writable, handled)):
            for descriptor in descriptors:
                _allow(ruleset, descriptor, rights & handled)
        _call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _OF_FILES
    rule = struct.pack("=Qi", rights, descriptor)
    _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0))


def _call(number: int, *arguments: object) -> int:
    result = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
