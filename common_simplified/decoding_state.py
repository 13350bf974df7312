"""What a batch carries from one forward pass to the next: its key–value cache, mask, positions, and its changes.

Left-padded rows need explicit position ids; what changes rows (steering, set features) is told of each pass, and
follows as rows are dropped or repeated.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from common_simplified.row_sites import RowChanges

COMPACT_BELOW = 0.75


class DecodingState:
    """The key–value cache of the live rows with their mask and positions; changes are kept in step with it."""

    def __init__(self, input_ids: torch.Tensor, mask: torch.Tensor, changes: RowChanges) -> None:
        self.input_ids = input_ids
        self.mask = mask
        self.changes = changes
        self.cache: DynamicCache | None = None

    def forward(self, model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Runs the prefill, or one step with `tokens` (batch,); returns logits of the last position, float32."""
        if self.cache is None:
            self.cache = DynamicCache(config=model.config)
            positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
            self.changes.at_prompt(self.input_ids, self.mask)
        else:
            assert tokens is not None
            self.changes.at_step()
            self.input_ids = tokens.unsqueeze(1)
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
            positions = self.mask.sum(dim=1, keepdim=True) - 1
        output = model(
            input_ids=self.input_ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()

    def keep(self, rows: list[int]) -> None:
        """Goes on with `rows`, in that order: some are dropped, or one is continued several times."""
        assert self.cache is not None
        chosen = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask = self.mask[chosen]
        self.changes.select(rows)

    @staticmethod
    def pays_to_drop(kept: int, live: int) -> bool:
        """Whether going on with `kept` of `live` rows saves more than copying their cache costs."""
        return kept < live * COMPACT_BELOW
