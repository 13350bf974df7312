from __future__ import annotations

import csv
import io
import json
import math

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.csv_text import Lines, escaped, form_of, looks_like_formula
from common.errors import PipelineError

pytestmark = pytest.mark.unit

SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("share", pa.float64()),
        ("passed", pa.bool_()),
        ("text", pa.string()),
        ("tests", pa.list_(pa.string())),
    ]
)
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.integers(-(2**31), 2**31 - 1),
            "share": st.none() | st.floats(allow_nan=False),
            "passed": st.none() | st.booleans(),
            "text": st.none() | TEXT,
            "tests": st.none() | st.lists(st.none() | TEXT, max_size=3),
        }
    ),
    max_size=6,
)


def written(table: pa.Table, *, for_spreadsheets: bool = False) -> bytes:
    return b"".join(Lines(table.schema, for_spreadsheets=for_spreadsheets).blocks(table.to_batches()))


def read_back(data: bytes, schema: pa.Schema) -> pa.Table:
    """Reads CSV as README.txt of an export says, with the column types; lists as JSON."""
    plain = {field.name: pa.string() if pa.types.is_nested(field.type) else field.type for field in schema}
    options = pacsv.ConvertOptions(
        column_types=plain,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["true"],
        false_values=["false"],
    )
    parse = pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    table = pacsv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=options)
    for position, field in enumerate(schema):
        if pa.types.is_nested(field.type):
            lists = [None if text is None else json.loads(text) for text in table.column(position).to_pylist()]
            table = table.set_column(position, field, pa.array(lists, field.type))
    return table


@given(ROWS)
def test_every_value_is_read_back_as_it_was(rows: list[dict]) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert read_back(written(table), SCHEMA).to_pylist() == rows


@given(ROWS)
def test_pythons_own_reader_sees_the_same_fields(rows: list[dict]) -> None:
    lines = list(csv.reader(io.StringIO(written(pa.Table.from_pylist(rows, SCHEMA)).decode(), newline="")))
    assert lines[0] == SCHEMA.names and len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        assert line[3] == (row["text"] or "") and line[0] == ("" if row["number"] is None else str(row["number"]))


def test_the_form_is_the_one_that_is_described() -> None:
    rows = [
        {"number": 5, "share": 0.1, "passed": True, "text": 'say "hi",\nbye', "tests": ["a", 'b"']},
        {"number": None, "share": None, "passed": None, "text": None, "tests": None},
        {"number": -1, "share": -2.0, "passed": False, "text": "", "tests": []},
    ]
    assert written(pa.Table.from_pylist(rows, SCHEMA)).decode() == (
        '"number","share","passed","text","tests"\r\n'
        '5,0.1,true,"say ""hi"",\nbye","[""a"",""b\\""""]"\r\n'
        ",,,,\r\n"
        '-1,-2.0,false,"","[]"\r\n'
    )


def test_numbers_that_are_not_finite_stand_apart_from_missing_ones() -> None:
    table = pa.table({"x": [math.nan, math.inf, -math.inf, None], "n": [1, 2, 3, 4]})
    back = read_back(written(table), table.schema).column("x").to_pylist()
    assert math.isnan(back[0]) and back[1:] == [math.inf, -math.inf, None]


def test_columns_of_codes_and_of_long_texts_are_text() -> None:
    table = pa.table(
        {"kind": pa.array(["a", None, "a"]).dictionary_encode(), "long": pa.array(["x", "", None], pa.large_string())}
    )
    assert written(table).decode() == '"kind","long"\r\n"a","x"\r\n,""\r\n"a",\r\n'
    assert [form.name for form in Lines(table.schema).forms] == ["text", "text"]


def test_a_column_without_any_value_is_empty() -> None:
    assert written(pa.table({"nothing": pa.nulls(1), "n": [1]})).decode() == '"nothing","n"\r\n,1\r\n'


def test_a_type_without_a_form_is_refused() -> None:
    with pytest.raises(PipelineError, match="a column of type binary has no form as CSV"):
        form_of(pa.binary())


def test_a_table_without_rows_is_its_header() -> None:
    assert written(SCHEMA.empty_table()) == b'"number","share","passed","text","tests"\r\n'


# --- text that a spreadsheet takes for a formula

FORMULAS = ("=1+1", "+1", "-1", "@cache", "\tx", "\rx")


@pytest.mark.parametrize("text", FORMULAS)
def test_text_is_written_as_it_is_and_counted(text: str) -> None:
    table = pa.table({"text": [text, f" {text}", "x", None]})
    lines = Lines(table.schema)
    assert read_back(b"".join(lines.blocks(table.to_batches())), table.schema).equals(table)
    assert (lines.formulas, lines.rows) == (1, 4)


@pytest.mark.parametrize("text", FORMULAS)
def test_for_spreadsheets_no_text_begins_like_a_formula(text: str) -> None:
    table = pa.table({"text": [text, f"'{text}", "plain", "", None]})
    back = read_back(written(table, for_spreadsheets=True), table.schema).column("text").to_pylist()
    assert not any(looks_like_formula(one) for one in back if one is not None)
    assert back[2:] == ["plain", "", None]
    assert [one.removeprefix("'") for one in back[:2]] == [text, f"'{text}"]


@given(TEXT)
def test_one_apostrophe_taken_off_gives_any_text_back(text: str) -> None:
    assert escaped(text).removeprefix("'") == text


def test_numbers_below_zero_stay_numbers_for_spreadsheets() -> None:
    table = pa.table({"n": [-1], "x": [-0.5]})
    assert written(table, for_spreadsheets=True).decode() == '"n","x"\r\n-1,-0.5\r\n'
