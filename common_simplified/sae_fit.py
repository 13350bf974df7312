"""How well each SAE fits the stream it is read from, at its declared site and one block to either side.

An SAE read one block away from where it was trained still gives numbers, so the error shows nowhere else. For the first
problems of a split every prompt token but BOS is reconstructed; per problem the sums below are kept, so that slices
merge exactly. Fraction of variance unexplained = Σ‖x − x̂‖² / Σ‖x − mean(x)‖² over tokens (as in SAELens's evaluations
and the GemmaScope report, arXiv 2408.05147, section 4). Costs one forward pass and one encode–decode a layer and site.
A batch that memory cannot hold is halved, at last prompt by prompt, which changes no figure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from common.profiles import Profile
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.halving import Halving, Sleep
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sae_loader import load_sae
from common_simplified.sites import HookPoint

OFFSETS = (-1, 0, 1)

FIT_SCHEMA = pa.schema(
    [
        ("position", pa.int32()),
        ("task_id", pa.int64()),
        ("layer", pa.int32()),
        ("offset", pa.int32()),
        ("hook_name", pa.string()),
        ("n_tokens", pa.int64()),
        ("squared_error", pa.float64()),
        ("squared_norm", pa.float64()),
        ("active", pa.int64()),
        ("total", pa.list_(pa.float64())),
        ("fired", pa.binary()),
        ("d_sae", pa.int64()),
    ]
)


class PromptTokens(NamedTuple):
    """Residual vectors of every prompt token but BOS: per point float32 (tokens, d_model), and each token's problem."""

    streams: dict[HookPoint, torch.Tensor]
    owner: torch.Tensor


@torch.no_grad()
def read_prompts(loaded: LoadedModel, prompts: Sequence[str], points: Sequence[HookPoint]) -> PromptTokens:
    """Captures all prompt tokens but BOS at `points` in one forward pass without the unembedding."""
    ids, mask = tokenize_prompts(loaded.tokenizer, prompts)
    with ActivationExtractor(loaded.model, list(points), all_positions=True) as extractor:
        loaded.model.model(
            input_ids=ids.to(loaded.device),
            attention_mask=mask.to(loaded.device),
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(loaded.device),
            use_cache=False,
        )
    chosen = mask.bool() & (ids != (loaded.tokenizer.bos_token_id if loaded.tokenizer.bos_token_id is not None else -1))
    owner = torch.arange(len(prompts)).unsqueeze(1).expand_as(ids)[chosen]
    return PromptTokens({point: value[chosen] for point, value in extractor.get_activations().items()}, owner)


Keyed = tuple[str, Mapping[str, Any]]  # a prompt, and what its rows begin with


def measure_fit(
    loaded: LoadedModel,
    profile: Profile,
    prompts: Sequence[str],
    keys: Sequence[Mapping[str, Any]],
    points: Mapping[int, HookPoint],
    *,
    max_retries: int = 0,
    sleep: Sleep = time.sleep,
) -> pa.Table:
    """Returns one row a problem, layer and offset; `points` gives each SAE layer's declared point.

    What memory cannot hold at once is halved, as in generation; a prompt for which it does not suffice alone, after
    `max_retries` more tries, has no row.
    """
    halving: Halving[Keyed, list[dict[str, Any]]] = Halving(
        make=partial(_measured, loaded, profile, points),
        joined=lambda one, other: [*one, *other],
        given_up=lambda _item, _why, _tries: [],
        max_retries=max_retries,
        sleep=sleep,
    )
    rows = halving.work(list(zip(prompts, keys, strict=True)))
    rows.sort(key=lambda row: (row["position"], row["layer"], row["offset"]))
    return pa.Table.from_pylist(rows, schema=FIT_SCHEMA)


def _measured(
    loaded: LoadedModel, profile: Profile, points: Mapping[int, HookPoint], items: Sequence[Keyed], _tries: int
) -> list[dict[str, Any]]:
    """Returns the rows of one batch, measured at once; each SAE is read once."""
    n_layers = int(loaded.model.config.num_hidden_layers)
    wanted = {(layer, offset): point.shifted(offset, n_layers) for layer, point in points.items() for offset in OFFSETS}
    known = list(dict.fromkeys(point for point in wanted.values() if point))
    tokens = read_prompts(loaded, [prompt for prompt, _ in items], known)
    rows: list[dict[str, Any]] = []
    for layer in points:
        sae = load_sae(profile, layer, device=loaded.device)
        for offset in OFFSETS:
            point = wanted[layer, offset]
            if point is not None:
                fit = _sums(sae, tokens.streams[point].to(loaded.device), tokens.owner, len(items), fired=offset == 0)
                names = {"layer": layer, "offset": offset, "hook_name": str(point)}
                rows.extend({**key, **names, **row} for (_, key), row in zip(items, fit, strict=True))
    return rows


@torch.no_grad()
def _sums(sae: Any, stream: torch.Tensor, owner: torch.Tensor, n: int, *, fired: bool) -> list[dict[str, Any]]:
    acts = sae.encode(stream)
    error = (stream - sae.decode(acts)).double().square().sum(dim=1).cpu()
    norm = stream.double().square().sum(dim=1).cpu()
    total = torch.zeros(n, stream.shape[1], dtype=torch.float64).index_add_(0, owner, stream.double().cpu())
    active = (acts > 0).cpu()
    scalar = torch.zeros(n, dtype=torch.float64)
    sums = {
        "squared_error": scalar.index_add(0, owner, error).tolist(),
        "squared_norm": scalar.index_add(0, owner, norm).tolist(),
        "active": scalar.index_add(0, owner, active.sum(dim=1).double()).long().tolist(),
        "n_tokens": torch.bincount(owner, minlength=n).tolist(),
        "total": total.tolist(),
        "fired": [_packed(active[owner == index]) if fired else None for index in range(n)],
    }
    width = int(acts.shape[1])
    return [{**{name: values[index] for name, values in sums.items()}, "d_sae": width} for index in range(n)]


def _packed(active: torch.Tensor) -> bytes:
    return np.packbits(active.any(dim=0).numpy()).tobytes()
