from __future__ import annotations

import io
import keyword
import tokenize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_pathway_token_analysis.src.token_kinds import (
    KINDS,
    kind_of_characters,
    kind_of_pieces,
    lexical_spans,
)

pytestmark = pytest.mark.unit

CODE = '''def area(r, *, unit="cm"):
    """Area of a circle."""
    # rough
    total = 3.14e0 * r ** 2 if r >= 0 else -0x1F  # noqa
    return f'{total:.2f}' + unit
'''


def kinds_of(code: str) -> list[tuple[str, str]]:
    return [(code[start:end], KINDS[kind]) for start, end, kind in lexical_spans(code) if KINDS[kind] != "whitespace"]


def test_code_is_read_as_pythons_own_tokenizer_reads_it() -> None:
    named = {tokenize.NUMBER: "number", tokenize.STRING: "string", tokenize.OP: "operator", tokenize.COMMENT: "comment"}
    code = CODE.replace("f'{total:.2f}'", "'x'")  # from 3.12 on, f-strings are several tokens
    expected = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME:
            expected.append((token.string, "keyword" if keyword.iskeyword(token.string) else "name"))
        elif token.type in named:
            expected.append((token.string, named[token.type]))
    assert kinds_of(code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 'abc\ny", [("x", "name"), ("=", "operator"), ("'abc", "error"), ("y", "name")]),
        ('"""never closed\nreturn', [('"""never closed\nreturn', "error")]),
        ("a ? $b", [("a", "name"), ("?", "error"), ("$", "error"), ("b", "name")]),
        ("a != b", [("a", "name"), ("!=", "operator"), ("b", "name")]),
        ("rb'x' 1_000.5e-3j", [("rb'x'", "string"), ("1_000.5e-3j", "number")]),
        ("'a\\'b'", [("'a\\'b'", "string")]),
        (
            "x = 1 \\\n + 2",
            [("x", "name"), ("=", "operator"), ("1", "number"), ("\\", "operator"), ("+", "operator"), ("2", "number")],
        ),
        ("", []),
    ],
)
def test_broken_code_has_errors_where_it_is_broken(code: str, expected: list[tuple[str, str]]) -> None:
    assert kinds_of(code) == expected


@given(st.text(alphabet="ab1_ \n\t'\"#\\()=.$é日\x00", max_size=60))
def test_every_character_of_any_text_lies_in_exactly_one_span(code: str) -> None:
    spans = lexical_spans(code)
    assert "".join(code[start:end] for start, end, _ in spans) == code
    assert [span.start for span in spans] == [0, *(span.end for span in spans)][: len(spans)]


def test_a_piece_has_the_kind_of_its_first_character_that_is_no_space() -> None:
    code = "if x:\n    return 'a b'"
    kinds = kind_of_characters(code, lexical_spans(code))
    pieces = [(0, 2), (2, 4), (4, 6), (6, 10), (6, 16), (16, 17), (17, 20), (19, 20), (22, 22)]
    found = kind_of_pieces(code, kinds, *(np.array(ends) for ends in zip(*pieces, strict=True)))
    assert [KINDS[kind] for kind in found] == [
        *("keyword", "name", "operator", "whitespace", "keyword", "whitespace", "string", "string", "string"),
    ]
    assert [KINDS[k] for k in kind_of_pieces("", np.empty(0, np.int8), np.array([0]), np.array([0]))] == ["whitespace"]
