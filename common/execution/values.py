"""The canonical encoding in which values leave the sandbox: tagged JSON.

Encoding runs beside the sample and calls none of its methods: it looks at exact types, and reads containers and
numbers through the methods of the builtin type itself. A type derived from a builtin without an equality of its own
is read as that builtin, since Python compares it so. Decoding runs in the pipeline and builds nothing but builtin,
standard-library and numpy values. This file is also loaded by the worker on its own, so it imports only the standard
library.
"""

from __future__ import annotations

import json
import sys
from _json import encode_basestring_ascii as _quote
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

# Python itself reads no literal of more than 200 nested brackets.
MAX_DEPTH = 250
SOLUTION_MODULE = "solution"

_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__
_name_of = type.__dict__["__name__"].__get__
_numerator_of = Fraction.__dict__["_numerator"].__get__
_denominator_of = Fraction.__dict__["_denominator"].__get__
_real_of = complex.__dict__["real"].__get__
_imag_of = complex.__dict__["imag"].__get__

_SEQUENCES: dict[type, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    list: ("l", list.__iter__),
    tuple: ("t", tuple.__iter__),
    set: ("s", set.__iter__),
    frozenset: ("z", frozenset.__iter__),
    deque: ("q", deque.__iter__),
    type({}.keys()): ("k", iter),
    type({}.values()): ("v", iter),
    type(OrderedDict().keys()): ("k", iter),
    type(OrderedDict().values()): ("v", iter),
}
_MAPPINGS: dict[type, tuple[str, Callable[[Any], Iterable[Any]]]] = {
    dict: ("d", dict.items),
    Counter: ("c", dict.items),
    OrderedDict: ("o", OrderedDict.items),
    type({}.items()): ("m", iter),
    type(OrderedDict().items()): ("m", iter),
}
_SCALARS = (type(None), type(...), bool, int, float, complex, str, bytes, bytearray, range, Fraction, Decimal)
_READABLE = frozenset(_SEQUENCES) | frozenset(_MAPPINGS) | frozenset(_SCALARS)


class TooLargeError(Exception):
    """The value has too many characters or too many levels to leave the sandbox."""


class MalformedVerdictError(Exception):
    """What came out of the sandbox is not in the canonical encoding."""


class Incomparable:
    """Stands for a value that equals no literal; `own`: by its type's own say, which is not asked."""

    def __init__(self, type_name: str, own: bool = False) -> None:
        self.type_name = type_name
        self.own = own

    def __repr__(self) -> str:
        return f"<{self.type_name}>"


def type_name(kind: type) -> str:
    """Returns the name of a type without asking its metaclass."""
    return _name_of(kind)


def encode_value(value: object, budget: int) -> str:
    """Returns `value` as one line of ASCII text of at most `budget` characters; raises `TooLargeError` beyond that."""
    encoder = _Encoder(budget)
    encoder.encode(value, 0)
    return "".join(encoder.parts)


class _Encoder:
    def __init__(self, budget: int) -> None:
        self.parts: list[str] = []
        self.left = budget

    def emit(self, text: str) -> None:
        self.left -= len(text)
        if self.left < 0:
            raise TooLargeError
        self.parts.append(text)

    def encode(self, value: Any, depth: int, *, hashed: bool = False) -> None:
        """Adds a value; one that is `hashed`, in a set or as a key, is found by its type's own hash, if it has one."""
        if depth > MAX_DEPTH:
            raise TooLargeError
        kind = type(value)
        if kind not in _READABLE:
            if self._encode_numpy(value, kind, depth):
                return
            base = _comparing_base(kind, hashed=hashed)
            if base not in _READABLE:
                own = _dict_of(kind).get("__module__") == SOLUTION_MODULE or base is not object
                self.emit(f'["{"own" if own else "other"}",{_quote(_name_of(kind)[:80])}]')
                return
            kind = base
        if kind in _SEQUENCES:
            tag, iterate = _SEQUENCES[kind]
            self._encode_items(tag, iterate(value), depth)
        elif kind in _MAPPINGS:
            tag, iterate = _MAPPINGS[kind]
            self._encode_pairs(tag, iterate(value), depth)
        else:
            self._encode_scalar(value, kind)

    def _encode_items(self, tag: str, items: Iterable[Any], depth: int) -> None:
        self.emit(f'["{tag}"')
        for item in items:
            self.emit(",")
            self.encode(item, depth + 1, hashed=tag in "sz")
        self.emit("]")

    def _encode_pairs(self, tag: str, pairs: Iterable[Any], depth: int) -> None:
        self.emit(f'["{tag}"')
        for key, value in pairs:
            self.emit(",[")
            self.encode(key, depth + 1, hashed=True)
            self.emit(",")
            self.encode(value, depth + 1)
            self.emit("]")
        self.emit("]")

    def _encode_scalar(self, value: Any, kind: type) -> None:
        if kind is type(None):
            self.emit("null")
        elif kind is type(...):
            self.emit('["."]')
        elif kind is bool:
            self.emit("true" if value else "false")
        elif kind is int:
            self.emit(self._integer(value))
        elif kind is float:
            self.emit(f'["f","{float.hex(value)}"]')
        elif kind is complex:
            self.emit(f'["j","{float.hex(_real_of(value))}","{float.hex(_imag_of(value))}"]')
        elif kind is str:
            self._require(str.__len__(value))
            self.emit(self._text(value))
        elif kind is range:
            self.emit(f'["r",{",".join(self._integer(part) for part in (value.start, value.stop, value.step))}]')
        elif kind is Fraction:
            self.emit(f'["x",{self._integer(_numerator_of(value))},{self._integer(_denominator_of(value))}]')
        elif kind is Decimal:
            self.emit(f'["e",{_quote(Decimal.__str__(value))}]')
        else:
            self._require(2 * kind.__len__(value))
            self.emit(f'["{"b" if kind is bytes else "a"}","{kind.hex(value)}"]')

    def _text(self, value: str) -> str:
        """Returns a text as JSON; JSON's reader makes one character of two halves that stand side by side."""
        quoted = _quote(value)
        if "\\ud" not in quoted:
            return quoted
        return f'["u","{str.encode(value, "utf-8", "surrogatepass").hex()}"]'

    def _integer(self, value: int) -> str:
        bits = int.bit_length(value)
        self._require(bits // 4)
        return int.__repr__(value) if bits < 62 else f'["i","{int.__format__(value, "x")}"]'

    def _require(self, characters: int) -> None:
        if characters > self.left:
            raise TooLargeError

    def _encode_numpy(self, value: Any, kind: type, depth: int) -> bool:
        """Encodes numpy's scalars and plain arrays; returns False for everything else."""
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return False
        is_array = kind is numpy.ndarray
        if not (is_array or numpy.generic in _mro_of(kind)) or value.dtype.kind not in "biufcSU":
            return False
        if kind is numpy.longdouble:
            self.emit(f'["w",{_quote(str(value))}]')
            return True
        plain = (
            value.tolist() if is_array and value.size <= self.left else None if is_array else numpy.generic.item(value)
        )
        if (is_array and plain is None) or (not is_array and type(plain) not in _READABLE):
            raise TooLargeError
        shape = list(value.shape) if is_array else None
        self.emit(f'["n",{_quote(value.dtype.str)},{json.dumps(shape)},')
        self.encode(plain, depth + 1)
        self.emit("]")
        return True


def _comparing_base(kind: type, *, hashed: bool) -> type:
    """Returns the type whose equality a derived type inherits: a builtin that can be read, another, or `object`.

    With `hashed`, a hash of its own counts like an equality of its own.
    """
    for ancestor in _mro_of(kind):
        members = _dict_of(ancestor)
        if hashed and ancestor not in _READABLE and "__hash__" in members:
            return ancestor
        # defaultdict is a C type that lists no equality; every other library type that lists one is incomparable.
        if ancestor in _READABLE or "__eq__" in members or "__ne__" in members:
            return ancestor
    return object


def decode_value(node: Any, largest: int) -> Any:
    """Builds the value that `json.loads` has read from the encoding.

    Containers of more than `largest` items become `Incomparable` without being built: they cannot equal a literal of
    that many parts. Raises `MalformedVerdictError` for anything that `encode_value` does not write.
    """
    if node is None or isinstance(node, bool | int | str):
        return node
    if not isinstance(node, list) or not node or not isinstance(node[0], str):
        raise MalformedVerdictError(f"no value of the encoding: {str(node)[:40]}")
    tag, *parts = node
    try:
        if tag in _CONTAINERS:
            if len(parts) > largest:
                return Incomparable(f"{_CONTAINERS[tag].__name__} of {len(parts)} items")
            return _built(_CONTAINERS[tag], [decode_value(part, largest) for part in parts])
        if tag in _KEYED:
            if len(parts) > largest:
                return Incomparable(f"{tag} of {len(parts)} items")
            pairs = [(decode_value(key, largest), decode_value(value, largest)) for key, value in parts]
            return _built(_KEYED[tag], pairs)
        if tag == "n":
            return _decode_numpy(parts, largest)
        return _decode_tagged(tag, parts)
    except MalformedVerdictError:
        raise
    except (TypeError, ValueError, KeyError, ArithmeticError, ImportError, AttributeError) as error:
        raise MalformedVerdictError(f"tag {tag[:10]!r}: {error}") from None


def _built(make: Callable[[list[Any]], Any], parts: list[Any]) -> Any:
    try:
        return make(parts)
    except TypeError:  # a part that cannot be hashed here: of a type that could where it came from
        return Incomparable("container", own=True)


def _values_view(items: list[Any]) -> Any:
    return dict(enumerate(items)).values()


_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "z": frozenset,
    "q": deque,
    "k": lambda items: dict.fromkeys(items).keys(),
    "v": _values_view,
}
_KEYED: dict[str, Callable[[list[Any]], Any]] = {
    "d": dict,
    "c": lambda pairs: Counter(dict(pairs)),
    "o": OrderedDict,
    "m": lambda pairs: dict(pairs).items(),
}


def _decode_tagged(tag: str, parts: list[Any]) -> Any:
    if tag in ("own", "other"):
        return Incomparable(str(parts[0])[:80], own=tag == "own")
    if tag in _PLAIN:
        return _PLAIN[tag](*parts)
    raise MalformedVerdictError(f"unknown tag {tag[:10]!r}")


def _integer(node: Any) -> int:
    if isinstance(node, list) and len(node) == 2 and node[0] == "i":
        return int(node[1], 16)
    if type(node) is not int:
        raise MalformedVerdictError("not an integer")
    return node


def _decode_numpy(parts: list[Any], largest: int) -> Any:
    import numpy as np

    dtype, shape, plain = parts
    kind = np.dtype(dtype)
    if kind.kind not in "biufcSU":
        raise MalformedVerdictError(f"dtype {dtype[:10]!r}")
    value = decode_value(plain, largest)
    if shape is None:
        return kind.type(value)
    if not _plain_items(value):
        return Incomparable("ndarray")
    # The width of texts is theirs, not the one that was announced, which may be any.
    return np.array(value, dtype=None if kind.kind in "SU" else kind).reshape(shape)


def _plain_items(value: Any) -> bool:
    """Tells whether a decoded array is numbers or texts in lists, as `tolist` gives them."""
    if isinstance(value, list):
        return all(_plain_items(item) for item in value)
    return isinstance(value, bool | int | float | complex | str | bytes)


def _fraction(numerator: int, denominator: int) -> Fraction:
    """Builds a fraction of terms that were lowest where it came from: reducing large ones again takes seconds."""
    if denominator < 1:
        raise MalformedVerdictError(f"a denominator of {denominator}")
    value = object.__new__(Fraction)
    value._numerator, value._denominator = numerator, denominator  # type: ignore[attr-defined]
    return value


def _decode_long_double(text: str) -> Any:
    import numpy as np

    return np.longdouble(text)


_PLAIN: dict[str, Callable[..., Any]] = {
    ".": lambda: ...,
    "u": lambda digits: bytes.fromhex(digits).decode("utf-8", "surrogatepass"),
    "w": _decode_long_double,
    "i": lambda digits: int(digits, 16),
    "f": float.fromhex,
    "j": lambda real, imag: complex(float.fromhex(real), float.fromhex(imag)),
    "b": bytes.fromhex,
    "a": bytearray.fromhex,
    "r": lambda start, stop, step: range(_integer(start), _integer(stop), _integer(step)),
    "x": lambda numerator, denominator: _fraction(_integer(numerator), _integer(denominator)),
    "e": Decimal,
}
