"""The one generation engine: a batch of prompts in; new text, stop reasons and captured residual vectors out.

The residual stream is captured during the prefill, at the last prompt token of every asked point; decoding captures
nothing. Several samples of one prompt share its prefill. Rows stop when their solution is finished and are dropped from
the batch as they do. In float32 a row's tokens do not depend on the batch it is in. Gemma-2 runs with eager attention,
which knows its soft-cap; left-padded rows get explicit position ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import DynamicCache

from common.errors import PipelineError
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sampling import SampleKey, greedy, sample, uniforms
from common_simplified.sites import HookPoint
from common_simplified.stopping import Finished, RowStopper, decode, newline_tokens

COMPACT_BELOW = 0.75


class GenerationTimeout(PipelineError):
    """A batch took longer than `generation_timeout_seconds`."""


class Request(NamedTuple):
    """One row: its prompt, when its text is finished, and the key of its random draws (None for greedy)."""

    prompt: str
    finished: Finished
    key: SampleKey | None = None


class Generated(NamedTuple):
    """One row's result; `n_new_tokens` counts every token produced, an end-of-text token included."""

    text: str
    tokens: tuple[int, ...]
    n_prompt_tokens: int
    stop_reason: str


class BatchResult(NamedTuple):
    """Results in the order of the requests, and per point the captured vectors, float32 (batch, d_model)."""

    rows: list[Generated]
    captured: dict[HookPoint, torch.Tensor]


@dataclass
class _Row:
    """A row while it is being generated."""

    index: int
    stopper: RowStopper
    draws: np.ndarray | None
    tokens: list[int] = field(default_factory=list)
    stop_reason: str = "max_new_tokens"


class GenerationEngine:
    """Generates with one loaded model; `points` are captured for every prompt."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_new_tokens: int,
        points: Sequence[HookPoint] = (),
        timeout_seconds: float = float("inf"),
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.max_new_tokens = max_new_tokens
        self.points = list(points)
        self.timeout_seconds = timeout_seconds
        self.check_stop = check_stop
        self._newlines = newline_tokens(self.tokenizer)
        self._end_tokens = end_tokens(self.model, self.tokenizer)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], temperature: float = 0.0) -> BatchResult:
        """Generates one completion a request.

        Greedy at temperature 0; otherwise each request needs a key. Raises `GenerationTimeout`, the model's own
        out-of-memory error, or whatever `check_stop` raises between two steps.
        """
        started = time.monotonic()
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        encoded = self.encode(prompts)
        rows = [self._new_row(index, request, temperature) for index, request in enumerate(requests)]
        extractor = ActivationExtractor(self.model, self.points)
        state = _DecodingState(encoded["input_ids"], encoded["attention_mask"])
        with extractor:
            logits = state.forward(self.model)
        captured = extractor.get_activations() if self.points else {}
        owners = [prompts.index(request.prompt) for request in requests]
        if len(prompts) < len(requests):  # samples of one prompt share its prefill
            state.keep(owners)
            logits = logits[owners]
            captured = {point: vectors[owners] for point, vectors in captured.items()}
        live = rows
        for step in range(self.max_new_tokens):
            self._check(started)
            tokens = self._choose(logits, live, temperature, step)
            kept = [place for place, row in enumerate(live) if not self._advance(row, int(tokens[place]))]
            if not kept or step + 1 == self.max_new_tokens:
                break
            if len(kept) < len(live) * COMPACT_BELOW:
                state.keep(kept)
                tokens, live = tokens[kept], [live[place] for place in kept]
            logits = state.forward(self.model, tokens)
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        return BatchResult([self._result(row, lengths[owners[row.index]]) for row in rows], captured)

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Returns left-padded token ids and mask on the model's device, each row with exactly one BOS."""
        ids, mask = tokenize_prompts(self.tokenizer, prompts)
        assert bool(mask[:, -1].all()), "prompts must be padded on the left"
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}

    def _new_row(self, index: int, request: Request, temperature: float) -> _Row:
        assert (request.key is None) == (temperature == 0), "a key is needed exactly where tokens are sampled"
        draws = uniforms(request.key, self.max_new_tokens) if request.key else None
        return _Row(index, RowStopper(self.tokenizer, self._newlines, request.finished), draws)

    def _choose(self, logits: torch.Tensor, live: list[_Row], temperature: float, step: int) -> torch.Tensor:
        if temperature == 0:
            return greedy(logits)
        draws = torch.tensor([row.draws[step] for row in live if row.draws is not None], dtype=torch.float64)
        return sample(logits, temperature, draws)

    def _advance(self, row: _Row, token: int) -> bool:
        """Adds a token to a row and returns whether the row is finished (an already finished one stays as it is)."""
        if row.stop_reason != "max_new_tokens":
            return True
        row.tokens.append(token)
        if token in self._end_tokens:
            row.stop_reason = "eos"
        elif row.stopper.is_done(row.tokens):
            row.stop_reason = "function_end"
        return row.stop_reason != "max_new_tokens"

    def _result(self, row: _Row, n_prompt_tokens: int) -> Generated:
        return Generated(decode(self.tokenizer, row.tokens), tuple(row.tokens), int(n_prompt_tokens), row.stop_reason)

    def _check(self, started: float) -> None:
        self.check_stop()
        if time.monotonic() - started > self.timeout_seconds:
            raise GenerationTimeout(
                f"a batch took over {self.timeout_seconds:g} s; raise generation_timeout_seconds or use --batch-size"
            )


class _DecodingState:
    """The key–value cache of the live rows with their mask and positions."""

    def __init__(self, input_ids: torch.Tensor, mask: torch.Tensor) -> None:
        self.input_ids = input_ids
        self.mask = mask
        self.cache: DynamicCache | None = None

    def forward(self, model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """Runs the prefill, or one step with `tokens` (batch,); returns logits of the last position, float32."""
        if self.cache is None:
            self.cache = DynamicCache(config=model.config)
            positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        else:
            assert tokens is not None
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


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Returns the ids that end a text: the generation configuration's (Gemma-it has two) and the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(item) for item in [*ids, tokenizer.eos_token_id] if item is not None)
