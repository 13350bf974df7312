"""System calls that a sample has no business with, refused by the kernel (seccomp-bpf, Linux's `seccomp(2)`).

Two filters: the worker installs the general one for itself and all that it starts, each child one that names its own
process id. Sockets are refused whole, since nothing that is judged here may talk to anybody; `clone3` is answered
"not there", so that the C library falls back to `clone`, whose flags a filter can read. Loaded by the worker on its
own, so it imports only the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000

# Numbers on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None where the call does not exist.
_REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "socket": (41, 198),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "ioprio_set": (251, 30),
}
# Calls whose first argument is a process: only the caller itself (0 or its id) may be meant.
_OWN_PROCESS_ONLY = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
_OWN_SIGNALS_ONLY = {
    "kill": (62, 129),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
_SIGNALS_REFUSED = {"tkill": (200, 130), "pidfd_send_signal": (424, 424)}
# Memory that no limit counts: answered as not there. Attributes that outlive a sample: as not supported.
_ABSENT = {"clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447)}
_UNSUPPORTED = {
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
}
# Changes to files by name, which landlock does not see. They are answered as done, so that honest programs go on.
_PRETENDED = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
_CLONE, _SETPRIORITY = (56, 220), (141, 140)
# Of fcntl and ioctl: ways to have the kernel send signals elsewhere (F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN,
# SIOCSPGRP), and attributes of files (FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR).
_COMMANDS = {(72, 25): (8, 10, 15), (16, 29): (0x8901, 0x8902, 0x40086602, 0x401C5820)}
# Truncation, which landlock sees from its third version on: by name, and by opening a file only to read.
_TRUNCATE, _OPENAT2, _OPENS = (76, 45), (437, 437), (((2, None), 1), ((257, 56), 2))
_O_TRUNC, _O_ACCMODE = 0x200, 0x3

_Numbers = Mapping[str, tuple[int | None, int | None]]
_Step = tuple[int, int, int, int]
_libc = ctypes.CDLL(None, use_errno=True)


class _Machine(NamedTuple):
    audit: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}


class FilterError(OSError):
    """The kernel does not take a filter, or this kind of machine is not known here."""


def install_general_filter(truncates_unseen: bool) -> None:
    """Refuses what no sample may do, to this process and all that it starts; raises `FilterError` where it cannot.

    With `truncates_unseen`, truncating files is refused where they are not opened to be written.
    """
    machine = _machine()
    steps = _refuse(_REFUSED, machine, errno.EPERM)
    steps += _refuse(_ABSENT, machine, errno.ENOSYS)
    steps += _refuse(_UNSUPPORTED, machine, errno.EOPNOTSUPP)
    steps += _when(_CLONE[machine.column], [(_LOAD, 0, 0, _ARGUMENTS), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _deny()])
    for numbers, commands in _COMMANDS.items():
        tests = [(_EQUAL, len(commands) - index, 0, command) for index, command in enumerate(commands)]
        block = [(_LOAD, 0, 0, _ARGUMENTS + 8), *tests, (_RETURN, 0, 0, _ALLOW), _deny()]
        steps += _when(numbers[machine.column], block)
    if truncates_unseen:
        steps += _refuse({"truncate": _TRUNCATE}, machine, errno.EPERM)
        steps += _refuse({"openat2": _OPENAT2}, machine, errno.ENOSYS)
        for numbers, argument in _OPENS:
            place = _ARGUMENTS + 8 * argument
            writes = (_ANY_BIT, 2, 0, _O_ACCMODE)
            steps += _when(numbers[machine.column], [(_LOAD, 0, 0, place), writes, (_ANY_BIT, 0, 1, _O_TRUNC), _deny()])
    _install(steps, machine)


def install_own_process_filter(pid: int, signals_too: bool, keep_file_attributes: bool) -> None:
    """Lets this process, `pid`, change limits and priorities of itself alone; and signal none but itself, if asked.

    With `keep_file_attributes`, changes of modes, owners and times of files are pretended: for samples that run as the
    user whose files these are.
    """
    machine = _machine()
    steps: list[_Step] = []
    targets = _OWN_PROCESS_ONLY | (_OWN_SIGNALS_ONLY if signals_too else {})
    for numbers in targets.values():
        steps += _when(numbers[machine.column], _only(pid, _ARGUMENTS, with_group=numbers is _OWN_SIGNALS_ONLY["kill"]))
    which = [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 1, 0, 0), _deny()]
    steps += _when(_SETPRIORITY[machine.column], [*which, *_only(pid, _ARGUMENTS + 8, with_group=False)])
    if signals_too:
        steps += _refuse(_SIGNALS_REFUSED, machine, errno.EPERM)
    if keep_file_attributes:
        steps += _refuse(_PRETENDED, machine, 0)
    _install(steps, machine)


def _only(pid: int, argument: int, *, with_group: bool) -> list[_Step]:
    """Returns steps that allow 0 and `pid` as an argument (and the group `-pid`), and refuse all else."""
    meant = [0, pid, *([-pid & 0xFFFFFFFF] if with_group else [])]
    tests = [(_EQUAL, len(meant) - index, 0, value) for index, value in enumerate(meant)]
    return [(_LOAD, 0, 0, argument), *tests, _deny(), (_RETURN, 0, 0, _ALLOW)]


def _refuse(calls: _Numbers, machine: _Machine, code: int) -> list[_Step]:
    steps: list[_Step] = []
    for numbers in calls.values():
        steps += _when(numbers[machine.column], [_deny(code)])
    return steps


def _when(number: int | None, steps: list[_Step]) -> list[_Step]:
    """Returns steps for one call; they end with the number of the call loaded again where they fall through."""
    if number is None:
        return []
    loads = any(step[0] == _LOAD for step in steps)
    block = [*steps, *([(_LOAD, 0, 0, _NUMBER)] if loads else [])]
    return [(_EQUAL, 0, len(block), number), *block]


def _deny(code: int = errno.EPERM) -> _Step:
    return (_RETURN, 0, 0, _ERRNO | code)


def _machine() -> _Machine:
    name = platform.machine()
    if name not in _MACHINES or struct.calcsize("P") != 8:
        raise FilterError(errno.ENOSYS, f"no seccomp filter is written for {name}")
    return _MACHINES[name]


def _install(steps: list[_Step], machine: _Machine) -> None:
    head: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        _deny(),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _deny(errno.ENOSYS),
    ]
    program = b"".join(struct.pack("=HBBI", *step) for step in (*head, *steps, (_RETURN, 0, 0, _ALLOW)))
    data = ctypes.create_string_buffer(program, len(program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(data)))
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_SECCOMP, _MODE_FILTER)):
        given = [ctypes.c_ulong(value) for value in arguments[1:]]
        if arguments[0] == _PR_SET_SECCOMP:
            given.append(ctypes.c_ulong(ctypes.addressof(described)))
        given += [ctypes.c_ulong(0)] * (4 - len(given))
        if _libc.prctl(ctypes.c_int(arguments[0]), *given) != 0:
            code = ctypes.get_errno()
            raise FilterError(code, f"seccomp: {os.strerror(code)}")
