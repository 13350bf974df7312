"""The engine `slurm`: a phase's slices as one Slurm job array, submitted through submitit.

What it knows of tasks comes from `scontrol` (and `sacct` where there is accounting) and from slice records, so it works
on a cluster without accounting. The array outlives its launcher: started anew, the launcher attaches to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from shutil import rmtree

from common.config import Config
from common.errors import PipelineError, UsageError
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.slices import Span
from launcher.engine import Device, Ended, Place, Work
from launcher.slurm_array import ArrayNote, note_path, read_note, slurm_log, submission_folder, submit
from launcher.slurm_options import SlurmOptions, add_slurm_options, slices_asked, slurm_options
from launcher.slurm_queue import Task, ask, read_array, require_slurm, worded
from launcher.slurm_watch import ArrayWatch

CANCEL_SECONDS = 60.0
_log = get_logger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the engine's options to the launcher's command line."""
    add_slurm_options(parser)


def devices(parsed: argparse.Namespace, config: Config) -> list[Device]:
    """Returns a device for each task; raises `UsageError` for options that Slurm could not understand."""
    options = slurm_options(parsed)
    name = config.device if config.device != "auto" else ("cuda" if options.asks_for_gpus() else "cpu")
    return [Device(f"task {index}", name, {}) for index in range(slices_asked(parsed))]


def build(parsed: argparse.Namespace, place: Place) -> SlurmEngine:
    """Returns the engine for a phase; raises `UsageError` where Slurm is not to be found."""
    require_slurm()
    return SlurmEngine(slurm_options(parsed), PhasePaths(place.root), place.phase)


class SlurmEngine:
    """Runs workers as the tasks of one job array."""

    def __init__(self, options: SlurmOptions, paths: PhasePaths, phase: str) -> None:
        self.options, self.paths, self.phase = options, paths, phase
        self.note: ArrayNote | None = None
        self._watch: ArrayWatch | None = None
        self._reported: set[int] = set()

    def attach(self) -> tuple[Span, ...]:
        """Returns the slices of the array that was submitted for this phase and still lives; none where none does.

        Raises `PipelineError` where Slurm does not answer: a live array must not be submitted twice.
        """
        note = read_note(self.paths)
        if note is None:
            return ()
        tasks = read_array(note.job, note.name)
        if all(task.ended for task in tasks.values()):
            _tell_of(note, tasks)
            note_path(self.paths).unlink(missing_ok=True)
            return ()
        self._begin(note, tasks)
        _log.info("attached to Slurm array %s: %s", note.job, worded(note.job, tasks.values()))
        return note.slices

    def start(self, works: Sequence[Work]) -> None:
        """Submits one array with a task for each piece of work."""
        note = submit(self.paths, self.phase, works, self.options)
        self._begin(note, {})
        _log.info("submitted as Slurm array %s, %d tasks", note.job, len(works))

    def poll(self) -> list[Ended]:
        """Returns the tasks that ended since the last call; asks Slurm in the background, and not too often."""
        if self.note is None or self._watch is None or not self._watch.look():
            return []
        new = {index: task for index, task in self._watch.ended().items() if index not in self._reported}
        self._reported.update(new)
        found = [_ended(self.paths, self.note, index, new[index]) for index in sorted(new)]
        if len(self._reported) == len(self.note.slices):
            self._forget()
        return found

    def describe(self) -> str:
        """Returns what the array's tasks are doing: "Slurm array 123: 2 running, 1 pending (Resources), 1 done"."""
        if self.note is None or self._watch is None:
            return "Slurm: nothing submitted"
        silence = f" (Slurm does not answer now: {self._watch.silence})" if self._watch.silence else ""
        return f"Slurm array {self.note.job}: {worded(self.note.job, self._watch.tasks.values())}{silence}"

    def stop(self) -> None:
        """Cancels the array: Slurm asks every worker to save and stop, and ends those that have not after a while."""
        if self.note is not None:
            cancel(self.paths, self.note)

    def leave(self) -> str:
        """Returns how to find the array again, for a launcher that stops waiting and leaves it alone."""
        job = "" if self.note is None else self.note.job
        return f"Slurm array {job} goes on; the same command again attaches to it; `scancel {job}` or --cancel ends it"

    def _begin(self, note: ArrayNote, tasks: Mapping[int, Task]) -> None:
        self.note, self._watch = note, ArrayWatch(self.paths, note, tasks)
        self._reported = set()

    def _forget(self) -> None:
        """Lets go of an array that has ended; what Slurm said of it is kept where a task failed."""
        assert self._watch is not None
        self._watch.end()
        note_path(self.paths).unlink(missing_ok=True)
        if all(task.state == "COMPLETED" for task in self._watch.tasks.values()):
            rmtree(submission_folder(self.paths), ignore_errors=True)


def cancel_array(paths: PhasePaths) -> str:
    """Cancels the phase's live array (`--cancel`) and says so; raises `UsageError` where there is none."""
    require_slurm()
    note = read_note(paths)
    if note is None or all(task.ended for task in read_array(note.job, note.name).values()):
        raise UsageError(f"{paths.root}: no array of this phase is in the queue (`squeue --me` shows yours)")
    cancel(paths, note)
    return f"Slurm array {note.job} is cancelled; what was finished is kept, the same command without --cancel goes on"


def cancel(paths: PhasePaths, note: ArrayNote) -> None:
    """Cancels an array and waits until none of its tasks runs; raises `PipelineError` where Slurm refuses."""
    ask("scancel", note.job)
    until = time.monotonic() + CANCEL_SECONDS
    while any(not task.ended for task in read_array(note.job, note.name).values()):
        if time.monotonic() > until:
            raise PipelineError(
                f"Slurm array {note.job} was cancelled but still runs; see `squeue --job {note.job}`, then run again"
            )
        time.sleep(0.5)
    note_path(paths).unlink(missing_ok=True)


def _ended(paths: PhasePaths, note: ArrayNote, index: int, task: Task) -> Ended:
    span = note.slices[index]
    if task.state == "COMPLETED":
        return Ended(span, True, "")
    log = slurm_log(paths, note.job, index, len(note.slices))
    return Ended(span, False, f"{task.cause()} (Slurm's own log: {log})")


def _tell_of(note: ArrayNote, tasks: Mapping[int, Task]) -> None:
    """Says of an array that ended while nobody waited for it what went wrong."""
    for index, task in sorted(tasks.items()):
        if task.state != "COMPLETED":
            _log.warning("the last array, %s: positions %d to %d: %s", note.job, *note.slices[index], task.cause())
