"""MBPP's reference solutions with their tests, where the data lies beside the checkout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
MBPP = SHARED / "mbpp.jsonl"


class Reference(NamedTuple):
    """One problem with its reference solution."""

    task_id: int
    code: str
    tests: list[str]
    setup: str


@cache
def _all() -> tuple[Reference, ...]:
    rows = [json.loads(line) for line in MBPP.read_text("utf-8").splitlines()]
    return tuple(Reference(row["task_id"], row["code"], row["test_list"], row["test_setup_code"]) for row in rows)


def references() -> tuple[Reference, ...]:
    """Returns all 974; skips the test where they are not there."""
    if not MBPP.is_file():
        pytest.skip(f"{MBPP} is absent")
    return _all()


def programs(chosen: tuple[Reference, ...]) -> list[tuple[str, list[str], str]]:
    """Returns references as the scenarios take programs."""
    return [(item.code, item.tests, item.setup) for item in chosen]
