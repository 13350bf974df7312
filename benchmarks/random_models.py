"""Gemma-2 models with random weights, built from a configuration: what a shape costs, with nothing to download.

Random weights never finish a function, so how long each row becomes is scripted: the tokenizer that goes with them is
of `TOKENS_A_CHARACTER`, knows no end of text, and ends a line with every token, so that the engine asks after every
token whether the row is done.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from common_simplified.model_loader import LoadedModel

# MBPP's references have 3.3 characters a token in a common vocabulary and 2.6 where digits and blanks stand alone.
CHARACTERS_A_TOKEN = 3
LONGEST_PROMPT = 512
PAD, BOS, FIRST = 0, 2, 3


class Shape(NamedTuple):
    """The sizes of a Gemma-2."""

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    sliding_window: int = 4096


GEMMA_2_2B = Shape("a random model of Gemma-2-2b's shape", 256_000, 2304, 9216, 26, 8, 4, 256)
MIDDLE = Shape("a random Gemma-2 of 48 M parameters", 32_000, 512, 2048, 8, 8, 4, 64)


class CharacterTokenizer:
    """Cuts a text into tokens of three characters; every new token is one character that ends a line."""

    bos_token = None
    bos_token_id = BOS
    eos_token_id = None
    pad_token_id = PAD

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def __len__(self) -> int:
        return self.vocab_size

    def __call__(self, texts: Sequence[str], **_options: object) -> dict[str, torch.Tensor]:
        """Returns left-padded ids and their mask, each row with one BOS, prompts cut to `LONGEST_PROMPT` tokens."""
        rows = [self._ids(text) for text in texts]
        width = max(map(len, rows))
        ids = [[PAD] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns a line end for every id."""
        return ["\n" for _ in ids]

    def decode(self, tokens: Sequence[int], **_options: object) -> str:
        """Returns as many characters as there are tokens."""
        return "\n" * len(tokens)

    def _ids(self, text: str) -> list[int]:
        parts = [text[start : start + CHARACTERS_A_TOKEN] for start in range(0, len(text), CHARACTERS_A_TOKEN)]
        ids = [FIRST + zlib.crc32(part.encode()) % (self.vocab_size - FIRST) for part in parts]
        return [BOS, *ids[: LONGEST_PROMPT - 1]]


def n_tokens(text: str) -> int:
    """Returns how many tokens a text has, at least one."""
    return max(1, -(-len(text) // CHARACTERS_A_TOKEN))


def random_model(shape: Shape, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Builds a model of `shape` with random weights, the same ones each time on a device of a kind."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    sizes: dict[str, Any] = {name: value for name, value in shape._asdict().items() if name != "name"}
    config = Gemma2Config(**sizes, query_pre_attn_scalar=shape.head_dim, pad_token_id=PAD, bos_token_id=BOS)
    config.eos_token_id = None
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    place = torch.device(device)
    return LoadedModel(model, CharacterTokenizer(shape.vocab_size), shape.name, None, None, place, dtype)
