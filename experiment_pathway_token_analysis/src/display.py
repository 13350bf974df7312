"""Text that a model wrote, made fit to be looked at: in a figure, a Markdown table, a spreadsheet.

Whatever is not plainly visible, or would change what stands beside it, is written as an escape: control and format
characters, line breaks, right-to-left letters, marks that sit on their neighbour, characters that the font lacks.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from common.runs.files import finite

LONGEST = 24
SPACE = "\N{OPEN BOX}"
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_RIGHT_TO_LEFT = ("R", "AL", "AN")
# A spreadsheet takes what begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = str.maketrans({one: f"\\{one}" for one in "\\`*_{}[]<>()#+-.!|~$"})


def visible(text: str, longest: int | None = LONGEST) -> str:
    """Returns `text` on one line, every character of it seen; longer than `longest` it ends in an ellipsis."""
    parts = [_escaped(character) for character in text]
    if longest is not None and sum(map(len, parts)) > longest:
        kept, room = [], longest - 1
        for part in parts:
            room -= len(part)
            if room < 0:
                break
            kept.append(part)
        parts = [*kept, "…"]
    return "".join(parts)


def token_label(text: str, longest: int | None = LONGEST) -> str:
    """Returns a token as a label: visible, its spaces at either end shown, an empty one named."""
    if not text:
        return "(empty)"
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" ")) if inner else len(text)
    after = len(text) - len(text.rstrip(" ")) if inner else 0
    shown = visible(inner, None if longest is None else max(1, longest - before - after))
    return _spaces(before) + shown + _spaces(after)


def figure_label(text: str, longest: int | None = LONGEST) -> str:
    """Returns a token as a label for a figure: what the figures' font lacks is escaped too."""
    return "".join(one if _has_glyph(one) else _escape(one) for one in token_label(text, longest))


def _spaces(n: int) -> str:
    return SPACE * n if n <= 4 else f"{SPACE}×{n}"


def markdown(text: str) -> str:
    """Returns visible text in which nothing is taken for Markdown."""
    return text.translate(_MARKDOWN)


def code_span(token: str) -> str:
    """Returns a token as a Markdown code span that a table's cell can hold."""
    label = token_label(token).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in _runs_of_backticks(label)), default=0))
    pad = " " if label.startswith("`") or label.endswith("`") else ""
    return f"{fence}{pad}{label}{pad}{fence}"


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Returns rows as CSV; text that a spreadsheet would take for a formula stands behind an apostrophe."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row[name]) for name in columns])
    return sink.getvalue()


def csv_cell(value: Any) -> Any:
    """Returns a cell: numbers as they are, nothing for what is missing, text visible and harmless."""
    value = finite(value)
    if isinstance(value, list):
        value = " · ".join(str(one) for one in value)
    if not isinstance(value, str):
        return "" if value is None else value
    text = visible(value, None)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith("'") else text


@cache
def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    kind = unicodedata.category(character)
    hidden = kind[0] in "CM" or (kind[0] == "Z" and character != " ")
    if hidden or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT:
        return _escape(character)
    return character


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


@cache
def _has_glyph(character: str) -> bool:
    return bool(_font().get_char_index(ord(character)))


@cache
def _font() -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    from common.plotting import STYLE

    return get_font(findfont(FontProperties(family=STYLE["font.family"])))


def _runs_of_backticks(text: str) -> list[str]:
    return [run for run in "".join(one if one == "`" else " " for one in text).split(" ") if run]
