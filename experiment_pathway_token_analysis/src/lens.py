"""What a feature writes by its weights alone: its decoder row through the final norm's scale and the unembedding.

The norm divides by one positive number a position, and Gemma-2's soft-cap is monotone: neither changes which tokens
stand highest, so both are left out, and a score has no unit beyond comparing tokens of one feature. Only the two weight
matrices are read, 16,384 tokens at a time, never the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common.errors import UsageError
from common.model_facts import read_config, safetensors_header, weight_files
from common.profiles import Profile
from common_simplified.sae_files import open_sae_files

# The norms of these models multiply by 1 + weight.
ONE_PLUS = ("gemma", "gemma2", "gemma3", "gemma3_text")
CHUNK_TOKENS = 16_384
_FINAL_NORM = re.compile(r"(?:^|\.)(?:norm|final_layernorm|ln_f)\.weight$")
_INSIDE_A_BLOCK = re.compile(r"\.(?:layers|h|blocks)\.\d+\.")


class Readout(NamedTuple):
    """The end of a model: `scale` (d_model,) of its final norm, and where the unembedding (n_tokens, d_model) lies."""

    scale: torch.Tensor
    file: Path
    tensor: str
    n_tokens: int

    def chunks(self, n_tokens: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields the unembedding of the first `n_tokens`: the id of a part's first token, and the part, float32."""
        from safetensors import safe_open

        with safe_open(self.file, framework="pt") as file:
            rows = file.get_slice(self.tensor)
            for start in range(0, min(n_tokens, self.n_tokens), CHUNK_TOKENS):
                yield start, rows[start : min(start + CHUNK_TOKENS, n_tokens)].to(torch.float32)


class Extremes(NamedTuple):
    """Ids and scores of tokens, highest score first, both (n_features, n_shown)."""

    ids: torch.Tensor
    scores: torch.Tensor


def open_readout(directory: Path) -> Readout:
    """Returns the end of the model in `directory`; raises UsageError where its weights have no such tensors."""
    tensors = {name: path for path in weight_files(directory) for name in safetensors_header(path)}
    norm = [name for name in tensors if _FINAL_NORM.search(name) and not _INSIDE_A_BLOCK.search(name)]
    heads = [name for end in ("lm_head.weight", "embed_tokens.weight") for name in tensors if name.endswith(end)]
    if not norm or not heads:
        raise UsageError(f"{directory}: its weights name no final norm and no unembedding, which the token lens reads")
    scale = _tensor(tensors[norm[0]], norm[0])
    if read_config(directory).get("model_type") in ONE_PLUS:
        scale = 1 + scale
    shape = safetensors_header(tensors[heads[0]])[heads[0]]["shape"]
    return Readout(scale, tensors[heads[0]], heads[0], shape[0])


def lens_extremes(rows: torch.Tensor, readout: Readout, n_tokens: int, n_shown: int) -> tuple[Extremes, Extremes]:
    """Returns the tokens of highest and, lowest first, of lowest score of decoder rows (n_features, d_model).

    Only the first `n_tokens` of the unembedding are looked at: models pad theirs with rows that no token has.
    """
    scaled = rows.to(torch.float32) * readout.scale
    nothing = Extremes(torch.empty(len(rows), 0, dtype=torch.int64), torch.empty(len(rows), 0))
    top = bottom = nothing
    for start, part in readout.chunks(n_tokens):
        scores = scaled @ part.T
        top = _best(top, scores, start, n_shown)
        bottom = _best(bottom, -scores, start, n_shown)
    return top, Extremes(bottom.ids, -bottom.scores)


def _best(held: Extremes, scores: torch.Tensor, start: int, n: int) -> Extremes:
    """Returns the `n` best of what is held and what is new; of equal scores those of smaller ids first."""
    new = torch.topk(scores, min(n, scores.shape[1]), dim=1)
    ids = torch.cat([held.ids, new.indices + start], dim=1)
    values = torch.cat([held.scores, new.values], dim=1)
    by_id = torch.argsort(ids, dim=1)
    order = by_id.gather(1, torch.argsort(values.gather(1, by_id), dim=1, descending=True, stable=True))[:, :n]
    return Extremes(ids.gather(1, order), values.gather(1, order))


def decoder_rows(
    profile: Profile, by_layer: Mapping[int, Sequence[int]]
) -> Iterator[tuple[int, list[int], torch.Tensor]]:
    """Yields layer, the ids among `by_layer` that its SAE has, and their decoder rows; one SAE in memory at a time."""
    for layer, ids in sorted(by_layer.items()):
        files = open_sae_files(profile.sae, layer, profile.d_model)
        held = sorted(one for one in set(ids) if 0 <= one < files.d_sae)
        if held:
            yield layer, held, files.array("W_dec")[held].clone()


class Vocabulary(NamedTuple):
    """How many tokens a tokenizer has, and how each is written."""

    n_tokens: int
    name: Callable[[int], str]


def lens_table(
    profile: Profile, readout: Readout, by_layer: Mapping[int, Sequence[int]], vocabulary: Vocabulary, n_shown: int
) -> list[dict[str, Any]]:
    """Returns one row a feature, by layer and id, with its top and bottom tokens and their scores."""
    table = []
    for layer, ids, rows in decoder_rows(profile, by_layer):
        top, bottom = lens_extremes(rows, readout, vocabulary.n_tokens, n_shown)
        for place, feature_id in enumerate(ids):
            sides = {"top": _named(top, place, vocabulary), "bottom": _named(bottom, place, vocabulary)}
            table.append({"feature": f"L{layer}-{feature_id}", "layer": layer, "feature_id": feature_id, **sides})
    return table


def _named(found: Extremes, place: int, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    pairs = zip(found.ids[place].tolist(), found.scores[place].tolist(), strict=True)
    return [{"token": vocabulary.name(one), "token_id": one, "score": round(score, 5)} for one, score in pairs]


def _tensor(path: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name).to(torch.float32)
