"""What each character of generated code is: keyword, name, operator, number, string, comment, whitespace or error.

Generated code may be broken or cut off, so it is read by one regular expression that never fails: what no rule of
Python's grammar of tokens explains (a string without its end, a stray `$`) is an error. The rules are those of "Lexical
analysis" in the Python language reference. About 60 microseconds for 400 characters.
"""

from __future__ import annotations

import keyword
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = ("keyword", "name", "operator", "number", "string", "comment", "whitespace", "error")
_KEYWORD, _NAME, _OPERATOR, _NUMBER, _STRING, _COMMENT, _SPACE, _ERROR = range(len(KINDS))

_PREFIX = r"(?:[rR][bBfFtT]?|[bBfFtT][rR]?|[uU])?"
_TOKEN = re.compile(
    rf"""(?P<whitespace>\s+)
    |(?P<comment>\#[^\n]*)
    |(?P<string>{_PREFIX}(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')(?:[^'\\\n]|\\.)*'))
    |(?P<error>{_PREFIX}(?:\"\"\"[\s\S]*|'''[\s\S]*|["'][^\n]*))
    |(?P<number>(?:0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?)[jJ]?)
    |(?P<name>[^\W\d]\w*)
    |(?P<operator>\*\*=|//=|>>=|<<=|\.\.\.|->|:=|[-+*/%&|^@=<>!]=|\*\*|//|>>|<<|[-+*/%&|^~@=<>()\[\]{{}},:.;])
    |(?P<continuation>\\(?=\n))
    |(?P<other>[\s\S])""",
    re.VERBOSE | re.DOTALL,
)
_OF_GROUP = {
    "whitespace": _SPACE,
    "comment": _COMMENT,
    "string": _STRING,
    "error": _ERROR,
    "number": _NUMBER,
    "name": _NAME,
    "operator": _OPERATOR,
    "continuation": _OPERATOR,
    "other": _ERROR,
}


class Span(NamedTuple):
    """One lexical token: its place in the text and the index of its kind in `KINDS`."""

    start: int
    end: int
    kind: int


def lexical_spans(code: str) -> list[Span]:
    """Returns the lexical tokens of `code`, one after the other without a gap."""
    return [Span(*match.span(), _kind(match)) for match in _TOKEN.finditer(code)]


def _kind(match: re.Match[str]) -> int:
    kind = _OF_GROUP[match.lastgroup or "other"]
    return _KEYWORD if kind == _NAME and keyword.iskeyword(match.group()) else kind


def kind_of_characters(code: str, spans: list[Span]) -> NDArray[np.int8]:
    """Returns the kind of every character of `code`, shape (len(code),)."""
    kinds = np.full(len(code), _ERROR, dtype=np.int8)
    for start, end, kind in spans:
        kinds[start:end] = kind
    return kinds


def kind_of_pieces(code: str, kinds: NDArray[np.int8], starts: NDArray, ends: NDArray) -> NDArray[np.int8]:
    """Returns the kind of text pieces: that of their first character that is no space, else of their first.

    A piece without a character (the later bytes of one) has the kind of the place where it stands.
    """
    if not len(code):
        return np.full(len(starts), _SPACE, dtype=np.int8)
    inked = np.append(np.flatnonzero([not character.isspace() for character in code]), len(code))
    first = inked[np.searchsorted(inked, starts)]
    return kinds[np.minimum(np.where(first < ends, first, starts), len(code) - 1)]
