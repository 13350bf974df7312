"""How far all workers are together, by their slice records: one bar, or dated lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.slice_records import SliceRecord, read_slice_record
from common.runs.slices import Span

LINE_SECONDS = 10.0
MOST_NAMED = 8
_log = get_logger(__name__)


class SliceProgress:
    """Counts the positions of `total` that are done: those of the slices, and those that no slice holds.

    A position counts as done in proportion to the arms in which it is; `names` says where each slice is computed, and
    `state` what its engine is doing.
    """

    def __init__(
        self,
        phase: str,
        paths: PhasePaths,
        names: Mapping[Span, str],
        *,
        total: int,
        state: Callable[[], str] | None = None,
    ) -> None:
        self.phase, self.paths, self.names, self.total, self.state = phase, paths, names, total, state
        self.before = total - sum(map(len, names))
        self._last_line = time.monotonic()
        self._bar: Any = None
        self._records: list[SliceRecord | None] = [None for _ in names]

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from tqdm import tqdm

            form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f}{postfix}"
            self._bar = tqdm(total=self.total, desc=f"phase {self.phase}", file=sys.stderr, bar_format=form)
        return self

    def update(self) -> None:
        """Reads the records and shows what they say, on a terminal at once, elsewhere every few seconds."""
        self._records = [read_slice_record(self.paths, span) for span in self.names]
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_postfix_str(self._words())
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            _log.info("%s", self.line())

    @property
    def done(self) -> int:
        """How many positions are done."""
        return self.before + int(sum(record.done / record.arms for record in self._records if record is not None))

    def line(self) -> str:
        """Returns the state in words."""
        return f"phase {self.phase}: {self.done} of {self.total} positions, {self._words()}"

    def _words(self) -> str:
        working = [record for record in self._records if record is not None and record.state == "running"]
        rate = sum(record.rate / record.arms for record in working)
        is_starting = any(record is None for record in self._records) or bool(working)
        words = [f"{rate:.1f} a second"] if rate else ["getting ready"] if is_starting else []
        if working and all(record.rate > 0 for record in working):
            words.append(f"about {max((item.expected - item.done) / item.rate for item in working):.0f} s left")
        return ", ".join([*words, self._shares(), *([] if self.state is None else [self.state()])])

    def _shares(self) -> str:
        shares = [0.0 if record is None else record.done / record.expected for record in self._records]
        if len(shares) > MOST_NAMED:
            return f"slices {min(shares):.0%} to {max(shares):.0%}"
        return ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names.values(), shares, strict=True))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
