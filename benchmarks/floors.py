"""The memory-bandwidth floor of decoding (P2): the fewest seconds in which rows of given lengths could be decoded.

Each step reads every weight once, and of each row that is not finished the keys and values of its tokens so far; the
prefill reads every weight once more. How fast memory is, a copy tells in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

COPIED_BYTES = 4 << 30


def floor_seconds(
    prompts: Sequence[int], lengths: Sequence[int], weight_bytes: int, token_bytes: int, bandwidth: float
) -> float:
    """Returns the floor of rows with `prompts` tokens before and `lengths` new ones; `bandwidth` is bytes a second.

    A row of n new tokens takes the prefill and n − 1 steps; step s reads the prompt and s tokens of each living row.
    """
    moved = weight_bytes
    for step in range(1, max(lengths)):
        living = [prompt + step for prompt, length in zip(prompts, lengths, strict=True) if length > step]
        moved += weight_bytes + token_bytes * sum(living)
    return moved / bandwidth


def weight_bytes(model: Any) -> int:
    """Returns the bytes of all weights, tied ones once."""
    return sum(value.numel() * value.element_size() for value in model.parameters())


def token_bytes(model: Any) -> int:
    """Returns the bytes of one token's keys and values in all layers."""
    config = model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize


def copy_bandwidth(device: str | torch.device, n_bytes: int = COPIED_BYTES, repeats: int = 10) -> float:
    """Returns bytes read and written a second when memory is copied, the best of `repeats`."""
    old = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    new = torch.empty_like(old)
    best = min(_copy_seconds(old, new) for _ in range(repeats))
    return 2 * n_bytes / best


def _copy_seconds(old: torch.Tensor, new: torch.Tensor) -> float:
    wait(old.device)
    started = time.perf_counter()
    new.copy_(old)
    wait(old.device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Waits until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
