"""What programs of the corpus attack, to be looked at again: files, a local service, another process, shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import socket
import stat
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PORT = 48711
SECRET = "s3cret-file-7c"
# With the victim's id added, the key of the objects that a program of the corpus makes.
SYSTEM_V_KEY = 0x5A000000
_IPC_PRIVATE, _IPC_REMOVE = 0, 0
_SYSTEM_V = Path("/proc/sysvipc")
_libc = ctypes.CDLL(None, use_errno=True)


class Canary:
    """A directory that no sample may read or change, with a file to keep, a secret, and a service's socket."""

    def __init__(self, place: str) -> None:
        self.directory = Path(place, "canary")
        self._make()
        self._before = self._state()

    @property
    def socket_path(self) -> str:
        """Where the local service listens."""
        return str(self.directory / "socket")

    def problems(self) -> list[str]:
        """Returns what has been changed, and takes the state that is found as the one to keep from now on."""
        after = self._state()
        names = sorted(name for name in {*self._before, *after} if self._before.get(name) != after.get(name))
        found = [
            f"{name or 'the canary directory'} was {self._before.get(name)}, is {after.get(name)}" for name in names
        ]
        if found:
            self.remove_planted()
            self._make()
            after = self._state()
        self._before = after
        return found

    def remove_planted(self) -> None:
        """Removes everything but the socket."""
        os.chmod(self.directory, 0o755)
        for path in self.directory.iterdir():
            if path.name != "socket":
                remove(str(path))

    def _make(self) -> None:
        self.directory.mkdir(exist_ok=True)
        os.chmod(self.directory, 0o755)
        for name, text in (("keep.txt", "keep"), ("secret.txt", SECRET)):
            path = self.directory / name
            if not path.exists():
                path.write_text(text)
            os.chmod(path, 0o644)

    def _state(self) -> dict[str, Any]:
        return {"": _look(self.directory)[:3], **{path.name: _look(path) for path in self.directory.iterdir()}}


def _look(path: Path) -> tuple[Any, ...]:
    """Returns a file's kind and mode, owners, attributes, links, time of change and text."""
    seen = path.lstat()
    text = _text(path) if stat.S_ISREG(seen.st_mode) else ""
    attributes = tuple(os.listxattr(path, follow_symlinks=False)) if hasattr(os, "listxattr") else ()
    return stat.filemode(seen.st_mode), (seen.st_uid, seen.st_gid), attributes, seen.st_nlink, seen.st_mtime_ns, text


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")[:100]
    except OSError as error:
        return str(error)


class Service(threading.Thread):
    """Listens on the loopback port by TCP and UDP, and on local sockets; says "pong" to each datagram."""

    def __init__(self, *local: str) -> None:
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._bell, rung = socket.socketpair()
        self._selector.register(rung, selectors.EVENT_READ, None)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                self._listen(family, kind, (host, PORT))
        for address in local:
            self._listen(socket.AF_UNIX, socket.SOCK_STREAM, address)
        self.start()

    def _listen(self, family: int, kind: int, address: Any) -> None:
        """Binds where it can: a port that is in use is another runner's, which serves as well."""
        made = socket.socket(family, kind)
        made.setblocking(False)
        try:
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            if kind == socket.SOCK_STREAM:
                made.listen(16)
        except OSError:
            made.close()
            return
        self._selector.register(made, selectors.EVENT_READ, _accept if kind == socket.SOCK_STREAM else _answer)

    def run(self) -> None:
        """Serves until `close`."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    def close(self) -> None:
        """Stops listening."""
        self._bell.close()
        self.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def _accept(listener: socket.socket) -> None:
    listener.accept()[0].close()


def _answer(receiver: socket.socket) -> None:
    receiver.sendto(b"pong", receiver.recvfrom(100)[1])


class Victim:
    """A process of this user that does nothing; it ends by itself when this process does."""

    def __init__(self) -> None:
        words = ["/bin/sh", "-c", "read word", "sandbox_victim"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
        self._before = self._state()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def problems(self) -> list[str]:
        """Returns what became of the process, if anything."""
        if self._process.poll() is not None:
            return [f"the victim is dead ({self._process.returncode})"]
        after = self._state()
        return [f"the victim was {self._before}, is {after}"] if after != self._before else []

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _state(self) -> dict[str, Any]:
        line = Path(f"/proc/{self.pid}/status").read_text()
        return {
            "stopped": "\nState:\tT" in line or "\nState:\tt" in line,
            "traced": "\nTracerPid:\t0\n" not in line,
            "nice": os.getpriority(os.PRIO_PROCESS, self.pid),
            "processors": os.sched_getaffinity(self.pid),
            "class": os.sched_getscheduler(self.pid),
            "descriptors": resource.prlimit(self.pid, resource.RLIMIT_NOFILE),
        }


class SharedMemory:
    """A System V segment of this user with a secret in it."""

    def __init__(self, secret: str) -> None:
        self._number = _libc.shmget(_IPC_PRIVATE, ctypes.c_size_t(4096), 0o1600)
        if self._number >= 0:
            _libc.shmat.restype = ctypes.c_void_p
            place = _libc.shmat(self._number, None, 0)
            ctypes.memmove(place, secret.encode(), len(secret))
            _libc.shmdt(ctypes.c_void_p(place))

    def problems(self) -> list[str]:
        """Returns whether the segment has been removed."""
        if self._number < 0 or any(number == self._number for _, number in _system_v("shm")):
            return []
        self._number = -1
        return ["a shared memory segment was removed"]

    def close(self) -> None:
        """Removes the segment."""
        if self._number >= 0:
            _libc.shmctl(self._number, _IPC_REMOVE, None)


def remove_system_v(key: int) -> list[str]:
    """Removes what has this key among the kernel's System V objects, and returns what there was in words."""
    ends: dict[str, Callable[[int], object]] = {
        "shm": lambda number: _libc.shmctl(number, _IPC_REMOVE, None),
        "msg": lambda number: _libc.msgctl(number, _IPC_REMOVE, None),
        "sem": lambda number: _libc.semctl(number, 0, _IPC_REMOVE, None),
    }
    found = [(kind, number) for kind in ends for its_key, number in _system_v(kind) if its_key == key]
    for kind, number in found:
        ends[kind](number)
    return [f"left: a System V object ({kind})" for kind, _ in found]


def _system_v(kind: str) -> list[tuple[int, int]]:
    with contextlib.suppress(OSError):
        lines = (_SYSTEM_V / kind).read_text().splitlines()[1:]
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]
    return []


def remove(path: str) -> None:
    """Removes whatever stands at `path`, however deep."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        subprocess.run(["rm", "-rf", "--", path], check=False, capture_output=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


class TemporaryPlace:
    """A directory for temporary files that this process and its workers use while it is open."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="pva-sae-corpus-")
        # Another user must be able to pass through: a worker's directory lies in it.
        os.chmod(self.directory, 0o755)
        self.temporary = os.path.join(self.directory, "tmp")
        self._kept = tempfile.tempdir, os.environ.get("TMPDIR"), os.getcwd()
        for name in ("tmp", "work"):
            os.mkdir(os.path.join(self.directory, name), 0o755)
        tempfile.tempdir = os.environ["TMPDIR"] = self.temporary
        os.chdir(os.path.join(self.directory, "work"))

    def close(self) -> None:
        """Restores what was before and removes the directory."""
        tempfile.tempdir, variable, working = self._kept
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        os.chdir(working)
        remove(self.directory)

    def entries(self) -> Counter[str]:
        """Returns how often each name is found in workers' directories and in the working directory, one level deep."""
        os.chmod(self.temporary, 0o755)
        workers = [os.path.join(self.temporary, name) for name in os.listdir(self.temporary)]
        found = Counter({"a worker's directory": len(workers)})
        for place in (*workers, os.getcwd()):
            with contextlib.suppress(OSError):
                found.update(os.listdir(place))
        return found

    def pipes(self) -> list[str]:
        """Returns the named pipes in workers' directories."""
        paths = [entry.path for top in os.scandir(self.temporary) if top.is_dir() for entry in os.scandir(top.path)]
        return [path for path in paths if stat.S_ISFIFO(os.lstat(path).st_mode)]
