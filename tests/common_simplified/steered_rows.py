"""A small steered split on the tiny random SAEs: problems, baseline, conditions and rows of both stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from common.conditions import Condition, random_direction, target, zero
from common.execution.results import EvaluationResult
from common.problems import Problem
from common.runs.features import Feature
from common.runs.tables import EVALUATION_SCHEMA, STEERED_SCHEMA, generation_table
from common_simplified.generation import BatchResult, Generated, Request
from common_simplified.generation_batch import CellResult
from common_simplified.generation_files import ArmTables
from common_simplified.generation_work import Arm
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering
from common_simplified.steering_baseline import BaselineRow

CORRECT, INCORRECT = Feature(1, 3), Feature(2, 5)
FEATURES = {"correct": CORRECT, "incorrect": INCORRECT}
CONDITIONS = (zero(CORRECT), target("correct", CORRECT, 2.0), random_direction("incorrect", INCORRECT, -3.0, 0))
CODE = "def add(x):\n    return x + 1"


def problem(position: int) -> Problem:
    """The problem at a position, with task id 10 + position."""
    tests = (f"assert add(1) == {position + 1}", f"assert add(0) == {position}")
    code = f"def add(x):\n    return x + {position}"
    return Problem(10 + position, f"Add {position}.", code, tests, "", 1 + position % 3)


def baseline_row(position: int, **changes: Any) -> BaselineRow:
    """The stored solution of the problem at a position; even positions pass."""
    row = BaselineRow(10 + position, f"prompt {position}", position % 2 == 0, CODE, 20 + position)
    return row._replace(**changes)


def arm_of(name: str, conditions: Sequence[Condition], positions: Sequence[int] | None) -> Arm:
    """An arm of conditions."""
    inside = None if positions is None else frozenset(positions)
    return Arm(name, 0.0, len(conditions), tuple(conditions), inside)


def keys_of(arm: Arm, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The keys of an arm's rows, in order of position and condition."""
    return [
        {"position": position, "task_id": 10 + position, "temperature": 0.0, "sample": sample}
        for position in positions
        for sample in range(arm.samples)
    ]


def generated_of(arm: Arm, positions: Sequence[int], lost: Sequence[tuple[int, int]] = ()) -> pa.Table:
    """Rows of the generating stage; `lost` names the position and condition of those that were given up."""
    rows = []
    for key in keys_of(arm, positions):
        place = (key["position"], key["sample"])
        row = {**key, "prompt": f"prompt {place[0]}", "tries": 1, "batch_rows": 4, "batch_seconds": 0.5 + place[1]}
        if place in lost:
            rows.append({**row, "excluded_reason": "ValueError: cursed", "tries": 3, "batch_rows": 1})
            continue
        made = {"generated_text": f"text {place}", "n_prompt_tokens": 5, "n_new_tokens": 7, "stop_reason": "eos"}
        rows.append({**row, **made, "steered_steps": 7, "excluded_reason": None})
    return generation_table(rows, {}, STEERED_SCHEMA)


def evaluated_of(generated: pa.Table, code_of: Callable[[int, int], tuple[str, str]]) -> pa.Table:
    """Rows of the evaluating stage; `code_of` gives a row's code and outcome by position and condition."""
    rows = []
    for row in generated.to_pylist():
        key = {name: row[name] for name in ("position", "task_id", "temperature", "sample")}
        if row["excluded_reason"] is not None:
            rows.append(key)
            continue
        code, outcome = code_of(row["position"], row["sample"])
        passed = outcome == "passed"
        judged = {"generated_code": code, "test_passed": passed, "outcome": outcome, "sandbox_rung": 2, "opaque": False}
        counts = {"error_message": None, "tests_passed": 2 * passed, "tests_total": 2}
        seconds = {"cpu_seconds": 0.1 * row["position"], "wall_seconds": 0.2, "peak_memory_mb": 9.0}
        rows.append({**key, **judged, **counts, **seconds})
    return pa.Table.from_pylist(rows, schema=EVALUATION_SCHEMA)


def tables_of(arm: Arm, positions: Sequence[int], lost: Sequence[tuple[int, int]] = ()) -> ArmTables:
    """Both stages of an arm, every solution a wrong answer that parses."""
    generated = generated_of(arm, positions, lost)
    return ArmTables(generated, evaluated_of(generated, lambda position, sample: (CODE, "wrong_answer")))


def request(arm: Arm, position: int, sample: int) -> Request:
    """A request that names its position and condition in its prompt."""
    condition = arm.conditions[sample] if arm.conditions else None
    point = HookPoint(1, "resid_post")
    steering = None if condition is None else Steering(torch.zeros(4), condition.coefficient, point)
    return Request(f"{position}/{sample}", lambda text: False, None, steering)


class SpeakingEngine:
    """Stands for the engine: answers each prompt with itself, and keeps what it was asked for."""

    points: tuple[HookPoint, ...] = ()

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def generate(self, requests: Sequence[Request], temperature: float = 0.0) -> BatchResult:
        """Returns one row a request."""
        assert temperature == 0.0
        self.asked.append([item.prompt for item in requests])
        rows = [Generated(f"said {item.prompt}", (1, 2), 3, "eos", 2) for item in requests]
        return BatchResult(rows, {})


class YesPool:
    """Stands for the pool of the sandbox: every solution passes."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def submit(self, code: str, tests: Sequence[str], setup_code: str = "") -> Future[EvaluationResult]:
        """Returns a verdict at once."""
        self.codes.append(code)
        done: Future[EvaluationResult] = Future()
        done.set_result(EvaluationResult(True, "passed", ("passed",) * len(tests), len(tests), len(tests), rung=2))
        return done


def as_cell(result: BatchResult) -> CellResult:
    """A batch's rows as the generating stage keeps them."""
    return CellResult([row._asdict() for row in result.rows], {})


def stored(directory: Path) -> dict[str, bytes]:
    """The bytes of every file under a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
