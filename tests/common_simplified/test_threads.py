"""How many threads a decoding step gets, and that they are given back."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common_simplified.threads import threads_for_step

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def model(parameters: float, device: str = "cpu") -> Any:
    return SimpleNamespace(device=torch.device(device), num_parameters=lambda: int(parameters))


@pytest.mark.parametrize(
    "parameters, device, rows, threads",
    [(0.9e6, "cpu", 64, 1), (2.6e9, "cpu", 1, 3), (48e6, "cpu", 10, 1), (48e6, "cpu", 11, 3), (0.9e6, "cuda", 1, 3)],
)
def test_a_step_is_shared_from_a_billion_operations_on(parameters: float, device: str, rows: int, threads: int) -> None:
    with threads_for_step(model(parameters, device), rows):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_threads_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), threads_for_step(model(1e6), 1):
        raise KeyError
    assert torch.get_num_threads() == 3
