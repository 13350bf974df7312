"""Watching a job array: what Slurm says of its tasks, asked in the background and not too often.

A task that Slurm has forgotten (`MinJobAge`, five minutes by default) is judged by the accounting where there is one,
else by what its worker wrote in its slice record.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from common.errors import PipelineError
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.slice_records import read_slice_record
from common.runs.slices import Span
from launcher.slurm_array import ArrayNote
from launcher.slurm_queue import FORGOTTEN, Task, node_trouble, read_accounting, read_array

# Slurm's controller serves everybody: it is asked once a second at first, and four times a minute in the long run.
FIRST_SECONDS, LAST_SECONDS, SHARE = 1.0, 15.0, 0.05
_log = get_logger(__name__)


class ArrayWatch:
    """The tasks of one array by index, as far as known; `silence` is why Slurm did not answer when asked last."""

    def __init__(self, paths: PhasePaths, note: ArrayNote, tasks: Mapping[int, Task] | None = None) -> None:
        self.tasks: Mapping[int, Task] = tasks or {}
        self.silence = ""
        self._over = False
        self._paths, self._note = paths, note
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slurm")
        self._asking: Future[dict[int, Task]] | None = None
        self._started = self._asked = time.monotonic()

    def ended(self) -> dict[int, Task]:
        """Returns the tasks that have ended for good."""
        return {index: task for index, task in self.tasks.items() if task.ended}

    def look(self) -> bool:
        """Returns whether a new answer has come since the last call; never waits for one."""
        if self._asking is None:
            if not self._over and time.monotonic() - self._asked >= self._pause():
                self._asking = self._pool.submit(ask_for_all, self._paths, self._note, self.ended())
            return False
        if not self._asking.done():
            return False
        asking, self._asking, self._asked = self._asking, None, time.monotonic()
        return self._take(asking)

    def end(self) -> None:
        """Stops asking."""
        self._over = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, asking: Future[dict[int, Task]]) -> bool:
        try:
            tasks = asking.result()
        except PipelineError as error:
            self.silence = str(error)
            return False
        for index, task in tasks.items():
            _tell_of_restart(self._note.slices[index], self.tasks.get(index), task)
        self.tasks, self.silence = tasks, ""
        return True

    def _pause(self) -> float:
        return min(LAST_SECONDS, max(FIRST_SECONDS, (time.monotonic() - self._started) * SHARE))


def ask_for_all(paths: PhasePaths, note: ArrayNote, ended: Mapping[int, Task]) -> dict[int, Task]:
    """Returns every task of an array, those that have `ended` for good as they are; `PipelineError` on silence."""
    known = {**read_array(note.job, note.name), **ended}
    forgotten = [index for index in range(len(note.slices)) if index not in known]
    accounted = read_accounting(note.job) if forgotten else {}
    for index in forgotten:
        known[index] = accounted.get(index) or _from_record(paths, note.slices[index])
    return known


def _from_record(paths: PhasePaths, span: Span) -> Task:
    record = read_slice_record(paths, span)
    if record is not None and record.state == "done":
        return Task("COMPLETED")
    return Task(FORGOTTEN, node="" if record is None else record.host)


def _tell_of_restart(span: Span, before: Task | None, task: Task) -> None:
    if before is None or task.restarts <= before.restarts:
        return
    trouble = node_trouble(before.node) if before.node else ""
    why = f"its node {before.node} is {trouble}" if trouble else "preempted, out of time, or its node was lost"
    _log.warning(
        "positions %d to %d: requeued by Slurm, restart %d (%s); what is stored is kept, it goes on by itself",
        *(span.start, span.end, task.restarts, why),
    )
