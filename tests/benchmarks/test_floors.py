"""The memory-bandwidth floor counts each weight once a step and each living row's cache."""

from __future__ import annotations

import pytest
import torch

from benchmarks import floors
from benchmarks.random_models import GEMMA_2_2B, random_model
from benchmarks.workloads import Workload

pytestmark = pytest.mark.unit


def test_the_floor_of_two_rows_is_what_one_counts_by_hand() -> None:
    # prefill 100; step 1: 100 + 2 × (5 + 1 + 7 + 1); step 2, the second row alone: 100 + 2 × (7 + 2)
    moved = 100 + (100 + 2 * 14) + (100 + 2 * 9)
    assert floors.floor_seconds([5, 7], [2, 3], 100, 2, bandwidth=10.0) == moved / 10


def test_rows_of_one_token_take_the_prefill_alone() -> None:
    assert floors.floor_seconds([5, 7], [1, 1], 100, 2, bandwidth=10.0) == 10.0


def test_the_exact_shape_moves_the_known_bytes() -> None:
    model = random_model(GEMMA_2_2B, "meta", torch.bfloat16).model
    assert floors.weight_bytes(model) == 2 * 2_614_341_888
    assert floors.token_bytes(model) == 104 * 1024


def test_tied_weights_are_counted_once(small: Workload) -> None:
    model = small.loaded.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert floors.weight_bytes(model) == 4 * sum(value.numel() for value in model.parameters())
    assert floors.weight_bytes(model) < 4 * sum(value.numel() for value in model.state_dict().values())


def test_copying_is_reading_and_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "_copy_seconds", lambda old, new: 0.5)
    assert floors.copy_bandwidth("cpu", n_bytes=1000, repeats=2) == 4000
