"""The one generation engine: a batch of prompts in; new text, stop reasons and captured residual vectors out.

The residual stream is captured during the prefill, at the last prompt token of every asked point; decoding captures
nothing. Several samples of one prompt share its prefill. Rows stop when their solution is finished and are dropped from
the batch as they do. In float32 a row's tokens do not depend on the batch it is in. Gemma-2 runs with eager attention,
which knows its soft-cap; left-padded rows get explicit position ids.

Each row may be steered in a way of its own, at any of the points that the engine was made with: at every real position
of the prompt and at every new token; or a feature of its own may be set (`patching`), at the newest position of each
forward pass. What is captured at or after such a point is the changed stream. A row whose change was not made in each
of its forward passes is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from common.errors import PipelineError
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.captured_decoding import Capture, CapturedDecoding
from common_simplified.decoding_state import DecodingState
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.patching import FeaturePatch, PatchingSites
from common_simplified.row_sites import RowChanges
from common_simplified.sampling import SampleKey, greedy, sample, uniforms
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering, SteeringSites
from common_simplified.stopping import Finished, RowStopper, decode, newline_tokens
from common_simplified.threads import threads_for_step


class GenerationTimeout(PipelineError):
    """A batch took longer than `generation_timeout_seconds`."""


class Request(NamedTuple):
    """One row: its prompt, when its text is finished, the key of its random draws (None for greedy), its change.

    `steering` is a direction that is added, or a feature that is set.
    """

    prompt: str
    finished: Finished
    key: SampleKey | None = None
    steering: Steering | FeaturePatch | None = None


class Generated(NamedTuple):
    """One row's result; `tokens` holds every token produced, an end-of-text token included.

    `steered_steps` is how many forward passes were changed, one for each new token; None where the row was left alone.
    """

    text: str
    tokens: tuple[int, ...]
    n_prompt_tokens: int
    stop_reason: str
    steered_steps: int | None = None


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
    steered_steps: int | None = None


class GenerationEngine:
    """Generates with one loaded model; `points` are captured for every prompt.

    `steering_points` can be steered, features read at `patching_points` can be set. An engine with either keeps hooks
    in the model: use it as a context manager, or `close` it. Compile the model after making the engine, since a
    compiled model ignores hooks that come later. With `capture` (see `captured_decoding`) a decoding step is recorded
    and replayed; without, it is run anew each time.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_new_tokens: int,
        points: Sequence[HookPoint] = (),
        steering_points: Sequence[HookPoint] = (),
        patching_points: Sequence[HookPoint] = (),
        steer_bos: bool = True,
        timeout_seconds: float = float("inf"),
        check_stop: Callable[[], None] = lambda: None,
        capture: Capture | None = None,
    ) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.max_new_tokens = max_new_tokens
        self.points = list(points)
        self.timeout_seconds = timeout_seconds
        self.check_stop = check_stop
        self.capture = capture
        self._newlines = newline_tokens(self.tokenizer)
        self._end_tokens = end_tokens(self.model, self.tokenizer)
        spared_bos = None if steer_bos else self.tokenizer.bos_token_id
        self._steering = SteeringSites(self.model, steering_points, spared_bos=spared_bos)
        try:
            self._changes = RowChanges(self._steering, PatchingSites(self.model, patching_points))
        except BaseException:
            self._steering.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the hooks; the engine can still generate, but no longer change rows."""
        self._changes.close()

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], temperature: float = 0.0) -> BatchResult:
        """Generates one completion a request.

        Greedy at temperature 0; otherwise each request needs a key. Raises `GenerationTimeout`, the model's own
        out-of-memory error, or whatever `check_stop` raises between two steps; UsageError where a request is steered at
        a point that the engine has no hook at, AssertionError where steering was not applied throughout.
        """
        started = time.monotonic()
        keys = [(request.prompt, request.steering) for request in requests]
        prefills = list(dict.fromkeys(keys))
        owners = [prefills.index(key) for key in keys]
        encoded = self.encode([prompt for prompt, _ in prefills])
        rows = [self._new_row(index, request, temperature) for index, request in enumerate(requests)]
        extractor = ActivationExtractor(self.model, self.points)
        state = self._new_state(encoded)
        with self._changes.loaded([steering for _, steering in prefills]):
            with extractor:
                logits = state.forward(self.model)
            captured = extractor.get_activations() if self.points else {}
            if len(prefills) < len(requests):  # samples of one prompt share its prefill
                state.keep(owners)
                logits = logits[owners]
                captured = {point: vectors[owners] for point, vectors in captured.items()}
            with threads_for_step(self.model, len(rows)):
                self._decode(state, logits, rows, temperature, started)
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        done = zip(rows, requests, owners, strict=True)
        return BatchResult([self._result(row, request, lengths[owner]) for row, request, owner in done], captured)

    def _decode(
        self,
        state: DecodingState | CapturedDecoding,
        logits: torch.Tensor,
        live: list[_Row],
        temperature: float,
        started: float,
    ) -> None:
        """Adds tokens to the rows, from the prefill's logits on, until each is finished or at the limit."""
        running = len(live)
        for step in range(self.max_new_tokens):
            self._check(started)
            tokens = self._choose(logits, live, temperature, step)
            kept = [place for place, row in enumerate(live) if not self._advance(row, int(tokens[place]))]
            if not kept or step + 1 == self.max_new_tokens:
                break
            if state.pays_to_drop(len(kept), len(live)):
                self._note_counts(live)
                state.keep(kept)
                tokens, live = tokens[kept], [live[place] for place in kept]
            elif len(kept) < running:
                self._changes.count_only(kept)
            running = len(kept)
            logits = state.forward(self.model, tokens)
        self._note_counts(live)

    def _note_counts(self, live: list[_Row]) -> None:
        for row, count in zip(live, self._changes.counts(), strict=True):
            row.steered_steps = count

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Returns left-padded token ids and mask on the model's device, each row with exactly one BOS."""
        ids, mask = tokenize_prompts(self.tokenizer, prompts)
        assert bool(mask[:, -1].all()), "prompts must be padded on the left"
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}

    def _new_state(self, encoded: dict[str, torch.Tensor]) -> DecodingState | CapturedDecoding:
        eager = DecodingState(encoded["input_ids"], encoded["attention_mask"], self._changes)
        return eager if self.capture is None else CapturedDecoding(eager, self.max_new_tokens, self.capture)

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

    def _result(self, row: _Row, request: Request, n_prompt_tokens: int) -> Generated:
        expected = None if request.steering is None else len(row.tokens)
        assert row.steered_steps == expected, (
            f"row {row.index}: expected {expected} steered forward passes, counted {row.steered_steps}"
        )
        text = decode(self.tokenizer, row.tokens)
        return Generated(text, tuple(row.tokens), int(n_prompt_tokens), row.stop_reason, row.steered_steps)

    def _check(self, started: float) -> None:
        self.check_stop()
        if time.monotonic() - started > self.timeout_seconds:
            raise GenerationTimeout(
                f"a batch took over {self.timeout_seconds:g} s; raise generation_timeout_seconds or use --batch-size"
            )


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Returns the ids that end a text: the generation configuration's (Gemma-it has two) and the tokenizer's."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(item) for item in [*ids, tokenizer.eos_token_id] if item is not None)
