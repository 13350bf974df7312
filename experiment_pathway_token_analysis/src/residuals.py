"""The stream of the last prompt token: read at every layer, changed at some, behind a prefix that is computed once.

All but the last token of a prompt go through the model once; their keys and values are kept. Every later pass is the
last token alone, as many copies of it as are wanted side by side, each changed in its own way: they share the prefix,
all stand at the last position, and the mask lets none see another. What attention reads of earlier positions does not
depend on a change at the last one, so a copy behaves as the whole prompt would. A pass stops as soon as the last layer
that is wanted is read. 128 copies of 100 tokens take 6 ms in the bundled model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self

import torch
from transformers.cache_utils import DynamicCache

from common.errors import UsageError
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sites import HookPoint, register_writer

Change = Callable[[torch.Tensor], torch.Tensor]
SLIDING = "sliding_attention"


class Halted(Exception):
    """The pass has reached the last layer that is wanted."""


class SharedPrefix(DynamicCache):
    """The keys and values of a prompt but for its last token; a pass adds nothing to it."""

    def __init__(self, filled: DynamicCache) -> None:
        super().__init__()
        self.layers = filled.layers
        self.layer_class_to_replicate = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns keys and values of the prefix followed by those given, and keeps nothing of these."""
        del args, kwargs
        keys: torch.Tensor = self.layers[layer_idx].keys  # type: ignore[assignment]
        values: torch.Tensor = self.layers[layer_idx].values  # type: ignore[assignment]
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    @property
    def n_bytes(self) -> int:
        """What it holds."""
        return sum(part.nbytes for layer in self.layers for part in (layer.keys, layer.values))  # type: ignore[union-attr]


class LastToken:
    """Runs the last token of prompts through a model whose stream is read, and may be changed, at `points`.

    Use it as a context manager: its hooks stand for as long. `streams` holds, by layer, what the latest pass read,
    after any change there, (rows, d_model).
    """

    def __init__(
        self, loaded: LoadedModel, points: Mapping[int, HookPoint], prompts: Sequence[str], room_bytes: int
    ) -> None:
        self.loaded, self.points, self.prompts, self._room = loaded, dict(points), list(prompts), room_bytes
        self.streams: dict[int, torch.Tensor] = {}
        self.changes: dict[int, Change] = {}
        self._until = -1
        self._prefixes: dict[int, SharedPrefix] = {}
        self._tokens: dict[int, torch.Tensor] = {}
        self._hooks = ExitStack()
        refuse_points(self.points)

    def __enter__(self) -> Self:
        for layer, point in self.points.items():
            self._hooks.callback(register_writer(self.loaded.model, point, self._visitor(layer)).remove)
        return self

    def __exit__(self, *_error: object) -> None:
        self._hooks.close()
        self._prefixes.clear()

    def run(self, prompt: int, rows: int, until: int, changes: Mapping[int, Change] | None = None) -> None:
        """Passes `rows` copies of a prompt's last token up to layer `until`, changed by `changes` where they stand.

        A change takes and returns the stream at its layer, (rows, d_model).
        """
        self.streams, self._until = {}, until
        with suppress(Halted):
            self._pass(self.loaded.model.model, prompt, rows, changes)

    @torch.no_grad()
    def logits(self, prompt: int, rows: int, changes: Mapping[int, Change] | None = None) -> torch.Tensor:
        """Returns the logits (rows, vocabulary) of the next token, the stream changed as in `run`."""
        return self._pass(self.loaded.model, prompt, rows, changes).logits[0]

    def _pass(self, model: Any, prompt: int, rows: int, changes: Mapping[int, Change] | None) -> Any:
        ids, prefix = self._ids(prompt), self._prefix(prompt)
        self.changes = dict(changes or {})
        try:
            return model(
                input_ids=ids[:, -1:].expand(1, rows),
                position_ids=torch.full((1, rows), ids.shape[1] - 1, device=self.loaded.device),
                attention_mask=self._masks(ids.shape[1] - 1, rows),
                past_key_values=prefix,
                use_cache=True,
            )
        finally:
            self._until, self.changes = -1, {}

    def _masks(self, prefix: int, rows: int) -> Any:
        """Returns what is added to attention's logits: nothing for the prefix and the row itself, else the lowest."""
        config, lowest = self.loaded.model.config, torch.finfo(self.loaded.dtype).min
        mask = torch.full((1, 1, rows, prefix + rows), lowest, dtype=self.loaded.dtype)
        mask[..., :prefix] = 0
        mask[0, 0, torch.arange(rows), prefix + torch.arange(rows)] = 0
        if SLIDING not in (getattr(config, "layer_types", None) or ()):
            return mask.to(self.loaded.device)
        near = mask.clone()
        near[..., : max(0, prefix + 1 - config.sliding_window)] = lowest
        return {"full_attention": mask.to(self.loaded.device), SLIDING: near.to(self.loaded.device)}

    def _visitor(self, layer: int) -> Change:
        def visit(stream: torch.Tensor) -> torch.Tensor:
            if layer in self.changes:
                stream = self.changes[layer](stream[0]).unsqueeze(0)
            if self._until >= 0:
                self.streams[layer] = stream[0]
            if layer == self._until:
                raise Halted
            return stream

        return visit

    def _ids(self, prompt: int) -> torch.Tensor:
        if prompt not in self._tokens:
            ids = tokenize_prompts(self.loaded.tokenizer, [self.prompts[prompt]]).input_ids
            if ids.shape[1] < 2:
                raise UsageError(f"prompt {prompt} is only {ids.shape[1]} token long; give one of at least 2")
            most = getattr(self.loaded.model.config, "max_position_embeddings", None)
            if most is not None and ids.shape[1] > most:
                raise UsageError(
                    f"prompt {prompt} is {ids.shape[1]:,} tokens long, the model reads {most:,}; shorten it"
                )
            self._tokens[prompt] = ids.to(self.loaded.device)
        return self._tokens[prompt]

    def _prefix(self, prompt: int) -> SharedPrefix:
        found = self._prefixes.get(prompt)
        if found is None:
            found = self._computed(prompt)
            if sum(item.n_bytes for item in self._prefixes.values()) + found.n_bytes <= self._room:
                self._prefixes[prompt] = found
        return found

    @torch.no_grad()
    def _computed(self, prompt: int) -> SharedPrefix:
        # Made without a configuration, the cache keeps every position also where attention slides: the mask cuts it.
        cache, until, changes = DynamicCache(), self._until, self.changes
        self._until, self.changes = -1, {}
        self.loaded.model.model(input_ids=self._ids(prompt)[:, :-1], past_key_values=cache, use_cache=True)
        self._until, self.changes = until, changes
        return SharedPrefix(cache)


def refuse_points(points: Mapping[int, HookPoint]) -> None:
    """Raises `UsageError` where the stream cannot be read and written in one place, or layers are not in order."""
    for layer, point in points.items():
        if point.site == "resid_mid":
            raise UsageError(
                f"{point}: the stream cannot be changed where it is read; pathways need resid_post or _pre"
            )
        if layer != point.layer or point.site != next(iter(points.values())).site:
            raise UsageError(
                f"the SAE of layer {layer} reads {point}; pathways need SAEs of one site, each of its layer"
            )
