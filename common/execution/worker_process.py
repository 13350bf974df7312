"""The pipeline's handle on one worker: starting it, asking it, noticing that it died, and ending it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common.errors import PipelineError
from common.execution.cleaning import remove_tree
from common.execution.enclosure import Isolation, worker_command, worker_environment
from common.execution.isolation import WALL_FACTOR, process_limit
from common.execution.verdict import EvaluationPlan, WorkerReply
from common.execution.watching import family

_PREFIX = "pva-sae-sandbox-"
_GRACE_SECONDS = 10.0
_LEAVE_SECONDS = 2.0
_POLL_MILLISECONDS = 250
_MAX_REPLY_BYTES = 4_000_000
_LAST_WORDS_BYTES = 1 << 16
_PROCESS_LIMIT_AGE = 2.0
# Ids that no account has: systemd keeps them for services that live as long as their process.
_FIRST_USER, _USERS = 61184, 4336
_other_users = (_FIRST_USER + (os.getpid() + index) % _USERS for index in itertools.count())


class WorkerDiedError(Exception):
    """The worker ended, or stayed silent for longer than any sample may take."""


class NotIsolatedError(WorkerDiedError):
    """A program could not be put under its limits and its isolation; it was not run."""


class WorkerProcess:
    """A running worker with a private directory.

    The kernel kills the worker when the thread that made this object ends, so that thread must be the one that uses it.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._user = next(_other_users) if isolation.other_user else None
        self._processes, self._counted_at = None, -1e9
        self._directory = tempfile.mkdtemp(prefix=_PREFIX)
        self._lock = _hold(self._directory)
        # Without a name, so that no sample can put something else there.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = self._start()
        except OSError:
            remove_tree(self._directory)
            os.close(self._lock)
            self._errors.close()
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._user is not None:
            os.chmod(self._directory, 0o711)
        return subprocess.Popen(
            worker_command(self._isolation, self._directory, self._user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=worker_environment(),
            cwd=self._directory,
            start_new_session=True,
        )

    def evaluate(self, plan: EvaluationPlan) -> WorkerReply:
        """Sends a plan and returns the reply; raises `WorkerDiedError`, after which the object can only be closed."""
        deadline = time.monotonic() + WALL_FACTOR * plan.cpu_seconds + _GRACE_SECONDS
        for frame in (plan.limits(self._process_limit()), plan.program()):
            self._send(b"%08x" % len(frame) + frame, deadline)
        try:
            length = int(self._receive(8, deadline), 16)
            if length > _MAX_REPLY_BYTES:
                raise WorkerDiedError(f"the worker announced a reply of {length} bytes")
            header, _, message = self._receive(length, deadline).partition(b"\n")
            reply = WorkerReply(json.loads(header), message)
        except ValueError as error:
            raise WorkerDiedError(f"the worker's reply cannot be read: {error}") from None
        if reply.header["status"] == "unready":
            raise NotIsolatedError(f"a program could not be isolated: {reply.header['detail']}")
        return reply

    def kill(self) -> None:
        """Ends the worker with all that is below it; may be called from any thread.

        Outside namespaces the worker itself ends what its sample has started, so it is asked, not killed.
        """
        if self._isolation.namespaces is not None:
            self._process.kill()
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the worker, which ends by itself when nobody can ask it any more, and removes its directory."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill_family()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        remove_tree(self._directory)
        os.close(self._lock)
        self._errors.close()

    def _kill_family(self) -> None:
        """Kills a worker that does not answer, after all that is below it: it must not lose them by dying first."""
        self._process.send_signal(signal.SIGSTOP)
        for pid in family(self._process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()

    def last_words(self) -> str:
        """Returns the last line that the worker wrote before it took over its descriptors, for an error message."""
        lines = os.pread(self._errors.fileno(), _LAST_WORDS_BYTES, 0).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def _process_limit(self) -> int | None:
        if time.monotonic() - self._counted_at > _PROCESS_LIMIT_AGE:
            self._processes, self._counted_at = process_limit(self._user), time.monotonic()
        return self._processes

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(self._requests, select.POLLOUT, deadline)
            try:
                data = data[os.write(self._requests, data) :]
            except OSError as error:
                raise WorkerDiedError(str(error)) from None

    def _receive(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._wait(self._replies, select.POLLIN, deadline)
            chunk = os.read(self._replies, count - len(data))
            if not chunk:
                raise WorkerDiedError("the worker ended")
            data += chunk
        return bytes(data)

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(descriptor, event)
        while not poller.poll(_POLL_MILLISECONDS):
            if time.monotonic() > deadline:
                raise WorkerDiedError("the worker stayed silent")
            self._wake_if_stopped()

    def _wake_if_stopped(self) -> None:
        """Lets a worker go on that a sample has stopped by a signal."""
        with contextlib.suppress(OSError, IndexError):
            state = Path(f"/proc/{self._process.pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
            if state == "T":
                os.kill(self._process.pid, signal.SIGCONT)


def sweep_left_directories() -> int:
    """Removes the private directories of pipelines that were killed, and returns how many there were.

    A living owner holds a lock in its directory, which the kernel releases when it dies in whatever way.
    """
    swept = 0
    try:
        entries = list(os.scandir(tempfile.gettempdir()))
    except OSError:  # a directory that may be used but not listed
        return 0
    for entry in entries:
        if not entry.name.startswith(_PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(os.path.join(entry.path, "lock"), os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(entry.path)
                swept += 1
            finally:
                os.close(lock)
    return swept


def _hold(directory: str) -> int:
    """Locks `directory` as one in use; the lock gets its name only when it is held."""
    unnamed = os.path.join(directory, "lock.tmp")
    lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(unnamed, os.path.join(directory, "lock"))
    return lock


def sandbox_broken(reason: str) -> PipelineError:
    """Returns the error that stops a run whose sandbox cannot be trusted."""
    return PipelineError(
        f"the sandbox does not work on this machine: {reason}; check that {sys.executable} runs, that the temporary "
        f"directory {tempfile.gettempdir()} can be written, and the limits on processes and memory"
    )
