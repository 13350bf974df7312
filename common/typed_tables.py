"""Tables of a file (TOML, YAML) as frozen dataclasses, strictly: every key known, every value of its field's type."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from common.errors import UsageError, suggest


def typed_table(kind: type[Any], values: Any, where: str) -> Any:
    """Returns a table as the dataclass `kind`, its own tables as theirs; `where` names the table in refusals.

    Lists become tuples. Raises UsageError for an unknown key, with the nearest known one, for a value of another type,
    and for a key that is missing.
    """
    if dataclasses.is_dataclass(values) and isinstance(values, kind):
        return values
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected a table, found {values!r}")
    known = typing.get_type_hints(kind)
    given = {}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{suggest(str(key), known)}")
        if dataclasses.is_dataclass(known[key]):
            given[key] = typed_table(known[key], value, f"{where}.{key}")  # type: ignore[arg-type]
        elif not _fits(known[key], value):
            raise UsageError(f"{where}: {key} = {value!r} is of the wrong type")
        else:
            given[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**given)
    except TypeError as error:
        raise UsageError(f"{where} is incomplete: {error}") from None


def _fits(expected: Any, value: Any) -> bool:
    """Returns whether a value of a file can stand for a field of type `expected`."""
    if isinstance(expected, types.UnionType):
        return any(_fits(option, value) for option in typing.get_args(expected))
    if dataclasses.is_dataclass(expected):
        return isinstance(value, expected)  # type: ignore[arg-type]
    origin = typing.get_origin(expected) or expected
    if origin is tuple:
        item = typing.get_args(expected)[0]
        return isinstance(value, list | tuple) and all(_fits(item, each) for each in value)
    if origin is dict and typing.get_args(expected):
        of_keys, of_values = typing.get_args(expected)
        return isinstance(value, dict) and all(_fits(of_keys, k) and _fits(of_values, v) for k, v in value.items())
    if origin is Any:
        return True
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin)
