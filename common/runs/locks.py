"""Locks: one process a slice.

A lock is a file under `locks/` held by `flock`, which the kernel releases when its owner dies, so a dead owner's lock
is taken over at once. The file names host and process for the message. All lock files are examined and created under
one short lock of the directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import UsageError
from common.runs.files import ensure_directory, writing
from common.runs.slices import Span

EVERYTHING = Span(0, 999_999_999)
_REGISTER = "register"


@contextmanager
def directory_lock(locks: Path) -> Iterator[None]:
    """Holds the directory's short lock: for examining locks and for publishing, one process at a time."""
    ensure_directory(locks)
    with writing(locks / _REGISTER):
        handle = open(locks / _REGISTER, "a+b")  # noqa: SIM115
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def span_lock(locks: Path, span: Span) -> Iterator[None]:
    """Holds the lock of positions `span` for as long as the block runs.

    Raises `UsageError` naming host and process where a living process works on an overlapping span.
    """
    path = locks / f"{span.start:06d}-{span.end:06d}.lock"
    with directory_lock(locks):
        _refuse_overlap(locks, span)
        with writing(path):
            handle = open(path, "w", encoding="utf-8")  # noqa: SIM115
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, handle)
            handle.flush()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        handle.close()


def _refuse_overlap(locks: Path, span: Span) -> None:
    for path in sorted(locks.glob("*.lock")):
        start, end = (int(part) for part in path.stem.split("-"))
        try:
            handle = open(path, encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:
            continue  # its owner has just finished
        with handle:
            if _is_free(handle):
                path.unlink(missing_ok=True)
            elif Span(start, end).overlaps(span):
                owner = json.loads(handle.read() or "{}")
                raise UsageError(
                    f"positions {start} to {end} are being worked on by process {owner.get('pid', '?')} on host "
                    f"{owner.get('host', '?')} ({locks.parent}); wait for it or stop it"
                )


def _is_free(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True
