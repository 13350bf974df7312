"""Programs that leave as much behind as they can; each carries a mark in the command lines of what it starts."""

from __future__ import annotations

import itertools
import os

TESTS = ["assert f(1) == 2", "assert f(2) == 3"]
GOOD = "def f(x):\n    return x + 1\n"
_numbers = itertools.count(1)

# What ends a child with its parent and what asks it to end is refused by it: only the sandbox can end it.
_STUBBORN = """
import ctypes, os, signal
def stubborn():
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(ctypes.c_int(1), ctypes.c_ulong(0), *[ctypes.c_ulong(0)] * 3)
"""


def new_mark() -> str:
    """Returns seconds to sleep for that no other process on this machine names."""
    return f"7{os.getpid()}{next(_numbers):03d}.25"


def with_stubborn_orphans(count: int, mark: str, then: str = GOOD) -> str:
    """Returns a program that leaves `count` processes of lasting sleep, in sessions of their own, to the worker."""
    return f"""{_STUBBORN}
for _ in range({count}):
    if os.fork() == 0:
        os.setsid()
        stubborn()
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', '{mark}'])
        os._exit(0)
{then}"""


def hangs_with_stubborn_family(count: int, mark: str) -> str:
    """Returns a program that starts `count` such orphans, one child that is not orphaned, and then never ends."""
    child = f"if os.fork() == 0:\n    stubborn()\n    os.execv('/bin/sleep', ['sleep', '{mark}'])\n"
    return with_stubborn_orphans(count, mark, f"{child}stubborn()\nwhile True:\n    pass\n{GOOD}")


def leaves_files(*directories: str) -> str:
    """Returns a program that writes where it can: beside its directory, in the shared memory, in `directories`."""
    return f"""
import os
for place in ('..', '../..', '/dev/shm', *{directories!r}):
    for name, make in (('file', lambda path: open(path, 'w').close()), ('lock', os.mkdir), ('folder', os.mkdir)):
        try: make(os.path.join(place, name if name == 'lock' else 'left-' + name))
        except OSError: pass
{GOOD}"""


def hostile_programs(mark: str, rung: int) -> list[str]:
    """Returns hostile programs for a soak: each ends soon, and none ends the worker at `rung`."""
    programs = [
        with_stubborn_orphans(3, mark),
        with_stubborn_orphans(2, mark, f"os._exit(0)\n{GOOD}"),
        f"import os\nos.abort()\n{GOOD}",
        f"import subprocess\nkept = subprocess.Popen(['sleep', '{mark}'], stdin=subprocess.PIPE)\n{GOOD}",
        f"import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n{GOOD}",
        "def f(x):\n    return len([0] * 10**9)\n",
        "def f(x):\n    while True: pass\n",
        "def f(x):\n    while True: print('x' * 4096)\n",
        "import os\ndef f(x):\n    while True:\n        for d in range(3, 64):\n"
        "            try: os.write(d, b'x' * 65536)\n            except OSError: pass\n",
        f"import os\nfor _ in range(5): os.fork()\nwhile True: pass\n{GOOD}",
        f"import os\nos.mkdir('d')\nopen('d/x', 'w').close()\nos.chmod('d', 0)\n{GOOD}",
        f"import os\nif os.fork() == 0:\n    os.setsid()\n    while True:\n        if os.fork(): os._exit(0)\n{GOOD}",
        f"kept = [open('f%d' % i, 'w') for i in range(200)]\n{GOOD}",
        f"import os\nos.makedirs('/'.join('deep' for _ in range(200)))\n{GOOD}",
    ]
    if rung >= 1:
        programs.append(f"import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n{GOOD}")
    if rung >= 2:
        programs.append(leaves_files("/tmp", "/var/tmp"))
    return programs
