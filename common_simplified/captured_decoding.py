"""Decoding in memory of fixed places, so that a step can be captured once and replayed: CUDA graphs.

Eager decoding of Gemma-2-2b launches some 1,600 kernels a token and waits for their launches, not for the GPU; a
captured step is one launch. A replay runs kernels only, never Python: whatever differs from step to step (tokens,
positions, what is visible, the cache's place, vectors that steer, counts of steered passes) stands in tensors that are
overwritten in place. The prefill stays eager, since it differs in shape from batch to batch.

A step is captured anew whenever its shapes change: for each batch, where rows are dropped, and where the cache grows.
That costs about what one eager step costs. The step before each capture runs eagerly: it is the warm-up that a capture
wants, and it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, StaticLayer

from common.errors import PipelineError, UsageError
from common_simplified.decoding_state import DecodingState
from common_simplified.row_sites import RowChanges

Step = Callable[[], torch.Tensor]
Capture = Callable[[Step], Step]

CAPTURABLE = ("Gemma2ForCausalLM", "LlamaForCausalLM")
GROWTH = 128  # cache places that are added at once: attention reads all of them, filled or not
FEW_ROWS = 16  # so few rows cost a step about as much as one: dropping some would not pay for another capture


def resolve_decoding(wanted: str, device_type: str, architecture: str) -> str:
    """Returns how tokens are decoded, "eager" or "graphs"; "auto" captures where that is possible and pays.

    Raises UsageError where graphs are asked for and there are none.
    """
    if wanted == "auto":
        return "graphs" if device_type == "cuda" and architecture in CAPTURABLE else "eager"
    if wanted == "graphs" and device_type != "cuda":
        raise UsageError(f"decoding = graphs needs a CUDA device, not {device_type}; use decoding=auto or eager")
    if wanted == "graphs" and architecture not in CAPTURABLE:
        raise UsageError(
            f"decoding = graphs knows the masks of {', '.join(CAPTURABLE)}, not of {architecture}; use decoding=eager"
        )
    return wanted


def cuda_graph(step: Step) -> Step:
    """Captures `step` as a CUDA graph without running it, and returns its replay, whose result is overwritten."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise PipelineError(
            f"a decoding step cannot be captured as a CUDA graph: {reason}; use --set decoding=eager"
        ) from error

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


class CapturedDecoding:
    """The live rows of a batch, decoded by steps that `capture` has recorded; used as `DecodingState` is."""

    def __init__(self, prefill: DecodingState, max_new_tokens: int, capture: Capture) -> None:
        self._prefill = prefill
        self._changes: RowChanges = prefill.changes
        self._last_place = prefill.input_ids.shape[1] + max_new_tokens
        self._capture = capture
        self._buffers: _Buffers | None = None
        self._steps_in_shape = 0
        self._replay: Step | None = None

    def forward(self, model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Runs the prefill, or one step with `tokens` (batch,); returns logits of the last position, float32.

        A step's logits are overwritten by the next step.
        """
        if tokens is None:
            return self._prefill.forward(model)
        buffers = self._buffers_with_room()
        self._changes.at_step()
        buffers.tokens.copy_(tokens.unsqueeze(1))
        if self._replay is None and self._steps_in_shape:
            self._replay = self._capture(lambda: buffers.step(model))
        self._steps_in_shape += 1
        return buffers.step(model) if self._replay is None else self._replay()

    def keep(self, rows: list[int]) -> None:
        """Goes on with `rows`, in that order: some are dropped, or one is continued several times."""
        if self._buffers is None:
            self._prefill.keep(rows)
            return
        self._changes.select(rows)
        self._reshape(self._buffers.resized(self._buffers.n_places, rows))

    @staticmethod
    def pays_to_drop(kept: int, live: int) -> bool:
        """Whether going on with `kept` of `live` rows saves more than capturing the step anew costs."""
        return kept <= live // 2 and live > FEW_ROWS

    def _buffers_with_room(self) -> _Buffers:
        """Returns the buffers with at least one place left in the cache."""
        if self._buffers is None:
            cache = self._prefill.cache
            assert cache is not None, "the prefill comes first"
            used = self._prefill.mask.shape[1]
            self._reshape(_Buffers.filled(cache, self._prefill, min(used + GROWTH, self._last_place)))
            self._prefill.cache = None
        elif self._buffers.used == self._buffers.n_places:
            self._reshape(self._buffers.resized(min(self._buffers.n_places + GROWTH, self._last_place)))
        assert self._buffers is not None
        self._buffers.used += 1
        return self._buffers

    def _reshape(self, buffers: _Buffers) -> None:
        self._buffers, self._replay, self._steps_in_shape = buffers, None, 0


class _Buffers:
    """What a step reads and overwrites: tokens and positions (rows, 1), visibility (rows, 1, 1, places), the cache.

    `place` (1,) is where the next token's key and value go, the same for every row, since prompts are padded on the
    left. `used` is the same for Python's own use: how many places are filled.
    """

    def __init__(self, layers: list[StaticLayer], visible: torch.Tensor, positions: torch.Tensor, used: int) -> None:
        self.cache = Cache(layers=list(layers))
        self.layers = layers
        self.visible = visible
        self.positions = positions
        self.tokens = torch.zeros_like(positions)
        self.used = used
        self.place = torch.tensor([used], device=visible.device)
        self._places = torch.arange(visible.shape[-1], device=visible.device)

    @classmethod
    def filled(cls, cache: Any, prefill: DecodingState, n_places: int) -> _Buffers:
        """Returns buffers of `n_places` places that go on from a prefill."""
        mask = prefill.mask
        # A sliding layer of the prefill's cache has kept its window only: its places are the last ones.
        layers = [_fixed_layer(*_held(layer), mask.shape[1], n_places) for layer in cache.layers]
        visible = torch.zeros(len(mask), 1, 1, n_places, dtype=torch.bool, device=mask.device)
        visible[:, 0, 0, : mask.shape[1]] = mask != 0
        return cls(layers, visible, mask.sum(dim=1, keepdim=True) - 1, mask.shape[1])

    @property
    def n_places(self) -> int:
        """How many tokens a row's cache can hold."""
        return int(self.visible.shape[-1])

    def resized(self, n_places: int, rows: list[int] | None = None) -> _Buffers:
        """Returns the same with at least as many places, or of `rows` only, in that order."""
        chosen = torch.arange(len(self.visible)) if rows is None else torch.tensor(rows)
        chosen = chosen.to(self.visible.device)
        for index, layer in enumerate(self.layers):  # one at a time: the old one's memory is free for the next
            keys, values = _held(layer)
            filled = (keys[chosen, :, : self.used], values[chosen, :, : self.used])
            self.layers[index] = _fixed_layer(*filled, self.used, n_places)
        visible = torch.zeros(len(chosen), 1, 1, n_places, dtype=torch.bool, device=self.visible.device)
        visible[..., : self.n_places] = self.visible[chosen]
        return _Buffers(self.layers, visible, self.positions[chosen], self.used)

    def step(self, model: Any) -> torch.Tensor:
        """Runs one forward pass of `tokens` and returns logits of the last position, float32: tensors in place only."""
        self.positions.add_(1)
        self.visible.index_fill_(-1, self.place, True)
        output = model(
            input_ids=self.tokens,
            attention_mask=self._masks(model),
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.place.add_(1)
        return output.logits[:, -1].float()

    def _masks(self, model: Any) -> Any:
        """Returns what is added to attention logits, by kind of layer where the model has two kinds."""
        full = _additive(self.visible, model.dtype)
        if "sliding_attention" not in (getattr(model.config, "layer_types", None) or ()):
            return full
        in_window = self._places > self.place - model.config.sliding_window
        return {"full_attention": full, "sliding_attention": _additive(self.visible & in_window, model.dtype)}


def _fixed_layer(keys: torch.Tensor, values: torch.Tensor, used: int, n_places: int) -> StaticLayer:
    """Returns a layer of `n_places` places whose last ones before `used` hold keys and values (rows, heads, n, d)."""
    layer = StaticLayer(n_places)
    layer.lazy_initialization(keys, values)
    own_keys, own_values = _held(layer)
    own_keys[:, :, used - keys.shape[2] : used] = keys
    own_values[:, :, used - values.shape[2] : used] = values
    layer.cumulative_length.fill_(used)
    return layer


def _held(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.keys is not None and layer.values is not None, "a layer is filled at the prefill"
    return layer.keys, layer.values


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    hidden = torch.finfo(dtype).min
    return torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, hidden)
