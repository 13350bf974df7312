"""Rows of a steering phase's results, made by hand, shared by the tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from common.conditions import Condition, random_direction, random_feature, target, zero
from common.runs.features import Feature

CORRECT, INCORRECT = Feature(2, 20), Feature(1, 10)
ZERO_ARM = zero(CORRECT)
UP, DOWN = target("correct", CORRECT, 9.0), target("incorrect", INCORRECT, 5.0)
_PLAIN: dict[str, pa.DataType] = {
    "feature_idx": pa.int64(),
    "draw": pa.int32(),
    "left_out": pa.string(),
    "test_passed": pa.bool_(),
    "parses": pa.bool_(),
    "defines_function": pa.bool_(),
    "keeps_signature": pa.bool_(),
    "stop_reason": pa.string(),
    "failure_mode": pa.string(),
}


def direction_control(draw: int) -> Condition:
    """A random direction beside the correct target."""
    return random_direction("correct", CORRECT, 9.0, draw)


def feature_control(draw: int) -> Condition:
    """Another feature beside the correct target."""
    return random_feature("correct", CORRECT, 40 + draw, 9.0, draw)


def steered(condition: Condition, letters: str, **changes: Any) -> list[dict[str, Any]]:
    """Rows of one condition, one letter a position: what was before and after.

    `k` kept passing, `b` broke and parses, `B` broke and does not parse, `f` fixed, `w` stayed wrong, `W` stayed wrong
    and does not parse, `x` failed to generate, `.` is no row at all.
    """
    return [
        {**_row(condition, position, letter), **changes} for position, letter in enumerate(letters) if letter != "."
    ]


def _row(condition: Condition, position: int, letter: str) -> dict[str, Any]:
    lost = letter == "x"
    passed, parses = letter in "kf", letter not in "BW"
    mode = "passed" if passed else "wrong_answer" if parses else "syntax_broken"
    return {
        **condition._asdict(),
        "condition": condition.name,
        "position": position,
        "task_id": 100 + position,
        "cyclomatic_complexity": 1 + position % 4,
        "baseline_passed": letter in "kbBx",
        "baseline_parses": True,
        "test_passed": None if lost else passed,
        "parses": None if lost else parses,
        "defines_function": None if lost else parses,
        "keeps_signature": None if lost else passed,
        "failure_mode": None if lost else mode,
        "stop_reason": None if lost else "eos" if parses else "max_new_tokens",
        "left_out": "generation failed" if lost else None,
    }


def results(*parts: Sequence[dict[str, Any]]) -> pa.Table:
    """A table of rows; `name` of the conditions is left out, as in the published one."""
    rows = [row for part in parts for row in part]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "name"}
    return pa.table({name: pa.array(values, _PLAIN.get(name)) for name, values in columns.items()})
