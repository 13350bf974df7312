"""When a row is finished: at the end of its solution, not when the model falls silent.

A base model goes on after a solution to its token limit. A row stops once nothing that may follow can change the code
that the extractor returns (`common.execution.extraction.solution_finished`, the extractor's own scanner). The check
runs only on rows whose newest token ends a line or begins one, so it costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

STOP_VERSION = 1
_NEWLINE_MARKS = ("\n", "Ċ", "<0x0A>")


class Finished(Protocol):
    """Says whether a completion's solution is finished."""

    def __call__(self, text: str) -> bool:
        """Returns True when nothing that follows `text` can change the extracted code."""
        ...


def newline_tokens(tokenizer: Any) -> frozenset[int]:
    """Returns the ids of the tokens that contain a line end, in byte-level and in sentence-piece vocabularies."""
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    found = [index for index, piece in enumerate(pieces) if piece and any(mark in piece for mark in _NEWLINE_MARKS)]
    return frozenset(found)


class RowStopper:
    """Follows one row and says when it is finished."""

    def __init__(self, tokenizer: Any, newlines: frozenset[int], finished: Finished) -> None:
        self._tokenizer = tokenizer
        self._newlines = newlines
        self._finished = finished
        self._at_line_start = False

    def is_done(self, tokens: Sequence[int]) -> bool:
        """Looks at the row's new tokens, the last of which has just been added."""
        has_newline = tokens[-1] in self._newlines
        if not has_newline and not self._at_line_start:
            return False
        self._at_line_start = has_newline
        return self._finished(decode(self._tokenizer, tokens))


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Returns the text of new tokens, without special tokens and with every space as generated."""
    return tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
