"""Generating one cell of the batch grid, whatever goes wrong with single problems in it.

Running out of memory (or of time) halves the batch inside its cell and goes on; a single problem that still fails is
tried again `max_retries` times with growing pauses. What another try cannot help is excluded at once, with its reason.
One bad problem never ends a run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from common.errors import Interrupted, UsageError
from common_simplified.generation import BatchResult, GenerationEngine, GenerationTimeout, Request
from common_simplified.halving import Halving, Sleep, ran_out_of_memory
from common_simplified.sites import HookPoint


class CellResult(NamedTuple):
    """Rows of the generating stage without their keys, and the captured vectors by point, float32 (rows, d_model)."""

    rows: list[dict[str, Any]]
    vectors: dict[HookPoint, np.ndarray]


def generate_cell(
    engine: GenerationEngine,
    requests: Sequence[Request],
    temperature: float,
    max_retries: int,
    sleep: Sleep = time.sleep,
) -> CellResult:
    """Generates every request of a cell; failed ones come back with a reason and no vector."""
    halving: Halving[Request, CellResult] = Halving(
        partial(_generate, engine, temperature),
        _joined,
        partial(_excluded, engine),
        max_retries,
        is_a_problems_fault,
        helps_to_retry,
        sleep,
    )
    return halving.work(requests)


def helps_to_retry(error: Exception) -> bool:
    """Whether another try of the same prompt may succeed."""
    return ran_out_of_memory(error) or isinstance(error, GenerationTimeout)


def is_a_problems_fault(error: Exception) -> bool:
    """Whether a problem is excluded for it: a stop, a user's mistake or a bug (a change not made) is no problem's."""
    return not isinstance(error, Interrupted | UsageError | AssertionError)


def _generate(engine: GenerationEngine, temperature: float, requests: Sequence[Request], tries: int) -> CellResult:
    started = time.monotonic()
    result = engine.generate(requests, temperature)
    return _rows(result, requests, time.monotonic() - started, tries)


def _joined(one: CellResult, other: CellResult) -> CellResult:
    vectors = {point: np.concatenate([values, other.vectors[point]]) for point, values in one.vectors.items()}
    return CellResult([*one.rows, *other.rows], vectors)


def _rows(result: BatchResult, requests: Sequence[Request], seconds: float, tries: int) -> CellResult:
    rows = [
        {
            "prompt": request.prompt,
            "generated_text": row.text,
            "n_prompt_tokens": row.n_prompt_tokens,
            "n_new_tokens": len(row.tokens),
            "stop_reason": row.stop_reason,
            "steered_steps": row.steered_steps,
            "excluded_reason": None,
            "tries": tries,
            "batch_rows": len(requests),
            "batch_seconds": seconds,
        }
        for request, row in zip(requests, result.rows, strict=True)
    ]
    return CellResult(rows, {point: value.numpy() for point, value in result.captured.items()})


def _excluded(engine: GenerationEngine, request: Request, why: str, tries: int) -> CellResult:
    width = int(engine.model.config.hidden_size)
    row = {"prompt": request.prompt, "excluded_reason": why, "tries": tries, "batch_rows": 1}
    absent = np.full((1, width), np.nan, dtype=np.float32)
    return CellResult([row], {point: absent for point in engine.points})
