from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from common.config import Config
from common.errors import UsageError
from common.retry_utils import create_exclusion_summary, retry_with_timeout

pytestmark = pytest.mark.unit
CONFIG = Config(max_retries=2, generation_timeout_seconds=30)


def failing(*errors: Exception) -> Callable[[], str]:
    """Returns what raises each error in turn, then succeeds."""
    waiting = list(errors)

    def attempt() -> str:
        if waiting:
            raise waiting.pop(0)
        return "text"

    return attempt


def test_the_first_success_is_returned_without_a_pause() -> None:
    assert retry_with_timeout(failing(), 7, CONFIG, sleep=pytest.fail) == (True, "text", None)


def test_what_another_try_can_help_is_tried_again_with_doubling_pauses() -> None:
    pauses: list[float] = []
    found = retry_with_timeout(failing(MemoryError("full"), TimeoutError("late")), 7, CONFIG, sleep=pauses.append)
    assert found == (True, "text", None)
    assert pauses == [1.0, 2.0]


def test_it_is_given_up_after_the_configured_tries() -> None:
    pauses: list[float] = []
    found = retry_with_timeout(failing(*[MemoryError("full")] * 9), 7, CONFIG, sleep=pauses.append)
    assert found == (False, None, "MemoryError: full")
    assert len(pauses) == CONFIG.max_retries


def test_what_another_try_cannot_help_is_given_up_at_once() -> None:
    found = retry_with_timeout(failing(ValueError("odd")), 7, CONFIG, sleep=pytest.fail)
    assert found == (False, None, "ValueError: odd")


@pytest.mark.parametrize("error", [UsageError("mend this"), AssertionError("a bug")])
def test_what_is_no_problems_fault_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        retry_with_timeout(failing(error), 7, CONFIG, sleep=pytest.fail)


def test_a_try_that_takes_too_long_is_ended_and_the_alarm_is_given_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    calls: list[float] = []

    def slow() -> None:
        calls.append(time.monotonic())
        time.sleep(30)

    config = Config(max_retries=1)
    found = retry_with_timeout(slow, 7, config, timeout_seconds=0.05, sleep=lambda seconds: None)
    assert found == (False, None, "TimeoutError: took longer than 0.05 s")
    assert len(calls) == 2
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_in_another_thread_it_works_without_a_limit() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(retry_with_timeout(failing(), 7, CONFIG)))
    thread.start()
    thread.join()
    assert found == [(True, "text", None)]


def test_running_out_of_the_devices_memory_is_worth_another_try() -> None:
    import torch

    found = retry_with_timeout(failing(torch.OutOfMemoryError("CUDA")), 7, CONFIG, sleep=lambda seconds: None)
    assert found == (True, "text", None)


def test_the_summary_counts_shares_and_kinds() -> None:
    excluded = [
        {"task_id": 3, "error": "MemoryError: full"},
        {"task_id": 9, "error": "TimeoutError: a: b"},
        {"task_id": 4, "error": "MemoryError"},
    ]
    assert create_exclusion_summary(excluded, 12) == {
        "total_tasks_attempted": 12,
        "tasks_included": 9,
        "tasks_excluded": 3,
        "exclusion_rate_percent": 25.0,
        "excluded_task_ids": [3, 9, 4],
        "error_type_counts": {"MemoryError": 2, "TimeoutError": 1},
    }
    assert create_exclusion_summary([], 0)["exclusion_rate_percent"] is None
