"""Damaging files: single flipped bits, and cuts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import PipelineError

COPIES = 300


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Returns a copy with one bit turned over."""
    copy = bytearray(data)
    copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(copy)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Returns a copy cut short anywhere."""
    return data[: rng.randrange(len(data))]


def damaged_copies(data: bytes, seed: int, copies: int = COPIES) -> Iterator[bytes]:
    """Yields so many copies with a flipped bit, and as many cut short."""
    rng = random.Random(seed)
    for _ in range(copies):
        yield flipped(data, rng)
        yield cut(data, rng)


def unnoticed(path: Path, load: Callable[[], object], seed: int = 4, copies: int = COPIES) -> int:
    """Damages a file again and again and loads it; returns how often nobody noticed, and leaves the file as it was.

    A refusal must be one line that names the file.
    """
    data, missed = path.read_bytes(), 0
    load()
    for copy in damaged_copies(data, seed, copies):
        path.write_bytes(copy)
        try:
            load()
        except PipelineError as error:
            assert path.name in str(error), error
        else:
            missed += 1
    path.write_bytes(data)
    load()
    return missed


def assert_all_noticed(path: Path, load: Callable[[], object], copies: int = COPIES) -> None:
    """Asserts that every one of so many flipped bits, and of as many cuts, is refused by name."""
    missed = unnoticed(path, load, copies=copies)
    if missed:
        pytest.fail(f"{missed} of {2 * copies} damages of {path.name} went unnoticed")
