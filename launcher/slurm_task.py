"""What runs on a cluster's node: one worker, its log, and Slurm's signals.

submitit loads a `SlurmTask` there and calls it. Slurm's warning before the time limit or a preemption (SIGUSR2) reaches
submitit, which asks `checkpoint`; the worker saves, submitit requeues the task, and its next start goes on from there.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from common.runs.lock_files import living_owner
from common.runs.slices import Span

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

# A worker finishes or drops its batch within ten seconds of being asked.
SAVING_SECONDS = 30.0
# Longer than the minute after which a lost node's lock is taken over.
STALE_LOCK_SECONDS = 100.0
_PAUSE_SECONDS = 0.2


class SlurmTask:
    """One slice on a node: runs `command` in `directory`, its output appended to `log`.

    `signals_reach_worker` says that Slurm signals every process of a job itself, so that nothing is to be passed on: a
    worker that is asked twice does not wait for its batch.
    """

    def __init__(
        self,
        span: Span,
        command: tuple[str, ...],
        log: Path,
        environment: Mapping[str, str],
        *,
        directory: Path,
        locks: Path,
        signals_reach_worker: bool,
    ) -> None:
        self.span, self.command, self.log, self.environment = span, command, log, dict(environment)
        self.directory, self.locks, self.signals_reach_worker = directory, locks, signals_reach_worker
        self._worker: subprocess.Popen[bytes] | None = None
        self._code: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_worker": None, "_code": None}

    def __call__(self) -> int:
        """Runs the worker to its end; ends this process with the worker's exit code where that is not 0."""
        signal.signal(signal.SIGTERM, self._pass_on)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            log.write(f"{_heading()}\n".encode())
            log.flush()
            self._wait_for_a_lost_owner()
            code = self._run(log)
        if code:
            sys.exit(code if code > 0 else 128 - code)  # Slurm's exit code shall be the worker's
        return 0

    def checkpoint(self) -> DelayedSubmission:
        """Lets the worker save and end, and returns what goes on after the requeueing: the same again."""
        from submitit.helpers import DelayedSubmission

        self._signal_worker()
        until = time.monotonic() + SAVING_SECONDS
        while self._worker is not None and self._code is None and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        return DelayedSubmission(self)

    def _run(self, log: Any) -> int:
        worker = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_ignore_the_warning,
        )
        # Waited for in a thread: a signal's handler that runs amid the main thread's own waiting could never wait.
        threading.Thread(target=self._await, args=(worker,), daemon=True).start()
        self._worker = worker
        while self._code is None:
            time.sleep(_PAUSE_SECONDS)
        return self._code

    def _await(self, worker: subprocess.Popen[bytes]) -> None:
        self._code = worker.wait()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.signals_reach_worker:
            self._signal_worker()

    def _signal_worker(self) -> None:
        if self._worker is not None and self._code is None:
            os.kill(self._worker.pid, signal.SIGTERM)

    def _wait_for_a_lost_owner(self) -> None:
        """Waits while somebody holds positions of this slice: after a node was lost, until its lock counts as dead."""
        until = time.monotonic() + STALE_LOCK_SECONDS
        while time.monotonic() < until and _held(self.locks, self.span):
            time.sleep(1)


def _held(locks: Path, span: Span) -> bool:
    for path in locks.glob("*.lock"):
        match = re.match(r"(\d+)-(\d+)\.", path.name)
        if match and Span(int(match[1]), int(match[2])).overlaps(span) and living_owner(path) is not None:
            return True
    return False


def _heading() -> str:
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    job = "_".join(os.environ[name] for name in names if name in os.environ) or os.environ.get("SLURM_JOB_ID", "?")
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0)
    return f"== Slurm task {job} on {socket.gethostname()}" + (f", restart {restarts}" if restarts else "")


def _ignore_the_warning() -> None:
    """Lets Slurm's warning, which some clusters send to every process of a job, pass the worker by."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
