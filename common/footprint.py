"""How much memory a phase needs at its peak, from the model's shape and the settings, before anything is loaded.

A batch of the generating phases holds the weights, a key–value cache that grows to its end, and in each forward pass
the working memory of one block. The other large thing is one SAE with what it encodes: never beside a cache. Prompts
and solutions are counted with the lengths that MBPP has: 95 % of its prompts are shorter than `PROMPT_TOKENS`, and no
reference solution is longer than `NEW_TOKENS`. A batch that needs more is halved where memory runs out.

Held against measured peaks in tests/common_simplified/test_measured_memory.py.
"""

from __future__ import annotations

from typing import NamedTuple

from common.config import Config
from common.model_shape import ModelSize
from common.phases import PhaseSpec
from common.work_sizes import split_problems

PROMPT_TOKENS = 256
NEW_TOKENS = 512
FLOAT32 = 4
ENCODED_ROWS = 512
# What a process takes before it holds a model: the interpreter with torch and transformers, a CUDA context.
RUNTIME_RAM = 650_000_000
RUNTIME_RAM_WITHOUT_MODEL = 400_000_000
CUDA_CONTEXT = 600_000_000
# Sampling sums probabilities in float64: the logits, their softmax and its running sum.
_SAMPLING_BYTES = 24
_STEERING_PHASES = ("4.5", "4.8", "7.6")
FIT_PHASES = ("1.0", "7.3")
_RANKING_COPIES = 8
_TABLE_COLUMNS = 16


class Memory(NamedTuple):
    """Bytes at the peak of a phase, by what takes them."""

    weights: int = 0
    saes: int = 0
    cache: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of it together."""
        return sum(self)

    def words(self) -> str:
        """Returns the parts in GB, the large ones first: `weights 5.2, cache 2.6`."""
        parts = sorted(zip(self._fields, self, strict=True), key=lambda part: -part[1])
        return ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts if size >= 5e7) or "the process itself"


class Batch(NamedTuple):
    """The largest batch of a phase: prompts that are prefilled, rows that go on from them, lengths in tokens."""

    prompts: int
    rows: int
    prompt_tokens: int
    new_tokens: int
    sampled: bool


def batch_of(spec: PhaseSpec, config: Config) -> Batch:
    """Returns the largest batch that `spec` generates."""
    steers = spec.id in _STEERING_PHASES
    limit = config.phase4_5_max_new_tokens if steers else config.max_new_tokens
    sampled = spec.id == "3.5" and max(config.phase3_5_temperatures) > 0
    samples = config.phase3_5_samples if sampled else 1
    return Batch(config.batch_size, config.batch_size * samples, PROMPT_TOKENS, min(limit, NEW_TOKENS), sampled)


def phase_memory(
    spec: PhaseSpec, config: Config, size: ModelSize, width: int, itemsize: int, *, in_ram: bool
) -> Memory:
    """Returns what a phase holds at its peak on the device that computes; `width` is that of the SAEs.

    `itemsize` are the bytes of a number of the model; `in_ram` says whether it computes in RAM, as phases without a
    model always do.
    """
    encoder = size.d_model * width * FLOAT32
    if spec.id in ("2.5", "2.10"):
        scores = split_problems("sae", config) * width * FLOAT32 * _RANKING_COPIES
        return Memory(saes=encoder, activations=scores + size.n_layers * width * _TABLE_COLUMNS * 8)
    if spec.id == "3.8":
        return Memory(saes=2 * encoder)
    if spec.needs != "model":
        return Memory()
    weights = size.n_parameters * itemsize
    if spec.id == "2.2":
        return largest(*_reading(config, size, weights, encoder, width, itemsize))
    batch = batch_of(spec, config)
    stages = [generating(batch, size, weights, itemsize)]
    if spec.id in FIT_PHASES:
        stages += fitting(batch, size, weights, width, itemsize, in_ram=in_ram)
    return largest(*stages)


def cache_bytes(size: ModelSize, rows: int, tokens: int, itemsize: int) -> int:
    """Returns the size of the key–value cache of `rows` rows of `tokens` tokens."""
    return rows * tokens * 2 * size.n_layers * size.shape.n_kv_heads * size.shape.head_dim * itemsize


def prefill_bytes(size: ModelSize, prompts: int, tokens: int, itemsize: int) -> int:
    """Returns the working memory of a forward pass over whole prompts, in its most costly block.

    Eager attention holds the scores of every head in the model's type twice, in float32 twice (softmax), and keys and
    values repeated for every head; the MLP three tensors of its width; norms work in float32.
    """
    shape, n = size.shape, prompts * tokens
    stream = n * size.d_model * (3 * itemsize + 3 * FLOAT32)
    scores = prompts * shape.n_heads * tokens * tokens * (2 * itemsize + 2 * FLOAT32)
    heads = n * (3 * shape.n_heads + 4 * shape.n_kv_heads) * shape.head_dim * itemsize
    return stream + max(scores + heads, 3 * n * shape.d_mlp * itemsize)


def step_bytes(size: ModelSize, batch: Batch, itemsize: int) -> int:
    """Returns the working memory of one decoding step at the end of a batch: one block's cache anew, and the logits."""
    shape, tokens = size.shape, batch.rows * (batch.prompt_tokens + batch.new_tokens)
    heads = shape.n_kv_heads + (shape.n_heads if shape.n_heads > shape.n_kv_heads else 0)
    repeated = tokens * 2 * heads * shape.head_dim * itemsize
    return max(repeated, logits_bytes(size, batch, itemsize))


def logits_bytes(size: ModelSize, batch: Batch, itemsize: int) -> int:
    """Returns what choosing the next token takes: the logits with a soft-cap's copy, in float32, and for sampling."""
    each = 2 * itemsize + FLOAT32 + (_SAMPLING_BYTES if batch.sampled else 0)
    return batch.rows * size.shape.vocab_size * each


def generating(batch: Batch, size: ModelSize, weights: int, itemsize: int) -> Memory:
    """Returns what generating one batch takes at its peak: its last step or its prefill."""
    cache = cache_bytes(size, batch.rows, batch.prompt_tokens + batch.new_tokens, itemsize)
    captured = batch.rows * size.n_layers * size.d_model * FLOAT32
    begun = cache_bytes(size, batch.prompts, batch.prompt_tokens, itemsize)
    prefill = prefill_bytes(size, batch.prompts, batch.prompt_tokens, itemsize) - (cache - begun)
    return Memory(weights, 0, cache, captured + max(prefill, step_bytes(size, batch, itemsize)))


def fitting(
    batch: Batch, size: ModelSize, weights: int, width: int, itemsize: int, *, in_ram: bool
) -> tuple[Memory, ...]:
    """Returns the stages of measuring fit: a prefill that keeps every stream, then one whole SAE with what it encodes.

    The streams go to RAM, where they are copied once, without padding.
    """
    tokens = batch.prompts * batch.prompt_tokens
    streams = fit_streams(batch, size)
    prefill = prefill_bytes(size, batch.prompts, batch.prompt_tokens, itemsize)
    whole = 2 * size.d_model * width * FLOAT32
    encoded = tokens * (3 * width + 6 * size.d_model) * FLOAT32
    stages = (
        Memory(weights, 0, 0, streams + prefill),
        Memory(weights, whole, 0, encoded + (streams if in_ram else 0)),
    )
    return (*stages, Memory(weights, 0, 0, 2 * streams)) if in_ram else stages


def fit_streams(batch: Batch, size: ModelSize) -> int:
    """Returns the size of a batch's prompts in every stream that SAEs are held against, in float32."""
    return batch.prompts * batch.prompt_tokens * (size.n_layers + 1) * size.d_model * FLOAT32


def _reading(
    config: Config, size: ModelSize, weights: int, encoder: int, width: int, itemsize: int
) -> tuple[Memory, Memory]:
    """Phase 2.2: one token of each text at every layer, then one encoder at a time while the model is still there."""
    captured = config.batch_size * size.n_layers * size.d_model * FLOAT32
    prefill = prefill_bytes(size, config.batch_size, config.phase2_2_max_tokens, itemsize)
    encoded = ENCODED_ROWS * width * FLOAT32 * 3
    return Memory(weights, 0, 0, captured + prefill), Memory(weights, encoder, 0, encoded)


def largest(*stages: Memory) -> Memory:
    """Returns the stage that takes most."""
    return max(stages, key=lambda stage: stage.total)
