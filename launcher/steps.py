"""Steps that one process does alone: opening a phase, merging it, or running one that cannot be sliced."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from common.errors import Interrupted, PipelineError
from common.runs.interruption import StopRequest
from common.runs.merging import Opened
from launcher.local import has_exited, how_it_ended, start_group, stop_groups

LOOK_SECONDS = 0.05


class StepFailed(PipelineError):
    """A step ended with an exit code, after saying why itself."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.exit_code = code


class Steps:
    """Runs steps one after another on one device; each speaks for itself on standard error."""

    def __init__(self, environment: Mapping[str, str], stop: StopRequest, go_on: str) -> None:
        self.environment, self.stop, self.go_on = environment, stop, go_on

    def open(self, command: Sequence[str]) -> Opened:
        """Runs the command that opens a phase and returns what it answers."""
        process = start_group(command, self.environment, subprocess.PIPE, stderr=None)
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.read()), daemon=True)
        reader.start()
        self._finish(process)
        reader.join()
        return Opened.from_json(json.loads(b"".join(said).splitlines()[-1]))

    def run(self, command: Sequence[str]) -> None:
        """Runs a command that answers on this terminal."""
        self._finish(start_group(command, self.environment, None, stderr=None))

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for the end of a step, which a stop request reaches; raises `StepFailed` where it was no good one."""
        try:
            while not has_exited(process) and not self.stop.requested:
                time.sleep(LOOK_SECONDS)
        finally:
            if not has_exited(process):
                stop_groups([process])
        code = process.wait()
        if code < 0:
            ended = f"ended by {how_it_ended(code)}; what was finished is kept; to go on: {self.go_on}"
            raise Interrupted(f"stopped: {ended}") if self.stop.requested else PipelineError(f"a process was {ended}")
        if code:
            raise StepFailed(code)
        if self.stop.requested:
            raise Interrupted(f"stopped; what was finished is kept; to go on: {self.go_on}")
