"""Polite stopping: a first Ctrl-C or SIGTERM lets the batch in flight finish if that fits, a second ends at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from common.errors import Interrupted
from common.logging import get_logger

# What the batch in flight gets; saving comes after it, and all of it is over in ten seconds.
GRACE_SECONDS = 8.0
_log = get_logger(__name__)


class StopRequest:
    """Whether the run was asked to stop, and until when the batch in flight may go on."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deadline = float("inf")

    @property
    def requested(self) -> bool:
        """Whether the run should stop before the next batch."""
        return self.signal is not None

    def check(self) -> None:
        """Raises `Interrupted` once the batch in flight has used up its grace."""
        if time.monotonic() > self._deadline:
            raise Interrupted("stopped: the batch in flight did not finish in time and was dropped")

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Signal handler: notes the first request, ends at once on the second."""
        if self.requested:
            raise KeyboardInterrupt
        self.signal = number
        self._deadline = time.monotonic() + GRACE_SECONDS
        _log.warning("stopping after the batch in flight (again: at once)")


@contextmanager
def polite_stop() -> Iterator[StopRequest]:
    """Handles SIGINT and SIGTERM as stop requests while the block runs, and restores the handlers after it."""
    request = StopRequest()
    try:
        previous = {number: signal.signal(number, request.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals stay with whoever runs it
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
