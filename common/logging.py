"""Logging: short lines on a terminal, dated lines elsewhere and in the phase's log file."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = "pva_sae"
DATED = "%(asctime)s %(levelname)s %(message)s"


def get_logger(name: str) -> logging.Logger:
    """Returns the project's logger for module `name`."""
    return logging.getLogger(f"{ROOT}.{name}")


def setup_console(verbose: bool = False) -> None:
    """Sends the project's log to standard error, once; dated where that is not a terminal."""
    root = logging.getLogger(ROOT)
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False
    if not any(isinstance(handler, _Console) for handler in root.handlers):
        root.addHandler(_Console())


def add_log_file(path: Path) -> logging.Handler:
    """Appends the project's log to `path` until the handler is removed with `remove_log_file`."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(DATED))
    logging.getLogger(ROOT).addHandler(handler)
    return handler


def remove_log_file(handler: logging.Handler) -> None:
    """Stops writing to a log file."""
    logging.getLogger(ROOT).removeHandler(handler)
    handler.close()


@contextlib.contextmanager
def capped_warnings(shown: int, everything: Path) -> Iterator[None]:
    """Lets the console show the first `shown` warnings of a kind, and says after the block how many more there were.

    A kind is a message without what is filled into it, or the `kind` that its record carries. Log files keep every
    line: `everything` names the one that the closing count points to.
    """
    cap = _Cap(shown)
    consoles = [handler for handler in logging.getLogger(ROOT).handlers if isinstance(handler, _Console)]
    for console in consoles:
        console.addFilter(cap)
    try:
        yield
    finally:
        for console in consoles:
            console.removeFilter(cap)
        for kind, first in cap.first.items():
            if cap.counts[kind] > shown:
                more = cap.counts[kind] - shown
                logging.getLogger(ROOT).warning('%d more warnings like "%s", in %s', more, first, everything)


class _Cap(logging.Filter):
    """Counts warnings by kind, and lets the first ones through."""

    def __init__(self, shown: int) -> None:
        super().__init__()
        self.shown = shown
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        kind = str(getattr(record, "kind", record.msg))
        self.counts[kind] += 1
        self.first.setdefault(kind, record.getMessage())
        return self.counts[kind] <= self.shown


class _LogFile(logging.FileHandler):
    """A log file that a full disk silences: the run itself says what went wrong, in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Drops the line instead of printing a traceback."""

    def close(self) -> None:
        """Closes the file, whatever is left unwritten."""
        with contextlib.suppress(OSError):
            super().close()


class _Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the current standard error, clear of a progress bar on the same line."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(message)s" if sys.stderr.isatty() else DATED))

    def emit(self, record: logging.LogRecord) -> None:
        if "tqdm" in sys.modules and sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(self.format(record), file=sys.stderr)
        else:
            self.stream = sys.stderr
            super().emit(record)
