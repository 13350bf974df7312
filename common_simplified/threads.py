"""How many CPU threads a decoding step is worth.

Sharing small products among threads costs more than it saves: 64 rows of the bundled model (0.1 GFLOP a step) were
decoded in 0.38 s with one thread and in 0.47 s with two, while their prefill took 0.43 s and 0.32 s (two cores, fastest
of eight). The other cores are better left to the processes that test solutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORTH_SHARING = 1e9  # floating-point operations of one step


@contextmanager
def threads_for_step(model: Any, rows: int) -> Iterator[None]:
    """Keeps steps of `rows` rows to one thread within the context where they are too small to be shared."""
    before = torch.get_num_threads()
    is_small = model.device.type == "cpu" and 2 * model.num_parameters() * rows < WORTH_SHARING
    try:
        if is_small and before > 1:
            torch.set_num_threads(1)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
