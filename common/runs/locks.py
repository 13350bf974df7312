"""Locks: one process a slice, and one that publishes in a directory.

A lock is a file under `locks/` that names its owner (see `lock_files`). A dead owner's lock is taken over: at once
under the same kernel, on another host of a shared file system when its beat has stood still. Whoever wants a lock looks
for others, puts its own file down, then looks again and withdraws where another came meanwhile: so two never hold
overlapping spans, even where no lock of the kernel's reaches both.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from common.errors import UsageError
from common.logging import get_logger
from common.runs.files import ensure_directory, writing
from common.runs.lock_files import STANDSTILL_SECONDS, HeldLock, Owner, forget, living_owner, try_flock
from common.runs.slices import Span

EVERYTHING = Span(0, 999_999_999)
_SPAN_LOCK = re.compile(r"(\d{6,})-(\d{6,})(?:\.[0-9a-f]+)?\.lock")
_REGISTER, _PUBLISHING = "register", "publishing"
_REGISTER_SECONDS = 0.3
_PAUSES = (0.05, 0.1, 0.2, 0.2)
_log = get_logger(__name__)


class Holder(NamedTuple):
    """Who works on which span."""

    span: Span
    owner: Owner


@contextmanager
def directory_lock(locks: Path) -> Iterator[None]:
    """Holds the directory's lock for publishing, one process at a time; waits for whoever holds it."""
    ensure_directory(locks)
    with _kernel_lock(locks / _PUBLISHING, wait=None), _published_alone(locks):
        yield


@contextmanager
def span_lock(locks: Path, span: Span) -> Iterator[None]:
    """Holds the lock of positions `span` for as long as the block runs.

    Raises `UsageError` naming host and process where a living process works on an overlapping span.
    """
    ensure_directory(locks)
    with _claimed(locks, span):
        yield


def refuse_held(locks: Path) -> None:
    """Raises `UsageError` naming host and process where any positions are being worked on."""
    holder = _overlapping(locks, EVERYTHING)
    if holder is not None:
        raise _refusal(locks, holder)


def forget_locks(locks: Path) -> None:
    """Removes what taking locks leaves in a directory that has nothing else; who holds one there keeps it."""
    for name in (_REGISTER, _PUBLISHING):
        (locks / name).unlink(missing_ok=True)


def _claimed(locks: Path, span: Span) -> HeldLock:
    rival: Holder | None = None
    for pause in _PAUSES:
        with _kernel_lock(locks / _REGISTER, wait=_REGISTER_SECONDS):
            if (rival := _overlapping(locks, span)) is not None:
                break
            claim = _claim(locks, span)
        if isinstance(claim, HeldLock):
            return claim
        rival = claim
        time.sleep(random.uniform(0, pause))
    assert rival is not None
    raise _refusal(locks, rival)


def _claim(locks: Path, span: Span) -> HeldLock | Holder:
    """Puts this process's lock down and returns it, or who else did so meanwhile."""
    with ExitStack() as stack:
        held = stack.enter_context(HeldLock(locks, f"{span.start:06d}-{span.end:06d}"))
        # Only now: on a network's file system a directory is sure to be read anew after a file was made in it.
        rival = _overlapping(locks, span, besides=held)
        if rival is not None:
            return rival
        stack.pop_all()
    return held


def _overlapping(locks: Path, span: Span, besides: HeldLock | None = None) -> Holder | None:
    """Returns a living holder of an overlapping span, and removes the locks of dead ones."""
    for path in sorted(locks.glob("*.lock")):
        match = _SPAN_LOCK.fullmatch(path.name)
        if match is None or (besides is not None and path == besides.path):
            continue
        found = Span(int(match[1]), int(match[2]))
        if found.overlaps(span):
            owner = _owner_or_removed(path)
            if owner is not None:
                return Holder(found, owner)
    return None


def _owner_or_removed(path: Path) -> Owner | None:
    owner = living_owner(path)
    if owner is None:
        with writing(path):
            forget(path)
    return owner


def _refusal(locks: Path, holder: Holder) -> UsageError:
    (start, end), owner = holder
    later = ""
    if owner.is_elsewhere:
        later = (
            f"; if it has died there, run the same command again in {STANDSTILL_SECONDS:.0f} s: its lock is taken over "
            "once its beat has stood still for that long"
        )
    return UsageError(
        f"positions {start} to {end} are being worked on by process {owner.pid or '?'} on host {owner.host} "
        f"({locks.parent}); wait for it or stop it{later}"
    )


@contextmanager
def _published_alone(locks: Path) -> Iterator[None]:
    """Holds the publishing lock among all hosts."""
    said = False
    while True:
        rival = _publisher(locks)
        if rival is None:
            with HeldLock(locks, _PUBLISHING) as held:
                rival = _publisher(locks, besides=held)
                if rival is None:
                    yield
                    return
        if not said:
            _log.info("waiting for process %d on host %s to publish what it has done", rival.pid, rival.host)
            said = True
        time.sleep(random.uniform(0.1, 0.5))


def _publisher(locks: Path, besides: HeldLock | None = None) -> Owner | None:
    for path in sorted(locks.glob(f"{_PUBLISHING}.*.lock")):
        owner = None if besides is not None and path == besides.path else _owner_or_removed(path)
        if owner is not None:
            return owner
    return None


@contextmanager
def _kernel_lock(path: Path, wait: float | None) -> Iterator[None]:
    """Holds the kernel's lock on a file, which orders the processes of one host; waits at most `wait` seconds for it.

    Where it cannot be had the block runs without it: lock files alone keep two holders apart.
    """
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if wait is None:
            try_flock(descriptor, fcntl.LOCK_EX)
        else:
            until = time.monotonic() + wait
            while try_flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is False and time.monotonic() < until:
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)
