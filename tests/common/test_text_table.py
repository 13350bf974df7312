from __future__ import annotations

import pytest

from common.text_table import text_table

pytestmark = pytest.mark.unit


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    said = text_table([("a", "long cell", "1"), ("bbb", "", "22")], ("name", "what", "n"))
    assert said.splitlines() == [
        "name  what       n",
        "────  ─────────  ──",
        "a     long cell  1",
        "bbb              22",
    ]


def test_a_table_without_rows_keeps_its_header() -> None:
    assert text_table([], ("a", "bc")) == "a  bc\n─  ──"


def test_a_row_that_is_too_short_or_too_long_is_a_mistake() -> None:
    with pytest.raises(IndexError):
        text_table([("a",)], ("a", "b"))
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b", "c")], ("a", "b"))
