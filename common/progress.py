"""Progress: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from common.logging import get_logger

LINE_SECONDS = 10.0
_log = get_logger(__name__)


class Progress:
    """Counts finished problems of one run, with rate, time left and the running pass rate.

    `done` problems are finished before the run starts; they count in the bar, not in the rate.
    """

    def __init__(self, what: str, total: int, done: int = 0, unit: str = "problem") -> None:
        self.what, self.total, self.count, self.unit = what, total, done, unit
        self.passed = self.judged = 0
        self._first = done
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.total, initial=self.count, desc=self.what, unit=self.unit, file=sys.stderr, smoothing=0.1
            )
        return self

    def advance(self, problems: int) -> None:
        """Notes that `problems` more are finished."""
        self.count += problems
        if self._bar is not None:
            self._bar.update(problems)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            _log.info("%s", self.line())

    def judge(self, passed: int, judged: int) -> None:
        """Adds solutions to the running pass rate."""
        self.passed += passed
        self.judged += judged
        if self._bar is not None and self.judged:
            self._bar.set_postfix_str(f"passing {self.passed / self.judged:.0%}")

    def line(self) -> str:
        """Returns the state in words."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self.count - self._first) / seconds
        left = f", about {(self.total - self.count) / rate:.0f} s left" if rate > 0 else ""
        passing = f", passing {self.passed / self.judged:.0%}" if self.judged else ""
        return f"{self.what}: {self.count} of {self.total} {self.unit}s, {rate:.1f} a second{left}{passing}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
