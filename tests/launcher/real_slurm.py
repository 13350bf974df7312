"""Driving the real launcher on a real Slurm."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from common.profiles import REPOSITORY
from common.runs.records import list_segments
from tests.cli.helpers import Answer, environment, run
from tests.slurm_cluster import SlurmCluster

LAUNCHER = REPOSITORY / "multi_gpu_launcher.py"
# Slow enough for a test to act while workers are at work: a problem a batch, and long solutions.
SLOWLY = ("--set", "max_new_tokens=400", "--batch-size", "1")
# What differs between two runs of the same: when they ran, where, and how long they took.
_OF_ONE_RUN = re.compile(r"metadata\.json$|^timings\.parquet$|^(logs|locks|slices|superseded|snapshots)/")
WAIT_SECONDS = 240


class Launched(NamedTuple):
    """A launcher at work, and the file that takes what it says."""

    process: subprocess.Popen[str]
    errors: Path

    def said(self) -> str:
        """Returns what it has said so far."""
        return self.errors.read_text(encoding="utf-8")

    def answer(self) -> Answer:
        """Waits for its end and returns its answer."""
        out, _ = self.process.communicate(timeout=WAIT_SECONDS)
        return Answer(self.process.returncode, out, self.said())

    def wait(self, condition: Callable[[], bool]) -> None:
        """Waits until `condition` holds while it runs."""
        until = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert self.process.poll() is None, f"the launcher ended too early: {self.said()}"
            assert time.monotonic() < until, f"it never came to that: {self.said()}"
            time.sleep(0.05)


class Desk(NamedTuple):
    """A profile, a data directory of one's own, and a cluster."""

    cluster: SlurmCluster
    profile: Path
    data: Path

    def phase(self, number: str) -> Path:
        """Returns the directory of a phase."""
        return self.data / f"phase{number.replace('.', '_')}"

    def environment(self) -> dict[str, str]:
        """Returns what a command needs to find the cluster."""
        return {**environment(), **self.cluster.environment}

    def launch(self, number: str, *more: object) -> Answer:
        """Runs the launcher to its end."""
        with self.launching(number, *more) as launched:
            return launched.answer()

    @contextmanager
    def launching(self, number: str, *more: object) -> Iterator[Launched]:
        """Starts the launcher and ends it after the block, whatever became of it."""
        launched = self._start(number, *more)
        try:
            yield launched
        finally:
            if launched.process.poll() is None:
                launched.process.kill()
                launched.process.communicate()

    def stored(self) -> set[tuple[str, int]]:
        """Returns the batches that are stored of phase 1.0: name and number of a file, another one when made anew."""
        segments = list_segments(self.phase("1.0") / "segments" / "generation" / "greedy")
        return {(segment.path.name, segment.path.stat().st_ino) for segment in segments}

    def wait_until_stored(self, batches: int, launched: Launched) -> str:
        """Waits until tasks of phase 1.0's array have stored `batches`; returns the array's id."""
        launched.wait(lambda: len(self.stored()) >= batches)
        return json.loads((self.phase("1.0") / "slices" / "slurm.json").read_text())["job"]

    def wait_until_gone(self) -> None:
        """Waits until the node has nothing left of tasks that wait to be started again."""
        jobs = [line.split("|")[0] for line in self.cluster.queue("%A|%T") if line.endswith("|PENDING")]
        self.cluster.wait_for(lambda: not any(map(self.cluster.is_on_the_node, jobs)))

    def start_requeued_at_once(self) -> None:
        """Spares a test most of the two minutes that Slurm lets requeued tasks wait."""
        self.wait_until_gone()
        time.sleep(2)  # a node refuses to start what it was told to end in the same second
        for line in self.cluster.queue("%i|%T"):
            task, _, state = line.partition("|")
            if state == "PENDING":
                self.cluster.ask("scontrol", "update", f"JobId={task}", "StartTime=now")

    def arrays(self) -> set[str]:
        """Returns the ids of every array that the cluster remembers."""
        return set(self.cluster.ask("squeue", "--noheader", "--states=all", "--format=%F").split())

    def _start(self, number: str, *more: object) -> Launched:
        words = [LAUNCHER, "--phase", number, "--profile", self.profile, "--data-dir", self.data, "--engine", "slurm"]
        words += ["--time", "10", "--mem", "1G", *more]
        errors = self.data / f"launcher_{len(list(self.data.glob('launcher_*'))):02d}.err"
        with open(errors, "wb") as said:
            process = subprocess.Popen(
                [sys.executable, *map(str, words)],
                cwd=self.data,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        return Launched(process, errors)


def published(directory: Path) -> dict[str, str]:
    """Returns the digest of every data file of a phase, with dates taken out of names."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and not _OF_ONE_RUN.search(name):
            found[re.sub(r"_\d{8}_\d{6}", "", name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def alone(profile: Path, data: Path, number: str, *more: object) -> dict[str, str]:
    """Runs a phase as one process and returns its data files."""
    answer = run("phase", number, "--profile", profile, "--data-dir", data, "--device", "cpu", *more)
    assert answer.code == 0, answer
    return published(data / f"phase{number.replace('.', '_')}")
