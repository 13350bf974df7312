from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_pathway_token_analysis.src.display import (
    SPACE,
    code_span,
    csv_cell,
    csv_text,
    figure_label,
    markdown,
    token_label,
    visible,
)

pytestmark = pytest.mark.unit

HEBREW, OVERRIDE, COMBINING = "\N{HEBREW LETTER ALEF}", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("return", "return"),
        ("\n\n", "\\n\\n"),
        ("a\tb\r", "a\\tb\\r"),
        ("\x07\x1b[31m", "\\u0007\\u001b[31m"),
        ("\\n", "\\\\n"),  # a backslash and an n are told from a line break
        (HEBREW + OVERRIDE, "\\u05d0\\u202e"),
        ("e" + COMBINING, "e\\u0301"),
        ("\N{ZERO WIDTH SPACE}\N{NO-BREAK SPACE}", "\\u200b\\u00a0"),
        ("\U0001f600", "\U0001f600"),
        ("é日", "é日"),
    ],
)
def test_what_cannot_be_seen_or_turns_the_line_around_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_text_ends_in_an_ellipsis_and_never_inside_an_escape() -> None:
    assert visible("x" * 30) == "x" * 23 + "…"
    assert visible("\n" * 30, 6) == "\\n\\n…"
    assert visible("x" * 30, None) == "x" * 30


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (" return", f"{SPACE}return"),
        ("    ", SPACE * 4),
        (" " * 8, f"{SPACE}×8"),
        ("a b ", f"a b{SPACE}"),
        ("", "(empty)"),
        ("\n", "\\n"),
    ],
)
def test_spaces_at_the_ends_of_a_token_are_shown(token: str, label: str) -> None:
    assert token_label(token) == label


def test_a_label_in_a_figure_has_only_what_the_font_has() -> None:
    assert figure_label("日本") == "\\u65e5\\u672c" and token_label("日本") == "日本"
    assert figure_label("$x^2$ é ≤ …") == "$x^2$ é ≤ …"
    assert figure_label("\U0001f9ff") == "\\U0001f9ff"


@pytest.mark.parametrize("token", ["a|b", "`", "``x`", " `", "<b>", "*a*", "[x](y)", "\n", HEBREW])
def test_a_token_in_a_markdown_table_stays_in_its_cell(token: str) -> None:
    span = code_span(token)
    assert "\n" not in span and span.replace("\\|", "").count("|") == 0
    fence = span[: len(span) - len(span.lstrip("`"))]
    inner = span.removeprefix(fence).removesuffix(fence)
    assert fence and span == f"{fence}{inner}{fence}" and fence not in inner.replace(fence + "`", "")


def test_text_between_markdown_is_not_taken_for_markdown() -> None:
    assert markdown("# a_b *c* <d> [e](f) | $g$") == "\\# a\\_b \\*c\\* \\<d\\> \\[e\\]\\(f\\) \\| \\$g\\$"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "'quoted", "\t=1", "\r=1"])
def test_a_cell_that_a_spreadsheet_would_compute_is_text(text: str) -> None:
    assert not str(csv_cell(text)).lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_stay_numbers_and_nothing_stays_nothing() -> None:
    assert [csv_cell(one) for one in (-0.5, 3, True, None, float("nan"), "", "x")] == [-0.5, 3, True, "", "", "", "x"]
    assert csv_cell(["=a", "b\n"]) == "'=a · b\\n"


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_any_text_comes_back_from_the_table_on_one_line_and_harmless(texts: list[str]) -> None:
    written = csv_text([{"a": text, "b": 1} for text in texts], ("a", "b"))
    rows = list(csv.reader(io.StringIO(written)))
    assert len(rows) == len(texts) + 1 and rows[0] == ["a", "b"]
    for (cell, number), text in zip(rows[1:], texts, strict=True):
        assert number == "1" and cell.removeprefix("'") in (visible(text, None), visible(text, None).removeprefix("'"))
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@"))
