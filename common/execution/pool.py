"""Evaluations on several workers at once, and the single evaluation that stands on them.

Each slot is one lasting thread that starts its own worker, replaces it when it dies, and checks it with a known-good
and a known-bad program at the start and every 500 samples: a broken sandbox looks like a data set of failures
otherwise.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple, Self

from common.errors import PipelineError, UsageError
from common.execution.enclosure import Isolation
from common.execution.ladder import choose_isolation
from common.execution.results import EvaluationResult
from common.execution.self_check import (
    CheckFailedError,
    Evaluate,
    check_honest_programs,
    check_verdicts,
    lacks_what_is_here,
)
from common.execution.verdict import EvaluationPlan, WorkerReply, crashed, judge, no_code, plan_evaluation
from common.execution.worker_process import (
    NotIsolatedError,
    WorkerDiedError,
    WorkerProcess,
    sandbox_broken,
    sweep_left_directories,
)

SELF_CHECK_EVERY = 500


class _Job(NamedTuple):
    plan: EvaluationPlan
    future: Future[EvaluationResult]


class EvaluationPool:
    """Evaluates programs in `workers` sandboxed processes, `timeout` being CPU seconds a program.

    `sandbox` is auto, strict, or a rung (see `ladder`); what is in use stands in `isolation`. A context manager:
    leaving it waits for what was submitted, or drops it where an exception leaves. Raises `PipelineError` at
    construction where the sandbox fails its self-check; a later failure reaches every open future.
    """

    def __init__(self, workers: int, timeout: float = 5.0, memory_mb: int = 2048, sandbox: str = "auto") -> None:
        if workers < 1:
            raise UsageError(f"the evaluation pool needs at least one worker, not {workers}")
        self.workers = workers
        self._timeout = timeout
        self._memory_mb = memory_mb
        self.isolation = choose_isolation(sandbox).isolation
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        sweep_left_directories()
        self._slots = [_Slot(self._jobs, self._closing, self.isolation) for _ in range(workers)]
        try:
            for slot in self._slots:
                slot.ready.result()
        except BaseException:
            self.close(drop=True)
            raise

    def submit(self, code: str, tests: Sequence[str], setup_code: str = "") -> Future[EvaluationResult]:
        """Queues a program with its tests and returns the future of its result."""
        return self.submit_plan(plan_evaluation(code, tests, setup_code, self._timeout, self._memory_mb))

    def submit_plan(self, plan: EvaluationPlan) -> Future[EvaluationResult]:
        """Queues a plan with limits of its own."""
        if self._closing.is_set():
            raise RuntimeError("the evaluation pool is closed")
        future: Future[EvaluationResult] = Future()
        self._jobs.put(_Job(plan, future))
        return future

    def close(self, *, drop: bool = False) -> None:
        """Ends all workers, after what was submitted is done or, with `drop`, at once with the rest cancelled."""
        if drop:
            self._closing.set()
            self._cancel_queued()
            for slot in self._slots:
                slot.kill()
        for _ in self._slots:
            self._jobs.put(None)
        for slot in self._slots:
            slot.join()
        self._closing.set()
        self._cancel_queued()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(drop=kind is not None)

    def _cancel_queued(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.future.cancel()


class _Slot(threading.Thread):
    """One thread with one worker at a time."""

    def __init__(self, jobs: queue.SimpleQueue[_Job | None], closing: threading.Event, isolation: Isolation) -> None:
        super().__init__(name="pva-sae-sandbox", daemon=True)
        self.ready: Future[None] = Future()
        self._jobs = jobs
        self._closing = closing
        self._isolation = isolation
        self._worker: WorkerProcess | None = None
        self._since_check = 0
        self.start()

    def run(self) -> None:
        """Serves the queue until it holds a None."""
        try:
            self._check()
        except BaseException as error:
            self._end_worker()
            self.ready.set_exception(error)
            return
        self.ready.set_result(None)
        try:
            while (job := self._jobs.get()) is not None:
                if job.future.set_running_or_notify_cancel():
                    self._serve(job)
        finally:
            self._end_worker()

    def kill(self) -> None:
        """Ends the worker under a running evaluation."""
        worker = self._worker
        if worker is not None:
            worker.kill()

    def _serve(self, job: _Job) -> None:
        try:
            if self._since_check >= SELF_CHECK_EVERY:
                self._check()
            result = self._evaluate(job.plan)
        except BaseException as error:
            job.future.set_exception(error)
        else:
            self._since_check += 1
            job.future.set_result(result)

    def _evaluate(self, plan: EvaluationPlan) -> EvaluationResult:
        """Returns the verdict; a plan whose worker dies is tried once more on a fresh one, and then called crashed."""
        if not plan.code.strip():
            return no_code(plan, self._isolation.rung)
        try:
            result = judge(plan, self._ask_twice(plan))
            # As every program would end in a broken sandbox: ask one that is known.
            if result.outcome == "crashed":
                self._check()
            elif lacks_what_is_here(result):
                self._check(check_honest_programs)
            return result
        except NotIsolatedError as error:
            raise sandbox_broken(str(error)) from None
        except WorkerDiedError as error:
            reason = str(error)
        self._check()
        return crashed(plan, f"took its worker down twice ({reason})", self._isolation.rung)

    def _ask_twice(self, plan: EvaluationPlan) -> WorkerReply:
        try:
            return self._ask(plan)
        except WorkerDiedError:
            return self._ask(plan)

    def _ask(self, plan: EvaluationPlan) -> WorkerReply:
        if self._worker is None:
            try:
                self._worker = WorkerProcess(self._isolation)
            except OSError as error:
                raise sandbox_broken(f"its worker cannot be started ({error})") from None
        # In this order: whoever closes the pool sets the flag first and then kills the worker that it sees.
        if self._closing.is_set():
            raise PipelineError("the evaluation was dropped because its pool was closed")
        try:
            return self._worker.evaluate(plan)
        except WorkerDiedError as error:
            words = self._worker.last_words()
            self._end_worker()
            if self._closing.is_set():
                raise PipelineError("the evaluation was dropped because its pool was closed") from None
            raise WorkerDiedError(f"{error}: {words}" if words else str(error)) from None

    def _check(self, check: Callable[[Evaluate], None] = check_verdicts) -> None:
        """Raises `PipelineError` unless programs of known verdict are judged as they must be."""
        try:
            check(lambda plan: judge(plan, self._ask_twice(plan)))
        except (OSError, WorkerDiedError) as error:
            raise sandbox_broken(f"its worker does not answer ({error})") from None
        except CheckFailedError as error:
            raise sandbox_broken(str(error)) from None
        self._since_check = 0

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


def evaluate_code(
    code: str,
    tests: Sequence[str],
    setup_code: str = "",
    timeout: float = 5.0,
    memory_mb: int = 2048,
    sandbox: str = "auto",
) -> EvaluationResult:
    """Runs `code`, then `setup_code`, then `tests` in the sandbox; true exactly when every assertion ran and held.

    `timeout` is CPU seconds, `sandbox` as for `EvaluationPool`. The first call starts a worker that serves later calls
    and ends with the process.
    """
    plan = plan_evaluation(code, tests, setup_code, timeout, memory_mb)
    return _shared_pool(sandbox).submit_plan(plan).result()


_shared: dict[tuple[int, str], EvaluationPool] = {}
_shared_lock = threading.Lock()


def _shared_pool(sandbox: str) -> EvaluationPool:
    with _shared_lock:
        key = (os.getpid(), sandbox)
        if key not in _shared:
            if not _shared:
                atexit.register(_close_shared_pools)
            _shared[key] = EvaluationPool(workers=1, sandbox=sandbox)
        return _shared[key]


def _close_shared_pools() -> None:
    for (pid, _), pool in _shared.items():
        if pid == os.getpid():
            pool.close(drop=True)
