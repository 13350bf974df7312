"""Responses as tokens: the pieces of the model's own tokenizer, whole words, and for code the kind of each.

What a response repeats of its prompt at its beginning is left out by token offset: logs of other studies cut the prompt
off by its length in characters, which leaves a part of it. Responses repeat themselves often (all features share their
baseline), so the last ones are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiment_pathway_token_analysis.src.token_kinds import (
    KINDS,
    Span,
    kind_of_characters,
    kind_of_pieces,
    lexical_spans,
)

IntArray = NDArray[np.int32]
LEVELS = ("piece", "word", "kind")
# Fewest characters of a prompt's end at which a response's beginning counts as an echo of it.
ECHO_CHARACTERS = 20
MAX_KEPT = 40_000
# Amounts of money and percentages are one word each: in a study of betting they carry the signal.
_WORD = re.compile(r"[$€£]?\d+(?:[.,]\d+)*%?|\w+(?:['’]\w+)*")
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class Tokens(NamedTuple):
    """One response: ids of its pieces, numbers of its words, and the kind of each; `echo` characters are left out."""

    pieces: IntArray
    piece_kinds: NDArray[np.int8]
    words: IntArray
    word_kinds: NDArray[np.int8]
    echo: int


class ResponseTokens:
    """Turns responses into tokens; `words` are numbered in the order in which they are first met."""

    def __init__(self, tokenizer: Any, *, code: bool) -> None:
        self._tokenizer, self._code = tokenizer, code
        self._numbers: dict[str, int] = {}
        self.words: list[str] = []
        self._kept: dict[tuple[str, int], Tokens] = {}
        self._names: dict[int, str] = {}
        self._anchor = _anchor(tokenizer)

    @property
    def has_kinds(self) -> bool:
        """Whether responses are code, so that their tokens have kinds."""
        return self._code

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the tokenizer has, those added to it included."""
        return len(self._tokenizer)

    def of(self, responses: Sequence[str], echoes: Sequence[int]) -> list[Tokens]:
        """Returns the tokens of responses of which the first `echoes` characters are left out."""
        keys = list(zip(responses, echoes, strict=True))
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        texts = [text for text, _ in missing]
        encoded = self._tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        for key, one in zip(missing, encoded, strict=True):
            self._kept[key] = self._read(*key, one)
        return [self._kept[key] for key in keys]

    def piece(self, token_id: int) -> str:
        """Returns a piece as it stands in a text, with its leading space; part of a character by its own name."""
        if token_id not in self._names:
            backend = self._tokenizer.backend_tokenizer
            alone, after = (backend.decode(ids, skip_special_tokens=False) for ids in _with(self._anchor, token_id))
            name = after[len(alone) :]
            self._names[token_id] = backend.id_to_token(token_id) if _BROKEN in name or not name else name
        return self._names[token_id]

    def _read(self, text: str, echo: int, encoded: Any) -> Tokens:
        ids = np.array(encoded.ids, dtype=np.int32)
        offsets = np.array(encoded.offsets, dtype=np.int32).reshape(-1, 2)
        new = offsets[:, 0] >= echo
        spans = lexical_spans(text) if self._code else []
        kinds = np.full(int(new.sum()), -1, dtype=np.int8)
        if self._code:
            kinds = kind_of_pieces(text, kind_of_characters(text, spans), offsets[new, 0], offsets[new, 1])
        words = [word for word in (_code_words(text, spans) if self._code else _words(text)) if word.start >= echo]
        numbers = [self._number(word.text) for word in words]
        return Tokens(
            ids[new], kinds, np.array(numbers, dtype=np.int32), np.array([w.kind for w in words], dtype=np.int8), echo
        )

    def _number(self, word: str) -> int:
        if word not in self._numbers:
            self._numbers[word] = len(self.words)
            self.words.append(word)
        return self._numbers[word]


class _Word(NamedTuple):
    text: str
    start: int
    kind: int


def _words(text: str) -> Iterable[_Word]:
    """Yields the words of prose, in lower case: the case of a word says where in a sentence it stood."""
    return (_Word(match.group().casefold(), match.start(), -1) for match in _WORD.finditer(text))


def _code_words(text: str, spans: list[Span]) -> Iterable[_Word]:
    """Yields the words of code: each lexical token; of strings, comments and errors the words inside."""
    for start, end, kind in spans:
        if KINDS[kind] in ("keyword", "name", "operator", "number"):
            yield _Word(text[start:end], start, kind)
        elif KINDS[kind] != "whitespace":
            yield from (_Word(found.group(), found.start(), kind) for found in _WORD.finditer(text, start, end))


def echo_length(response: str, prompts: Iterable[str]) -> int:
    """Returns how many characters at the beginning of `response` repeat the end, or the whole, of one of `prompts`."""
    longest = 0
    for prompt in prompts:
        whole = prompt.strip()
        if whole and response.lstrip().startswith(whole):
            longest = max(longest, len(response) - len(response.lstrip()) + len(whole))
        beginning, place = response[:ECHO_CHARACTERS], -1
        while len(beginning) == ECHO_CHARACTERS and (place := prompt.find(beginning, place + 1)) >= 0:
            if response.startswith(prompt[place:]):
                longest = max(longest, len(prompt) - place)
    return longest


def prompts_by_class(sample: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the distinct prompts of each class of prompts_sample.json."""
    found: dict[str, dict[str, None]] = {}
    for prompt in sample["prompts"]:
        found.setdefault(prompt["class"], {})[prompt["prompt"]] = None
    return {name: list(prompts) for name, prompts in found.items()}


def _anchor(tokenizer: Any) -> int:
    return tokenizer.backend_tokenizer.encode("a", add_special_tokens=False).ids[-1]


def _with(anchor: int, token_id: int) -> tuple[list[int], list[int]]:
    """Decoders drop a leading space: a token is decoded behind another one."""
    return [anchor], [anchor, token_id]
