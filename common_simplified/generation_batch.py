"""Generating one cell of the batch grid, whatever goes wrong with single problems in it.

Running out of memory (or of time) halves the batch inside its cell and goes on; a single problem that still fails is
tried again `max_retries` times with growing pauses. What another try cannot help is excluded at once, with its reason.
One bad problem never ends a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from common.errors import Interrupted, UsageError
from common.logging import get_logger
from common.utils import torch_memory_cleanup
from common_simplified.generation import BatchResult, GenerationEngine, GenerationTimeout, Request
from common_simplified.sites import HookPoint

BACKOFF_SECONDS = 1.0
_log = get_logger(__name__)
Sleep = Callable[[float], None]


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
    return _CellWork(engine, temperature, max_retries, sleep).generate(requests)


def helps_to_retry(error: Exception) -> bool:
    """Whether another try of the same prompt may succeed."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError | GenerationTimeout)


@dataclass(frozen=True)
class _CellWork:
    """How a cell is generated, whatever part of it is at work."""

    engine: GenerationEngine
    temperature: float
    max_retries: int
    sleep: Sleep

    def generate(self, requests: Sequence[Request]) -> CellResult:
        result = self._attempt(requests, tries=1)
        if isinstance(result, CellResult):
            return result
        return self._halved(requests, result) if len(requests) > 1 else self._alone(requests, result)

    def _attempt(self, requests: Sequence[Request], tries: int) -> CellResult | Exception:
        """Returns the rows, or what went wrong with these problems; what is not their fault is passed on."""
        started = time.monotonic()
        try:
            result = self.engine.generate(requests, self.temperature)
        except (Interrupted, UsageError, AssertionError):
            raise  # a stop, a mistake of the caller, or a bug such as steering that was not applied: no problem's fault
        except Exception as error:  # noqa: BLE001 - a failing problem is isolated and named, whatever it raises
            torch_memory_cleanup()
            return error
        return _rows(result, requests, time.monotonic() - started, tries)

    def _halved(self, requests: Sequence[Request], error: Exception) -> CellResult:
        middle = (len(requests) + 1) // 2
        _log.warning("a batch of %d failed (%s); going on with %d", len(requests), reason(error), middle)
        halves = [self.generate(part) for part in (requests[:middle], requests[middle:])]
        vectors = {point: np.concatenate([half.vectors[point] for half in halves]) for point in self.engine.points}
        return CellResult([row for half in halves for row in half.rows], vectors)

    def _alone(self, requests: Sequence[Request], error: Exception) -> CellResult:
        tries = 1
        while helps_to_retry(error) and tries <= self.max_retries:
            self.sleep(BACKOFF_SECONDS * 2 ** (tries - 1))
            tries += 1
            result = self._attempt(requests, tries)
            if isinstance(result, CellResult):
                return result
            error = result
        _log.warning("a problem was given up after %d tries: %s", tries, reason(error))
        return _excluded(self.engine, requests[0], reason(error), tries)


def reason(error: Exception) -> str:
    """Returns an error as one short line."""
    first = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


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
