"""A cell of the grid when problems in it fail: halving, retrying, excluding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from common.errors import Interrupted
from common_simplified.generation import BatchResult, GenerationEngine, GenerationTimeout, Request
from common_simplified.generation_batch import generate_cell
from common_simplified.model_loader import LoadedModel
from common_simplified.sites import HookPoint

pytestmark = pytest.mark.unit
POINT = HookPoint(1, "resid_post")


class FailingEngine(GenerationEngine):
    """The real engine, which fails as told: `limit` rows at most, and `poison` prompts never (or the first times)."""

    def __init__(self, loaded: LoadedModel, error: Exception, limit: int = 99, poison: dict[str, int] | None = None):
        super().__init__(loaded, max_new_tokens=4, points=[POINT])
        self.error, self.limit, self.poison = error, limit, dict(poison or {})
        self.sizes: list[int] = []

    def generate(self, requests: Sequence[Request], temperature: float = 0.0) -> BatchResult:
        self.sizes.append(len(requests))
        if len(requests) > self.limit:
            raise self.error
        for request in requests:
            if self.poison.get(request.prompt, 0) > 0:
                self.poison[request.prompt] -= len(requests) == 1
                raise self.error
        return super().generate(requests, temperature)


def requests(count: int) -> list[Request]:
    return [Request(f"Write number {index}.\n\n# Solution:", lambda text: False) for index in range(count)]


def test_out_of_memory_halves_the_batch_and_loses_nothing(loaded: LoadedModel) -> None:
    engine = FailingEngine(loaded, torch.OutOfMemoryError("CUDA out of memory"), limit=2)
    halved = generate_cell(engine, requests(5), 0.0, 3)
    whole = generate_cell(GenerationEngine(loaded, max_new_tokens=4, points=[POINT]), requests(5), 0.0, 3)
    assert engine.sizes == [5, 3, 2, 1, 2]
    assert [row["generated_text"] for row in halved.rows] == [row["generated_text"] for row in whole.rows]
    assert [row["batch_rows"] for row in halved.rows] == [2, 2, 1, 2, 2]
    np.testing.assert_allclose(halved.vectors[POINT], whole.vectors[POINT], atol=1e-5)


def test_a_problem_that_always_fails_is_excluded_alone_and_named(loaded: LoadedModel) -> None:
    poison = {requests(4)[2].prompt: 99}
    engine = FailingEngine(loaded, ValueError("the prompt is cursed"), poison=poison)
    result = generate_cell(engine, requests(4), 0.0, 3, sleep=lambda seconds: None)
    reasons = [row["excluded_reason"] for row in result.rows]
    assert reasons == [None, None, "ValueError: the prompt is cursed", None]
    assert np.isnan(result.vectors[POINT][2]).all() and np.isfinite(result.vectors[POINT][[0, 1, 3]]).all()
    assert result.rows[2]["tries"] == 1, "another try cannot help here"


def test_running_out_of_memory_alone_is_tried_again_with_growing_pauses(loaded: LoadedModel) -> None:
    pauses: list[float] = []
    engine = FailingEngine(loaded, torch.OutOfMemoryError("full"), poison={requests(1)[0].prompt: 2})
    result = generate_cell(engine, requests(1), 0.0, 3, sleep=pauses.append)
    assert result.rows[0]["excluded_reason"] is None and result.rows[0]["tries"] == 3
    assert pauses == [1.0, 2.0]


def test_retries_end_and_the_problem_is_excluded(loaded: LoadedModel) -> None:
    engine = FailingEngine(loaded, GenerationTimeout("too slow"), poison={requests(1)[0].prompt: 99})
    result = generate_cell(engine, requests(1), 0.0, 3, sleep=lambda seconds: None)
    assert result.rows[0]["excluded_reason"] == "GenerationTimeout: too slow" and result.rows[0]["tries"] == 4


def test_a_stop_request_is_not_taken_for_a_failing_problem(loaded: LoadedModel) -> None:
    with pytest.raises(Interrupted):
        generate_cell(FailingEngine(loaded, Interrupted("stop"), limit=0), requests(3), 0.0, 3)
