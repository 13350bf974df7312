"""Slurm's answers as it printed them, its commands as scripts that print what a test wants, and notes of arrays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from common.runs.slice_records import slice_record_path
from common.runs.slices import Span
from launcher.engine import Ended
from launcher.slurm import SlurmEngine

NAME = "phase1.0-0a1b2c3d"
# What Slurm 22.05 printed, shortened: one task done, one failed, one lost and waiting, two that wait together.
JOBS = f"""\
JobId=8 ArrayJobId=7 ArrayTaskId=3-4%2 JobName={NAME} Priority=1 JobState=PENDING Reason=Resources Dependency=(null) \
Requeue=1 Restarts=0 BatchFlag=1 ExitCode=0:0 RunTime=00:00:00 NodeList= NumNodes=1
JobId=9 ArrayJobId=7 ArrayTaskId=2 JobName={NAME} JobState=PENDING Reason=BeginTime Dependency=(null) Requeue=1 \
Restarts=1 ExitCode=0:0 NodeList=(null) WorkDir=/x
JobId=10 ArrayJobId=7 ArrayTaskId=1 JobName={NAME} JobState=FAILED Reason=NonZeroExitCode Restarts=0 ExitCode=137:0 \
NodeList=gpu07 BatchHost=gpu07
JobId=11 ArrayJobId=7 ArrayTaskId=0 JobName={NAME} JobState=COMPLETED Reason=None Restarts=0 ExitCode=0:0 NodeList=gpu07
"""
SLICES = (Span(0, 3), Span(4, 7), Span(8, 11), Span(12, 15), Span(16, 19))


class FakeSlurm:
    """Slurm's commands as scripts that print what a test wants and keep how they were called."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        root.mkdir()
        monkeypatch.setenv("PATH", f"{root}{os.pathsep}{os.environ['PATH']}")
        for name in ("sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo"):
            self.says(name, "")
        self.complains("sacct", "Slurm accounting storage is disabled")

    def says(self, name: str, text: str) -> None:
        (self.root / f"{name}.text").write_text(text, encoding="utf-8")
        self.script(name, f'cat "{self.root}/{name}.text"')

    def complains(self, name: str, text: str) -> None:
        self.script(name, f'echo "{text}" >&2; exit 1')

    def calls(self, name: str) -> list[str]:
        calls = self.root / f"{name}.calls"
        return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []

    def script(self, name: str, command: str) -> None:
        path = self.root / name
        path.write_text(f'#!/bin/sh\necho "$@" >> "{path}.calls"\n{command}\n', encoding="utf-8")
        path.chmod(0o755)


def polled(engine: SlurmEngine) -> list[Ended]:
    """Polls until Slurm has answered once."""
    for _ in range(400):
        ended = engine.poll()
        if ended:
            return ended
        time.sleep(0.02)
    return []


def write_record(paths: PhasePaths, span: Span, state: str) -> None:
    record = {"phase": "1.0", "span": list(span), "state": state, "done": 4, "expected": 4, "rate": 1.0}
    record |= {"host": "gpu07", "pid": 5, "device": "cpu", "beat": 9, "error": None, "arms": 1, "fingerprint": ""}
    write_json(slice_record_path(paths, span), record)
