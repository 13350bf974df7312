"""The shape of a decoder as far as memory depends on it, known before any file is fetched.

A profile states it, so that a run can be planned on a machine that has no model yet; where the model's files are at
hand, they are asked instead (`config.json`, and the headers of the weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder: vocabulary, attention heads, key–value heads, a head's width, the MLP's width."""

    vocab_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_mlp: int


@dataclass(frozen=True)
class ModelSize:
    """A decoder's shape with its depth, the width of its stream, and the number of its parameters."""

    shape: ModelShape
    n_layers: int
    d_model: int
    n_parameters: int


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """Returns the shape that a `config.json` describes; raises KeyError where it describes no decoder."""
    nested = config.get("text_config")
    text: Mapping[str, Any] = nested if isinstance(nested, Mapping) else config
    n_heads = int(text["num_attention_heads"])
    return ModelShape(
        vocab_size=int(text["vocab_size"]),
        n_heads=n_heads,
        n_kv_heads=int(text.get("num_key_value_heads") or n_heads),
        head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // n_heads),
        d_mlp=int(text["intermediate_size"]),
    )
