"""The operations on strings and on single numbers."""

from __future__ import annotations

import string

from organism.operation_kinds import INTEGER, LIST, STRING, Operation, plain_operation

LETTERS = tuple(string.ascii_lowercase)
MARKS = tuple("*-_.#0+=")

_texts, _measures = plain_operation(STRING, STRING), plain_operation(STRING, INTEGER)
_ints, _spreads = plain_operation(INTEGER, INTEGER), plain_operation(INTEGER, LIST)
_FACTOR, _WIDE = range(2, 10), range(2, 41)

TEXT_AND_NUMBER_OPERATIONS: tuple[Operation, ...] = (
    _texts(
        "replace_letter",
        ("replace {a} with {b} in {obj}",),
        "{v}.replace({a}, {b})",
        "{v}.replace({b}, {a})",
        LETTERS,
        LETTERS,
        difficulty=0.2,
    ),
    _texts(
        "remove_letter",
        ("remove every {a} from {obj}",),
        "{v}.replace({a}, '')",
        "{v}.replace({a}, ' ')",
        LETTERS,
        difficulty=-0.2,
    ),
    _texts("repeat_text", ("repeat {obj} {a} times",), "{v} * {a}", "{v} * ({a} - 1)", range(2, 6)),
    _texts("append_letter", ("append {a} to {obj}",), "{v} + {a}", "{a} + {v}", LETTERS, difficulty=-0.3),
    _texts(
        "wrap_letters", ("put {a} before and {b} after {obj}",), "{a} + {v} + {b}", "{b} + {v} + {a}", LETTERS, LETTERS
    ),
    _texts(
        "pad_left",
        ("pad {obj} on the left with {b} to length {a}",),
        "{v}.rjust({a}, {b})",
        "{v}.ljust({a}, {b})",
        range(8, 18),
        MARKS,
        difficulty=0.1,
    ),
    _texts("first_letters", ("take the first {a} letters of {obj}",), "{v}[:{a}]", "{v}[{a}:]", range(1, 5)),
    _texts("reverse_text", ("reverse {obj}",), "{v}[::-1]", "{v}[:-1]", difficulty=-0.3),
    _texts(
        "upper_letter", ("make every {a} of {obj} upper case",), "{v}.replace({a}, {a}.upper())", "{v}.upper()", LETTERS
    ),
    _texts(
        "letters_after",
        ("keep the letters of {obj} after {a}",),
        "''.join(c for c in {v} if c > {a})",
        "''.join(c for c in {v} if c < {a})",
        LETTERS[1:-2],
        difficulty=0.2,
    ),
    _texts(
        "remove_vowels",
        ("remove the vowels from {obj}",),
        "''.join(c for c in {v} if c not in VOWELS)",
        "''.join(c for c in {v} if c in VOWELS)",
        needs="vowels",
    ),
    _texts(
        "shift_letters",
        ("shift every letter of {obj} by {a}",),
        "''.join(shift(c, {a}) for c in {v})",
        "''.join(shift(c, -{a}) for c in {v})",
        range(1, 13),
        needs="shift",
        difficulty=0.3,
    ),
    _measures(
        "count_letter",
        ("count how often {a} occurs in {obj}",),
        "{v}.count({a})",
        "{v}.find({a})",
        LETTERS,
        difficulty=-0.2,
    ),
    _measures("last_place", ("find the last position of {a} in {obj}",), "{v}.rfind({a})", "{v}.find({a})", LETTERS),
    _measures(
        "count_vowels",
        ("count the vowels of {obj}",),
        "len([c for c in {v} if c in VOWELS])",
        "len([c for c in {v} if c not in VOWELS])",
        needs="vowels",
    ),
    _measures("text_length", ("find the length of {obj}",), "len({v})", "len({v}) - 1", difficulty=-0.4),
    _measures(
        "other_letters",
        ("count the letters of {obj} other than {a}",),
        "len({v}) - {v}.count({a})",
        "len({v}) + {v}.count({a})",
        LETTERS,
        difficulty=0.2,
    ),
    _ints(
        "scale_number",
        ("multiply {obj} by {a} and add {b}",),
        "{v} * {a} + {b}",
        "({v} + {b}) * {a}",
        _FACTOR,
        range(1, 30),
        difficulty=0.2,
    ),
    _ints("remainder", ("find the remainder of {obj} divided by {a}",), "{v} % {a}", "{v} // {a}", _WIDE),
    _ints(
        "greatest_divisor",
        ("find the greatest common divisor of {obj} and {a}",),
        "math.gcd({v}, {a})",
        "math.lcm({v}, {a})",
        range(4, 40),
        needs="math",
    ),
    _ints(
        "digit_total",
        ("find the sum of the digits of {obj}",),
        "sum(int(d) for d in str({v}))",
        "len(str({v}))",
        difficulty=0.1,
    ),
    _ints("gap_to", ("find the distance of {obj} to {a}",), "abs({v} - {a})", "{v} - {a}", _WIDE, difficulty=-0.1),
    _spreads(
        "first_multiples",
        ("list the first {a} multiples of {obj}",),
        "[{v} * i for i in range(1, {a} + 1)]",
        "[{v} * i for i in range({a})]",
        range(2, 6),
        difficulty=0.2,
    ),
    _spreads(
        "digits_of", ("list the digits of {obj}",), "[int(d) for d in str({v})]", "[int(d) for d in str({v})[::-1]]"
    ),
)
