"""What a reference for capture gives back, and what it is given."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.workloads import TINY_MODEL


class Captured(NamedTuple):
    """New tokens of one prompt, and the stream after every block at its last token, (layers, d_model)."""

    tokens: tuple[int, ...]
    vectors: list[list[float]]


def stand_in_tokenizer(tokenizer: Any) -> Any:
    """Returns a tokenizer of transformers' own kind, which references ask for though they are given ids alone."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    return AutoTokenizer.from_pretrained(str(TINY_MODEL), local_files_only=True)
