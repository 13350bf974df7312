"""Values leave the sandbox as they are, and no method of the sample is called on the way."""

from __future__ import annotations

import ast
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.execution.values import (
    Incomparable,
    MalformedVerdictError,
    TooLargeError,
    decode_value,
    encode_value,
)

pytestmark = pytest.mark.unit

Point = namedtuple("Point", "x y")


class Shade(IntEnum):
    DARK = 3


class Plain(list):
    pass


class Liar(list):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


class Alarming:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __repr__(self) -> str:
        raise AssertionError("repr")

    def __iter__(self) -> Any:
        raise AssertionError("iter")


def through(value: object, largest: int = 1000) -> Any:
    text = encode_value(value, 100_000)
    assert text.isascii()
    assert "\n" not in text
    return decode_value(json.loads(text), largest)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
)
hashable = st.one_of(scalars, st.tuples(scalars, scalars), st.frozensets(scalars, max_size=2))
literals = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashable, inner, max_size=3),
        st.sets(hashable, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(value=literals)
def test_any_literal_comes_back_with_its_type_and_value(value: Any) -> None:
    back = through(value)
    assert type(back) is type(value)
    assert back == value
    # The order of dictionaries and the sign of a zero survive too; sets have no order to keep.
    if not isinstance(value, set | frozenset | dict | list | tuple):
        assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (Counter("aab"), "{'a': 2, 'b': 1}"),
        (defaultdict(list, {1: [2]}), "{1: [2]}"),
        (OrderedDict([(2, 1), (1, 2)]), "{1: 2, 2: 1}"),
        (Point(1, 2), "(1, 2)"),
        ({3: 1, 4: 2}.keys(), "{3, 4}"),
        (OrderedDict([(3, 1)]).keys(), "{3}"),
        ({3: 1}.items(), "{(3, 1)}"),
        (Fraction(3, 2), "1.5"),
        (Decimal("2.50"), "2.5"),
        (True, "1"),
        (2.0, "2"),
        (complex(2, 0), "2"),
        (bytearray(b"a\xff"), "b'a\\xff'"),
        (frozenset({1}), "{1}"),
        (Shade.DARK, "3"),
        (Plain([1, Point(2, 3)]), "[1, (2, 3)]"),
        (np.int64(5), "5"),
        (np.float64(0.1), "0.1"),
        (np.float32(0.1), "0.1"),
        (np.bool_(True), "True"),
        (np.str_("ab"), "'ab'"),
        ([np.int32(1), (np.float64(2.5),)], "[1, (2.5,)]"),
    ],
)
def test_values_that_equal_a_literal_still_do_outside(value: object, literal: str) -> None:
    expected = ast.literal_eval(literal)
    assert value == expected, "the case itself is wrong"
    assert through(value) == expected


def test_integers_beyond_the_digit_limit_come_through() -> None:
    assert through(-(10**5000)) == -(10**5000)


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (range(3), "[0, 1, 2]"),
        (deque([1]), "[1]"),
        ({3: 1}.values(), "[1]"),
        (map(str, [1]), "['1']"),
        ((i for i in (1,)), "(1,)"),
        (float("nan"), "0.0"),
        (math.inf, "1e300"),
        ([1, 2], "(1, 2)"),
        ("1", "1"),
        (b"a", "'a'"),
        (np.int64(5), "6"),
        (Point, "(1, 2)"),
        (None, "False"),
    ],
)
def test_values_that_differ_from_a_literal_still_do_outside(value: object, literal: str) -> None:
    expected = ast.literal_eval(literal)
    assert value != expected, "the case itself is wrong"
    assert through(value) != expected


def test_numpy_arrays_keep_dtype_shape_and_their_own_comparison() -> None:
    array = np.array([[1.5, -0.0], [np.inf, 3]], dtype=np.float32)
    back = through(array)
    assert back.dtype == array.dtype
    assert back.shape == (2, 2)
    assert np.array_equal(back, array)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(back == [[1.5, 0.0], [1, 3]])


def test_a_type_with_its_own_equality_is_incomparable_wherever_it_hides() -> None:
    back = through(([Liar([1])], 2))
    assert back != ([[1]], 2)
    assert isinstance(back[0][0], Incomparable)


def test_no_method_of_a_foreign_object_is_called() -> None:
    back = through([Alarming()])
    assert isinstance(back[0], Incomparable)
    assert back[0].type_name == "Alarming"


def test_values_over_the_budget_or_nested_without_end_are_refused_at_little_cost() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in ("x" * 1000, [0] * 10**7, 10**5000, b"x" * 600, endless, np.zeros(10**6), range(10**2000)):
        with pytest.raises(TooLargeError):
            encode_value(value, 900)


def test_containers_longer_than_the_literal_are_not_built() -> None:
    assert isinstance(through([0] * 50, largest=10), Incomparable)
    assert through([0] * 10, largest=10) == [0] * 10


@pytest.mark.parametrize(
    "text",
    [
        '["?"]',
        "[]",
        '{"a":1}',
        "1.5",
        '["d",1]',
        '["f","x"]',
        '["x",1,0]',
        '["r",1,2,0]',
        '["r",1.5,2,1]',
        '["b","zz"]',
        '["e","pi"]',
        '["n","O",null,1]',
        '["n","<i8",[7],["l",1]]',
        '["i",3]',
        '["j","1"]',
        '[["l"]]',
    ],
)
def test_a_forged_message_is_called_malformed(text: str) -> None:
    with pytest.raises(MalformedVerdictError):
        decode_value(json.loads(text), 100)
