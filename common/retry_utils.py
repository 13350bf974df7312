"""Trying a problem again, and summing up what was given up, under the names that researchers' scripts know.

The pipeline itself retries batches in `common_simplified.halving`, by the same rules: another try only where
it can help (out of memory, out of time), with pauses that double.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from common.config import Config
from common.errors import PipelineError
from common.logging import get_logger

BACKOFF_SECONDS = 1.0
_log = get_logger(__name__)
Result = TypeVar("Result")


def retry_with_timeout(
    generate_fn: Callable[[], Result],
    task_id: object,
    config: Config,
    timeout_seconds: float | None = None,
    operation_name: str = "generation",
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[bool, Result | None, str | None]:
    """Calls `generate_fn` until it succeeds or another try cannot help; returns success, its result, and the error.

    Each try may take `timeout_seconds` of wall time (default: `generation_timeout_seconds`; kept in the main thread
    only), and there are at most `max_retries` more than the first. What is no problem's fault (a mistake that the user
    can mend, a failed assertion) is raised.
    """
    limit = config.generation_timeout_seconds if timeout_seconds is None else timeout_seconds
    tries = 0
    while True:
        tries += 1
        try:
            with _time_limit(limit):
                return True, generate_fn(), None
        except (PipelineError, AssertionError):
            raise
        except Exception as error:  # noqa: BLE001 - a failing problem is named, whatever it raises
            why = f"{type(error).__name__}: {error}"
            if not _helps_to_retry(error) or tries > config.max_retries:
                _log.warning("%s of problem %s was given up after %d tries: %s", operation_name, task_id, tries, why)
                return False, None, why
        sleep(BACKOFF_SECONDS * 2 ** (tries - 1))


def create_exclusion_summary(excluded_tasks: Sequence[Mapping[str, Any]], total_attempted: int) -> dict[str, Any]:
    """Returns counts, the share in percent (null of nothing), the ids, and how often each kind of error occurred.

    `excluded_tasks` hold a `task_id` and an `error` each, the error's kind before its first colon.
    """
    n = len(excluded_tasks)
    kinds = Counter(str(task["error"]).partition(":")[0].strip() for task in excluded_tasks)
    return {
        "total_tasks_attempted": total_attempted,
        "tasks_included": total_attempted - n,
        "tasks_excluded": n,
        "exclusion_rate_percent": 100 * n / total_attempted if total_attempted else None,
        "excluded_task_ids": [task["task_id"] for task in excluded_tasks],
        "error_type_counts": dict(sorted(kinds.items())),
    }


def _helps_to_retry(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    out_of_memory = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return out_of_memory or isinstance(error, MemoryError | TimeoutError)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` in the block when `seconds` have passed; signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ended(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise TimeoutError(f"took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ended)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
