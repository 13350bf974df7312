"""Working on a batch that may be too much at once: halved where it fails, at last item by item.

An item that fails alone is tried again `max_retries` times with growing pauses, where another try can help; what
another try cannot help, and what fails to the end, is given up with its reason. The others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch

from common.logging import get_logger
from common.utils import torch_memory_cleanup

BACKOFF_SECONDS = 1.0
# Running out of memory as a plain RuntimeError: torch's allocator of RAM, cuBLAS's workspace.
_SAID_WITHOUT_MEMORY = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
_log = get_logger(__name__)
Sleep = Callable[[float], None]
Item = TypeVar("Item")
Made = TypeVar("Made")


class Failure(NamedTuple):
    """What went wrong in one line, and whether another try of a single item may succeed.

    Not the error itself: its traceback would keep what was too much in memory while the halves are tried.
    """

    reason: str
    retry: bool


def ran_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a device or in RAM."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_WITHOUT_MEMORY)


@dataclass(frozen=True)
class Halving(Generic[Item, Made]):
    """How a batch of items is worked on, whatever part of it is at work.

    `make` is told how often its items are tried, this try included. Of what it raises `is_answered` says what halving
    answers (all else is passed on), and `helps_to_retry` what another try of a single item may help. `joined` puts two
    halves together; `given_up` stands in for an item, given the reason and the number of tries.
    """

    make: Callable[[Sequence[Item], int], Made]
    joined: Callable[[Made, Made], Made]
    given_up: Callable[[Item, str, int], Made]
    max_retries: int
    is_answered: Callable[[Exception], bool] = ran_out_of_memory
    helps_to_retry: Callable[[Exception], bool] = ran_out_of_memory
    sleep: Sleep = time.sleep

    def work(self, items: Sequence[Item]) -> Made:
        """Returns what is made of `items`, in their order."""
        made = self._attempt(items, tries=1)
        if not isinstance(made, Failure):
            return made
        if len(items) == 1:
            return self._alone(items, made)
        middle = (len(items) + 1) // 2
        _log.warning("a batch of %d failed (%s); going on with %d", len(items), made.reason, middle)
        return self.joined(self.work(items[:middle]), self.work(items[middle:]))

    def _attempt(self, items: Sequence[Item], tries: int) -> Made | Failure:
        try:
            return self.make(items, tries)
        except Exception as error:  # noqa: BLE001 - `is_answered` decides
            if not self.is_answered(error):
                raise
            failure = Failure(reason(error), self.helps_to_retry(error))
        torch_memory_cleanup()
        return failure

    def _alone(self, items: Sequence[Item], failure: Failure) -> Made:
        tries = 1
        while failure.retry and tries <= self.max_retries:
            self.sleep(BACKOFF_SECONDS * 2 ** (tries - 1))
            tries += 1
            made = self._attempt(items, tries)
            if not isinstance(made, Failure):
                return made
            failure = made
        _log.warning("a problem was given up after %d tries: %s", tries, failure.reason)
        return self.given_up(items[0], failure.reason, tries)


def reason(error: Exception) -> str:
    """Returns an error as one short line."""
    first = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
