"""Runs a command on a kernel that refuses what containers refuse: `refuse.py namespaces,landlock,seccomp -- COMMAND`.

A seccomp filter answers EPERM to whatever makes or enters namespaces and mounts, and to further seccomp filters;
landlock is answered "not there". The ladder must then find by its own trying which rung is left.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _FIRST_ARGUMENT = 0, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NEW_NAMESPACES = 0x7E020000
_COLUMN = {"x86_64": 0, "aarch64": 1}

# unshare, setns, mount, umount2, pivot_root, open_tree, move_mount, fsopen, fsmount, mount_setattr
_OF_NAMESPACES = ((272, 97), (308, 268), (165, 40), (166, 39), (155, 41), (428,) * 2, (429,) * 2, (430,) * 2)
_OF_NAMESPACES += ((432, 432), (442, 442))
_CLONE, _CLONE3, _PRCTL, _SECCOMP = (56, 220), (435, 435), (157, 167), (317, 277)
_OF_LANDLOCK = ((444, 444), (445, 445), (446, 446))

Step = tuple[int, int, int, int]


def steps_for(kinds: list[str]) -> list[Step]:
    """Returns the filter's steps; the number of the call is loaded before and behind each block."""
    column = _COLUMN[platform.machine()]
    steps: list[Step] = []
    if "namespaces" in kinds:
        for numbers in _OF_NAMESPACES:
            steps += _refused(numbers[column], errno.EPERM)
        steps += _refused(_CLONE3[column], errno.ENOSYS)
        steps += _refused_with(_CLONE[column], (_ANY_BIT, 0, 1, _NEW_NAMESPACES))
    if "landlock" in kinds:
        for numbers in _OF_LANDLOCK:
            steps += _refused(numbers[column], errno.ENOSYS)
    if "seccomp" in kinds:
        steps += _refused(_SECCOMP[column], errno.EPERM)
        steps += _refused_with(_PRCTL[column], (_EQUAL, 0, 1, _PR_SET_SECCOMP))
    return steps


def _refused(number: int, code: int) -> list[Step]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | code)]


def _refused_with(number: int, condition: Step) -> list[Step]:
    """Returns steps that refuse a call where `condition`, which skips one step when it fails, holds of argument one."""
    denied = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    return [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, _FIRST_ARGUMENT), condition, denied, (_LOAD, 0, 0, _NUMBER)]


def install(steps: list[Step]) -> None:
    """Installs the steps as a filter of this process and all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = b"".join(
        struct.pack("=HBBI", *step) for step in [(_LOAD, 0, 0, _NUMBER), *steps, (_RETURN, 0, 0, _ALLOW)]
    )
    data = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(data)))
    for option, first, second in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(described)),
    ):
        if libc.prctl(option, *map(ctypes.c_ulong, (first, second, 0, 0))) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option})")


def main() -> None:
    """Installs the filter named by the first argument and becomes the command behind `--`."""
    kinds, separator, *command = sys.argv[1:]
    assert separator == "--", sys.argv
    install(steps_for(kinds.split(",")))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
