"""Decoding with real CUDA graphs: the tokens of eager decoding, whatever changes rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common_simplified.captured_decoding import cuda_graph
from common_simplified.generation import Generated, GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.steering import Steering
from tests.common_simplified.conftest import PROMPTS
from tests.common_simplified.steering_cases import direction, every_point
from tests.common_simplified.test_steered_generation import after

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def on_gpu(tiny_model: Path) -> LoadedModel:
    return load_model_and_tokenizer(str(tiny_model), device="cuda", dtype="float32")


def generated(loaded: LoadedModel, requests: list[Request], capture: object) -> list[Generated]:
    with GenerationEngine(loaded, max_new_tokens=60, steering_points=every_point(loaded), capture=capture) as engine:
        engine._newlines = frozenset(range(len(loaded.tokenizer)))
        return engine.generate(requests).rows


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_graphs_give_the_tokens_of_eager_decoding(on_gpu: LoadedModel, rows: int) -> None:
    requests = [Request(PROMPTS[row % 3], after(10 + row)) for row in range(rows)]
    assert generated(on_gpu, requests, cuda_graph) == generated(on_gpu, requests, None)


def test_a_sweep_of_coefficients_is_steered_and_counted_alike(on_gpu: LoadedModel) -> None:
    points = every_point(on_gpu)
    requests = [
        Request(PROMPTS[row % 3], after(20 + row), None, Steering(direction(on_gpu, row), row - 4.0, points[row % 5]))
        for row in range(24)
    ]
    graphs, eager = generated(on_gpu, requests, cuda_graph), generated(on_gpu, requests, None)
    assert graphs == eager
    assert [row.steered_steps for row in graphs] == [len(row.tokens) for row in graphs]
    assert graphs != generated(on_gpu, [request._replace(steering=None) for request in requests], cuda_graph)


def test_captures_of_many_batches_give_their_memory_back(on_gpu: LoadedModel) -> None:
    requests = [Request(PROMPTS[row % 3], after(50)) for row in range(16)]
    generated(on_gpu, requests, cuda_graph)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(10):
        generated(on_gpu, requests, cuda_graph)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before + 64 * 1024**2
