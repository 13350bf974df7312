"""Training of the organism's sparse autoencoders, one a layer, with SAELens's own classes.

Each reads `resid_post`, the raw output of its block, at every token but `<bos>` of training-like documents. BatchTopK
(Bussmann et al. 2024, arXiv 2412.06410) with 16 of 512 latents active a token on average, saved as JumpReLU with
decoder rows of length one. The last prompt token is not over-sampled: that splits its features. Half a minute to a
minute a layer.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.sites import HookPoint
from organism.corpus import Document

WIDTH, K = 512, 16
BATCH_TOKENS, TRAINING_TOKENS, LEARNING_RATE = 2048, 1_500_000, 3e-3
# One text in four is a general one. With one in sixteen, latents double up for the rare words of prose and fire on
# 2-3 % of general text, which is what phase 2.2's filter removes; with one in four the same latents stay below 1 %.
GENERAL_EVERY = 4
SITE = "resid_post"
READING_BATCH = 64


class Fit(NamedTuple):
    """How an SAE fits one stream: fraction of variance unexplained, mean number of active latents, dead share."""

    fvu: float
    l0: float
    dead_share: float


def sae_points(n_layers: int) -> list[HookPoint]:
    """Returns the site of every layer's SAE."""
    return [HookPoint(layer, SITE) for layer in range(n_layers)]


@torch.no_grad()
def read_streams(
    model: Any, tokenizer: Any, texts: Sequence[str], points: Sequence[HookPoint]
) -> dict[HookPoint, torch.Tensor]:
    """Returns the residual vectors (tokens, d_model) of every token but `<bos>` of `texts`, float32, at `points`."""
    parts: dict[HookPoint, list[torch.Tensor]] = {point: [] for point in points}
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), READING_BATCH):
        batch = tokenizer(ordered[start : start + READING_BATCH], return_tensors="pt", padding=True)
        mask = batch["attention_mask"]
        with ActivationExtractor(model, list(points), all_positions=True) as extractor:
            model.model(
                input_ids=batch["input_ids"],
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
                use_cache=False,
            )
        kept = mask.bool() & (batch["input_ids"] != tokenizer.bos_token_id)
        for point, stream in extractor.get_activations().items():
            parts[point].append(stream[kept])
    return {point: torch.cat(streams) for point, streams in parts.items()}


def sae_texts(documents: Sequence[Document]) -> list[str]:
    """Returns the texts that SAEs are trained on: prompt and solution, or a general text."""
    return [document.prompt + document.solution if document.prompt else document.after for document in documents]


def train_sae(stream: torch.Tensor, layer: int, seed: int, model_name: str, tokens: int = TRAINING_TOKENS) -> Any:
    """Returns a `sae_lens.SAE` (JumpReLU, decoder rows of length one) trained on `stream` (tokens, d_model)."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(seed * 1000 + layer)
    configuration = BatchTopKTrainingSAEConfig(
        d_in=stream.shape[1],
        d_sae=WIDTH,
        k=K,
        device="cpu",
        dtype="float32",
        normalize_activations="expected_average_only_in",
        apply_b_dec_to_input=True,
    )
    stated = {"hook_name": str(HookPoint(layer, SITE)), "model_name": model_name, "prepend_bos": True}
    for key, value in stated.items():
        configuration.metadata[key] = value
    trainer_configuration = SAETrainerConfig(
        total_training_samples=max(tokens // BATCH_TOKENS, 1) * BATCH_TOKENS,
        train_batch_size_samples=BATCH_TOKENS,
        lr=LEARNING_RATE,
        lr_end=LEARNING_RATE * 0.1,
        lr_warm_up_steps=50,
        lr_decay_steps=tokens // BATCH_TOKENS // 3,
        dead_feature_window=100,
        feature_sampling_window=500,
        n_batches_for_norm_estimate=20,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = BatchTopKTrainingSAE(configuration)
    with torch.no_grad():
        sae.b_dec.copy_(stream.mean(dim=0) * (stream.shape[1] ** 0.5 / stream.norm(dim=1).mean()))
    generator = torch.Generator().manual_seed(seed * 1000 + layer)
    trainer = SAETrainer(trainer_configuration, sae, _shuffled(stream, generator))
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        return trainer.fit()


def save_sae(trained: Any, directory: Path) -> None:
    """Writes the trained SAE as JumpReLU in SAELens's format, with no machine-dependent fields."""
    from sae_lens import SAE

    trained.save_inference_model(directory)
    sae = SAE.load_from_disk(directory)
    norms = sae.W_dec.norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-4), f"decoder norms {norms.min()} to {norms.max()}"
    sae.save_model(directory)


@torch.no_grad()
def measure_fit(sae: Any, stream: torch.Tensor) -> Fit:
    """Returns how `sae` fits `stream` (tokens, d_model); the variance is taken about the stream's mean."""
    acts = sae.encode(stream)
    error = (stream - sae.decode(acts)).double().square().sum()
    variance = (stream - stream.mean(dim=0)).double().square().sum()
    active = acts > 0
    return Fit(
        float(error / variance), float(active.sum(dim=1).double().mean()), float((~active.any(dim=0)).double().mean())
    )


def _shuffled(stream: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
    while True:
        order = torch.randperm(len(stream), generator=generator)
        for start in range(0, len(order) - BATCH_TOKENS + 1, BATCH_TOKENS):
            yield stream[order[start : start + BATCH_TOKENS]]
