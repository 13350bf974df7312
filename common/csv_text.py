"""The form in which tables stand as CSV: RFC 4180, UTF-8, and nothing lost.

Text always stands in quotes (a quote in it is doubled) and a missing value is an empty field without quotes, so that an
empty text and a missing one stay apart, as in PostgreSQL's COPY and DuckDB. Booleans are `true` and `false`, whole
numbers plain, other numbers the shortest digits that read back as the same double (`nan`, `inf`), lists JSON text.
Records end in CR LF; text may hold line breaks.

A spreadsheet takes text that begins with = + - @ (or a tab or a carriage return) for a formula, in quotes or not; code
that a model wrote may. Values are written as they are, since a changed program is another program; `for_spreadsheets`
puts an apostrophe before such text, and before text that begins with an apostrophe, so that it can be taken off again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from common.errors import PipelineError

LINE_END = "\r\n"
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")
ESCAPE = "'"


class Form(NamedTuple):
    """How a column's values are written: what the form is called, and the field of a value that is not missing."""

    name: str
    field: Callable[[Any], str]


def text_field(text: str) -> str:
    """Returns a text as a field."""
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def looks_like_formula(text: str) -> bool:
    """Says whether a spreadsheet may take a text for a formula."""
    return text.startswith(FORMULA_MARKS)


def escaped(text: str) -> str:
    """Returns text that no spreadsheet takes for a formula; one apostrophe taken off gives it back."""
    return ESCAPE + text if text.startswith((*FORMULA_MARKS, ESCAPE)) else text


def form_of(kind: pa.DataType) -> Form:
    """Returns how values of an Arrow type are written; raises `PipelineError` for a type that CSV has no form for."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Form("text", text_field)
    if pa.types.is_boolean(kind):
        return Form("boolean", lambda value: "true" if value else "false")
    if pa.types.is_integer(kind):
        return Form("whole number", str)
    if pa.types.is_floating(kind):
        return Form("number", lambda value: repr(float(value)))
    if pa.types.is_nested(kind):
        return Form("JSON", lambda value: text_field(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))
    if pa.types.is_null(kind):
        return Form("nothing", str)
    raise PipelineError(f"a column of type {kind} has no form as CSV; read the parquet file instead")


def _line(fields: Iterable[str]) -> str:
    return ",".join(fields) + LINE_END


class Lines:
    """Turns batches of rows into lines, and counts rows and the texts that a spreadsheet would take for formulas."""

    def __init__(self, schema: pa.Schema, *, for_spreadsheets: bool = False) -> None:
        self.names = schema.names
        self.forms = [form_of(field.type) for field in schema]
        self.for_spreadsheets = for_spreadsheets
        self.rows = self.formulas = 0

    def blocks(self, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
        """Yields the header, then the lines of each batch, as UTF-8."""
        yield _line(map(text_field, self.names)).encode("utf-8")
        for batch in batches:
            yield "".join(self._lines(batch)).encode("utf-8")

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        columns = [
            [self._field(form, value) for value in column.to_pylist()]
            for form, column in zip(self.forms, batch.columns, strict=True)
        ]
        self.rows += batch.num_rows
        return map(_line, zip(*columns, strict=True))

    def _field(self, form: Form, value: Any) -> str:
        if value is None:
            return ""
        if form.name != "text":
            return form.field(value)
        self.formulas += looks_like_formula(value)
        return form.field(escaped(value) if self.for_spreadsheets else value)
