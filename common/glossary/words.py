"""The words in which files are described: fields, objects, lists, and the files themselves.

A field is written in one line: `"seconds": "float or null, s: wall seconds"`, that is, its type, whether it may be
null, its unit, its meaning. What holds other fields is a pair: `"rank": (RANK, "the place among the controls")`. A name
that ends in `?` stands in some of the files only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SCALARS = ("int", "float", "number", "text", "bool", "any")
STORED = ("int8", "int32", "int64", "float32", "float64", "text", "bool", "list of text")
_LINE = re.compile(r"(?P<kind>[a-z0-9 ]+?)(?P<null> or null)?(, (?P<unit>[^:]+))?: (?P<meaning>\S.*)")


@dataclass(frozen=True)
class Field:
    """One column or key: its type, whether it may be null, its unit and meaning, and whether every file has it."""

    kind: Kind
    meaning: str
    unit: str = ""
    null: bool = False
    always: bool = True


@dataclass(frozen=True)
class Shape:
    """An object with known keys (or a table with known columns); one with a `name` stands in several places.

    `parts` are named objects all of whose keys it has; they are among its `fields`.
    """

    fields: Mapping[str, Field]
    name: str = ""
    about: str = ""
    parts: tuple[Shape, ...] = ()

    def own(self) -> Iterator[tuple[str, Field]]:
        """Yields the fields that are not those of a part."""
        taken = {name for part in self.parts for name in part.fields}
        yield from ((name, field) for name, field in self.fields.items() if name not in taken)


@dataclass(frozen=True)
class Each:
    """An object whose keys are data (`by` says of what kind), with the same type under every key."""

    by: str
    of: Kind


@dataclass(frozen=True)
class Rows:
    """A list of one type."""

    of: Kind


@dataclass(frozen=True)
class Maybe:
    """A type, or null."""

    of: Kind


@dataclass(frozen=True)
class File:
    """One file of a phase: its name (`<word>` stands for what varies), what it is, and what it holds.

    `holds` is None for text and pictures. `when` says where the file is there at all, if not always; `row` what one row
    of a table is.
    """

    name: str
    what: str
    holds: Kind | None = None
    row: str = ""
    when: str = ""

    def pattern(self) -> re.Pattern[str]:
        """Returns the expression that matches the names of such files."""
        parts = re.split(r"(<\w+>)", self.name)
        return re.compile("".join("[^/]+" if part.startswith("<") else re.escape(part) for part in parts))


Kind = str | Shape | Each | Rows | Maybe
Described = str | tuple[Kind, str]


def shape(name: str, about: str, fields: Mapping[str, Described]) -> Shape:
    """Returns an object that stands in several places, under its name."""
    return Shape(_fields(fields, SCALARS), name, about)


def keys(fields: Mapping[str, Described]) -> Shape:
    """Returns an object that stands in one place."""
    return Shape(_fields(fields, SCALARS))


def table(*parts: Mapping[str, str]) -> Shape:
    """Returns a table with the columns of each part in turn."""
    return Shape(_fields({name: line for part in parts for name, line in part.items()}, STORED))


def merged(*shapes: Shape, name: str = "", about: str = "") -> Shape:
    """Returns one object with the keys of all; of those that have a name, as its parts."""
    fields = {key: field for one in shapes for key, field in one.fields.items()}
    return Shape(fields, name, about, tuple(one for one in shapes if one.name))


def _fields(described: Mapping[str, Described], kinds: tuple[str, ...]) -> dict[str, Field]:
    return {name.removesuffix("?"): _field(name, item, kinds) for name, item in described.items()}


def _field(name: str, described: Described, kinds: tuple[str, ...]) -> Field:
    always = not name.endswith("?")
    if isinstance(described, tuple):
        kind, meaning = described
        null = isinstance(kind, Maybe)
        return Field(kind.of if isinstance(kind, Maybe) else kind, meaning, null=null, always=always)
    found = _LINE.fullmatch(described)
    assert found is not None and found["kind"] in kinds, f"{name}: {described!r} (types: {', '.join(kinds)})"
    return Field(found["kind"], found["meaning"], found["unit"] or "", found["null"] is not None, always)
