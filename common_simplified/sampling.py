"""Choosing the next token, without any global random state.

A sampled row draws one uniform number a step from a counter-based generator keyed by (seed, problem, temperature,
sample), and takes the token at that point of the inverse distribution function. A draw therefore depends on nothing but
its key and its step: not on the batch, its order, slices or resuming.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from common.statistics.seeding import generator


class SampleKey(NamedTuple):
    """What a sampled row's draws depend on."""

    seed: int
    task_id: int
    temperature: float
    sample: int


def uniforms(key: SampleKey, n_steps: int) -> np.ndarray:
    """Returns the row's numbers in [0, 1), shape (n_steps,), float64; earlier ones do not depend on `n_steps`."""
    source = generator(key.seed, "sampling", key.task_id, f"{key.temperature:.6f}", key.sample)
    return source.random(n_steps)


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Returns the most likely token of each row, shape (batch,); ties go to the lower token id."""
    return logits.argmax(dim=-1)


def sample(logits: torch.Tensor, temperature: float, draws: torch.Tensor) -> torch.Tensor:
    """Returns one token a row: the first whose cumulative probability exceeds the row's draw.

    `logits` (batch, vocabulary), `draws` (batch,) in [0, 1). The distribution function is summed in float64.
    """
    probabilities = torch.softmax(logits.to(torch.float64) / temperature, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    target = draws.to(cumulative).unsqueeze(-1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
