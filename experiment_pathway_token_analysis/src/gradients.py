"""Gradient edges: the derivative of a target's pre-activation by every feature of every earlier layer.

The derivative of the pre-activation along a source's decoder row is the limit of adding a little of that row to the
stream, with attention and norms free to follow (nothing is frozen), at the last prompt token. One backward pass a
target and prompt gives the gradient with respect to the stream of all earlier layers; a product with a layer's decoder
gives the derivative by each of its features. Attribution = derivative × (patch value − current value), as in
attribution patching (Syed et al. 2023, arXiv 2310.10348), with the mean of the other class as patch value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.runs.features import Feature
from common.statistics.selection import FloatArray
from experiment_pathway_token_analysis.src.codes import Clean
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries, Reading
from experiment_pathway_token_analysis.src.residuals import LastToken
from experiment_pathway_token_analysis.src.settings import Gradient

Gradients = dict[int, torch.Tensor]  # by source layer: (prompts, d_model), float32, on the CPU


class Candidate(NamedTuple):
    """A source that passes the cut-offs: its mean derivative over the selecting prompts, its SD, its attribution."""

    source: Feature
    gradient: float
    gradient_sd: float
    attribution: float


class Candidates(NamedTuple):
    """The strongest candidates of all layers, strongest first, and how many passed the cut-offs."""

    kept: list[Candidate]
    n_passing: int


def target_gradients(
    last: LastToken,
    readings: Mapping[Feature, Reading],
    n_prompts: int,
    layers: Sequence[int],
    check: Callable[[], None],
) -> dict[Feature, Gradients]:
    """Returns the gradient of each target's pre-activation by the stream of every layer before its own.

    One forward pass a prompt serves all targets; each has a backward pass of its own, so that what is found of one does
    not depend on which others are asked for.
    """
    found: dict[Feature, dict[int, list[torch.Tensor]]] = {
        target: {layer: [] for layer in layers if layer < target.layer} for target in readings
    }
    for prompt in range(n_prompts):
        check()
        leaves = _run_with_leaves(last, prompt, layers, max(target.layer for target in readings))
        for target, reading in readings.items():
            earlier = [layer for layer in layers if layer < target.layer]
            parts = torch.autograd.grad(
                reading.pre(last.streams[target.layer])[0], [leaves[layer] for layer in earlier], retain_graph=True
            )
            for layer, part in zip(earlier, parts, strict=True):
                found[target][layer].append(part[0].float().cpu())
        last.streams = {}
    return {target: {layer: torch.stack(rows) for layer, rows in items.items()} for target, items in found.items()}


def gradient_at(last: LastToken, reading: Reading, prompt: int, layer: int, until: int) -> torch.Tensor:
    """Returns the gradient of a pre-activation at layer `until` by the stream at `layer`, on one prompt (d_model,)."""
    leaves = _run_with_leaves(last, prompt, [layer], until)
    (found,) = torch.autograd.grad(reading.pre(last.streams[until])[0], [leaves[layer]])
    return found[0].float()


def _run_with_leaves(last: LastToken, prompt: int, layers: Sequence[int], until: int) -> dict[int, torch.Tensor]:
    """Runs a prompt with zeros added to the stream of each layer before `until`, and returns these zeros."""
    loaded = last.loaded
    width = int(loaded.model.config.hidden_size)
    leaves = {
        layer: torch.zeros(1, width, dtype=loaded.dtype, device=loaded.device, requires_grad=True)
        for layer in layers
        if layer < until
    }
    with torch.enable_grad():
        last.run(prompt, 1, until, {layer: _adding(leaf) for layer, leaf in leaves.items()})
    return leaves


def _adding(leaf: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda stream: stream + leaf


def select_sources(
    gradients: Mapping[Feature, Gradients],
    scales: Mapping[Feature, float],
    clean: Clean,
    dictionaries: Dictionaries,
    settings: Gradient,
    check: Callable[[], None],
) -> dict[Feature, Candidates]:
    """Returns each target's strongest sources: |mean gradient| and attribution above their cut-offs, `top_sources`.

    The decoder of each layer is loaded once for all targets.
    """
    passing: dict[Feature, list[Candidate]] = {target: [] for target in gradients}
    counts = dict.fromkeys(gradients, 0)
    for layer in sorted({layer for items in gradients.values() for layer in items}):
        check()
        decoder = dictionaries.decoder(layer)
        for target, items in gradients.items():
            if layer in items:
                best, n = _layer_candidates(layer, items[layer], decoder, clean, scales[target], settings)
                passing[target] += best
                counts[target] += n
    return {
        target: Candidates(
            sorted(items, key=lambda item: (-item.attribution, item.source))[: settings.top_sources], counts[target]
        )
        for target, items in passing.items()
    }


def _layer_candidates(
    layer: int, gradient: torch.Tensor, decoder: torch.Tensor, clean: Clean, scale: float, settings: Gradient
) -> tuple[list[Candidate], int]:
    codes, selects = clean.layers[layer], clean.selects
    derivative = (gradient[torch.from_numpy(selects)].to(decoder.device) @ decoder.T).cpu().numpy().astype(np.float64)
    distance = codes.class_means[1 - clean.classes[selects]] - codes.codes[selects]
    mean, attribution = derivative.mean(axis=0), np.abs(derivative * distance).mean(axis=0)
    passes = (np.abs(mean) > settings.min_abs) & (attribution >= settings.min_attribution * scale) & (attribution > 0)
    chosen = np.flatnonzero(passes)
    chosen = chosen[np.argsort(-attribution[chosen], kind="stable")][: settings.top_sources]
    spread = derivative[:, chosen].std(axis=0)
    rows = zip(chosen.tolist(), mean[chosen].tolist(), spread.tolist(), attribution[chosen].tolist(), strict=True)
    return [Candidate(Feature(layer, index), *figures) for index, *figures in rows], int(passes.sum())


def along(gradient: torch.Tensor, rows: torch.Tensor) -> FloatArray:
    """Returns the derivative by features with decoder rows (features, d_model), float64 (prompts, features)."""
    return (gradient.double() @ rows.double().T).numpy()
