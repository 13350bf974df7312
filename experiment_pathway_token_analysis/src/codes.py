"""What every feature does on the prompts as they are: its activation, its mean in each class, how often it fires.

One pass a prompt reads the stream at all layers; then each layer's SAE is loaded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.statistics.selection import BoolArray, FloatArray, IntArray
from experiment_pathway_token_analysis.src.causal_targets import Prompts
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries
from experiment_pathway_token_analysis.src.residuals import LastToken


@dataclass(frozen=True)
class LayerCodes:
    """One layer on all prompts: `codes` (prompts, d_sae), `class_means` (2, d_sae) over the selecting prompts.

    `rate` is the share of selecting prompts on which a feature fires, `strength` the mean length of the patch to the
    other class's mean, |v − f|·‖decoder row‖; both (d_sae,).
    """

    codes: NDArray[np.floating]
    class_means: FloatArray
    rate: FloatArray
    strength: FloatArray


@dataclass(frozen=True)
class Clean:
    """Streams (prompts, d_model) and codes of every layer on the unchanged prompts."""

    streams: dict[int, torch.Tensor]
    layers: dict[int, LayerCodes]
    classes: IntArray
    selects: BoolArray


def read_clean(
    last: LastToken, dictionaries: Dictionaries, prompts: Prompts, layers: Sequence[int], check: Callable[[], None]
) -> Clean:
    """Reads the stream of every prompt, then encodes it layer by layer; `check` is called before each step."""
    streams = read_streams(last, len(prompts.all), layers, check)
    classes = np.array([prompt.number for prompt in prompts.all])
    selects = np.array([prompt.selects for prompt in prompts.all])
    found = {}
    for layer in layers:
        check()
        codes = dictionaries.encoder(layer).encode(streams[layer]).cpu().numpy()
        norms = dictionaries.decoder(layer).norm(dim=1).double().cpu().numpy()
        found[layer] = layer_codes(codes, norms, classes, selects)
    return Clean(streams, found, classes, selects)


@torch.no_grad()
def read_streams(
    last: LastToken, n_prompts: int, layers: Sequence[int], check: Callable[[], None]
) -> dict[int, torch.Tensor]:
    """Returns the last prompt token's stream at each layer, float32 (prompts, d_model)."""
    read: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for prompt in range(n_prompts):
        check()
        last.run(prompt, 1, max(layers))
        for layer in layers:
            read[layer].append(last.streams[layer][0].float())
    return {layer: torch.stack(rows) for layer, rows in read.items()}


def layer_codes(codes: NDArray[np.floating], norms: FloatArray, classes: IntArray, selects: BoolArray) -> LayerCodes:
    """Returns a layer's codes with what is derived from them; `norms` (d_sae,) are those of the decoder's rows."""
    means = np.stack([codes[selects & (classes == number)].mean(axis=0, dtype=np.float64) for number in (0, 1)])
    chosen = codes[selects]
    distance = np.abs(means[1 - classes[selects]] - chosen).mean(axis=0)
    return LayerCodes(codes, means, (chosen > 0).mean(axis=0), distance * norms)
