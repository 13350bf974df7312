"""Holds a file of a run against what the glossary says of it: everything described, everything described is there."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.glossary.words import Each, Field, File, Kind, Maybe, Rows, Shape

STORED = {"double": "float64", "string": "text", "large_string": "text", "float": "float32"}


class Seen:
    """What has been looked at: problems found, and which fields held something."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.fields: set[int] = set()

    def look(self, root: Path, name: str, file: File) -> None:
        """Looks at one file of a run."""
        path = root / name
        if isinstance(file.holds, Shape) and path.suffix == ".parquet":
            self._table(name, pq.read_schema(path), file.holds)
        elif isinstance(file.holds, Shape) and path.suffix == ".csv":
            self._columns(name, next(csv.reader(path.open(encoding="utf-8"))), file.holds)
        elif isinstance(file.holds, Shape) and path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                self._columns(name, ["layer_<n>" if array[6:].isdigit() else array for array in arrays], file.holds)
        elif file.holds is not None:
            self.value(name, json.loads(path.read_text(encoding="utf-8")), file.holds)

    def value(self, where: str, value: Any, kind: Kind) -> None:
        """Looks at one value of a JSON file."""
        if isinstance(kind, Maybe):
            if value is not None:
                self.value(where, value, kind.of)
        elif isinstance(kind, str):
            if not _fits(value, kind):
                self.problems.append(f"{where}: {value!r} is not {kind}")
        elif isinstance(kind, Rows):
            self._expect(where, value, list)
            for item in value if isinstance(value, list) else []:
                self.value(f"{where}[]", item, kind.of)
        elif isinstance(kind, Each):
            self._expect(where, value, dict)
            for name, item in value.items() if isinstance(value, dict) else []:
                self.value(f"{where}.{name}", item, kind.of)
        else:
            self._object(where, value, kind)

    def _object(self, where: str, value: Any, shape: Shape) -> None:
        self._expect(where, value, dict)
        if not isinstance(value, dict):
            return
        known = set()
        for name, field in shape.fields.items():
            pattern = re.compile(re.sub(r"<\w+>", "[a-z]+", name))
            found = [key for key in value if pattern.fullmatch(key)]
            known |= set(found)
            for key in found:
                self._field(f"{where}.{key}", value[key], field)
            if field.always and not found:
                self.problems.append(f"{where}.{name} is described and not there")
        self.problems += [f"{where}.{name} has no meaning" for name in value if name not in known]

    def _field(self, where: str, value: Any, field: Field) -> None:
        self.fields.add(id(field))
        if value is not None or not (field.null or field.kind == "any"):
            self.value(where, value, field.kind)

    def _table(self, where: str, schema: pa.Schema, shape: Shape) -> None:
        self._columns(where, schema.names, shape)
        for name in schema.names:
            if name in shape.fields and stored(schema.field(name).type) != shape.fields[name].kind:
                self.problems.append(f"{where}.{name} is {stored(schema.field(name).type)}")

    def _columns(self, where: str, names: Iterable[str], shape: Shape) -> None:
        found = list(dict.fromkeys(names))
        self.fields |= {id(shape.fields[name]) for name in found if name in shape.fields}
        if found != list(shape.fields):
            self.problems.append(f"{where}: columns {found}, described {list(shape.fields)}")

    def _expect(self, where: str, value: Any, kind: type) -> None:
        if not isinstance(value, kind):
            self.problems.append(f"{where}: {value!r} is no {kind.__name__}")


def stored(kind: pa.DataType) -> str:
    """Returns a column's type in the glossary's words."""
    if pa.types.is_dictionary(kind):
        return stored(kind.value_type)
    if pa.types.is_list(kind):
        return f"list of {stored(kind.value_type)}"
    return STORED.get(str(kind), str(kind))


def fields_of(kind: Kind | None, above: str = "") -> Iterator[tuple[str, Field]]:
    """Yields every field that a file can hold, with its place."""
    if isinstance(kind, Maybe | Rows | Each):
        yield from fields_of(kind.of, above)
    elif isinstance(kind, Shape):
        for name, field in kind.fields.items():
            yield f"{above}.{name}", field
            yield from fields_of(field.kind, f"{above}.{name}")


def _fits(value: Any, kind: str) -> bool:
    if kind == "any":
        return True
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole if kind == "int" else whole or isinstance(value, float)
