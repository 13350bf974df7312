"""The operations on lists of numbers."""

from __future__ import annotations

from organism.operation_kinds import (
    INTEGER,
    LIST,
    Operation,
    count_operation,
    filter_operation,
    map_operation,
    plain_operation,
    sum_operation,
)

_lists, _numbers = plain_operation(LIST, LIST), plain_operation(LIST, INTEGER)
_SMALL, _FACTOR, _WIDE, _FEW = range(2, 13), range(2, 10), range(2, 41), range(1, 5)

LIST_OPERATIONS: tuple[Operation, ...] = (
    map_operation("add_each", ("add {a} to every number of {obj}",), "x + {a}", "x - {a}", _WIDE, difficulty=-0.5),
    map_operation(
        "subtract_each", ("subtract {a} from every number of {obj}",), "x - {a}", "{a} - x", _WIDE, difficulty=-0.2
    ),
    map_operation(
        "multiply_each", ("multiply every number of {obj} by {a}",), "x * {a}", "x + {a}", range(2, 20), difficulty=-0.4
    ),
    map_operation(
        "scale_each",
        ("multiply every number of {obj} by {a} and add {b}",),
        "x * {a} + {b}",
        "(x + {b}) * {a}",
        _FACTOR,
        range(1, 30),
        difficulty=0.3,
    ),
    map_operation(
        "remainder_each", ("find the remainder of every number of {obj} divided by {a}",), "x % {a}", "x // {a}", _WIDE
    ),
    map_operation("divide_each", ("divide every number of {obj} by {a} rounding down",), "x // {a}", "x % {a}", _SMALL),
    map_operation(
        "clip_each",
        ("limit every number of {obj} to between {a} and {b}",),
        "min(max(x, {a}), {b})",
        "max(min(x, {a}), {b})",
        range(2, 30),
        range(2, 40),
        ordered=True,
        difficulty=0.4,
    ),
    map_operation(
        "swap_value",
        ("replace every {a} of {obj} with {b}",),
        "{b} if x == {a} else x",
        "{a} if x == {b} else x",
        range(1, 30),
        range(1, 30),
        difficulty=0.2,
    ),
    map_operation(
        "common_divisors",
        ("find the greatest common divisor of {a} and every number of {obj}",),
        "gcd(x, {a})",
        "x // gcd(x, {a})",
        range(4, 40),
        needs="gcd",
        difficulty=0.1,
    ),
    map_operation(
        "digit_sums",
        ("find the sum of the digits of every number of {obj}",),
        "digit_sum(x)",
        "len(str(x))",
        needs="digit_sum",
    ),
    filter_operation(
        "keep_greater", ("keep the numbers of {obj} greater than {a}",), "x > {a}", "x < {a}", _WIDE, difficulty=-0.3
    ),
    filter_operation(
        "keep_smaller", ("keep the numbers of {obj} smaller than {a}",), "x < {a}", "x <= {a}", _WIDE, difficulty=0.1
    ),
    filter_operation(
        "keep_multiples",
        ("keep the multiples of {a} of {obj}",),
        "x % {a} == 0",
        "x % {a} != 0",
        _SMALL,
        difficulty=-0.2,
    ),
    filter_operation(
        "drop_multiples", ("remove the multiples of {a} from {obj}",), "x % {a} != 0", "x % {a} == 0", _SMALL
    ),
    filter_operation(
        "keep_between",
        ("keep the numbers of {obj} from {a} to {b}",),
        "{a} <= x <= {b}",
        "{a} < x < {b}",
        range(2, 25),
        range(5, 40),
        ordered=True,
        difficulty=0.3,
    ),
    filter_operation(
        "drop_between",
        ("remove the numbers of {obj} from {a} to {b}",),
        "x < {a} or x > {b}",
        "{a} <= x <= {b}",
        range(2, 25),
        range(5, 40),
        ordered=True,
        difficulty=0.2,
    ),
    filter_operation("remove_value", ("remove every {a} from {obj}",), "x != {a}", "x == {a}", _WIDE, difficulty=-0.3),
    filter_operation(
        "keep_primes", ("keep the prime numbers of {obj}",), "is_prime(x)", "not is_prime(x)", needs="is_prime"
    ),
    filter_operation(
        "keep_digit_sum",
        ("keep the numbers of {obj} whose digit sum is greater than {a}",),
        "digit_sum(x) > {a}",
        "digit_sum(x) < {a}",
        range(2, 12),
        needs="digit_sum",
        difficulty=0.3,
    ),
    _lists("take_first", ("take the first {a} numbers of {obj}",), "{v}[:{a}]", "{v}[{a}:]", _FEW, difficulty=-0.2),
    _lists("skip_first", ("skip the first {a} numbers of {obj}",), "{v}[{a}:]", "{v}[:{a}]", _FEW),
    _lists("rotate_left", ("rotate {obj} to the left by {a}",), "{v}[{a}:] + {v}[:{a}]", "{v}[:{a}] + {v}[{a}:]", _FEW),
    _lists("append_value", ("append {a} to {obj}",), "{v} + [{a}]", "[{a}] + {v}", range(1, 60), difficulty=-0.3),
    _lists(
        "insert_value",
        ("insert {a} into {obj} at position {b}",),
        "{v}[:{b}] + [{a}] + {v}[{b}:]",
        "{v}[:{b}] + [{a}] + {v}[{b} + 1:]",
        range(5, 50),
        range(1, 4),
        difficulty=0.3,
    ),
    _lists(
        "sort_ascending",
        ("sort {obj} in ascending order",),
        "sorted({v})",
        "sorted({v}, reverse=True)",
        difficulty=-0.3,
    ),
    _lists("sort_descending", ("sort {obj} in descending order",), "sorted({v}, reverse=True)", "sorted({v})"),
    _lists("reverse_order", ("reverse the order of {obj}",), "{v}[::-1]", "{v}[:-1]", difficulty=-0.2),
    _lists(
        "sort_by_distance",
        ("sort {obj} by the distance to {a}",),
        "sorted({v}, key=lambda x: abs(x - {a}))",
        "sorted({v}, key=lambda x: x - {a})",
        _WIDE,
        difficulty=0.3,
    ),
    _lists(
        "remove_duplicates",
        ("remove the duplicates from {obj}",),
        "list(dict.fromkeys({v}))",
        "[x for x in {v} if {v}.count(x) == 1]",
        loop="result = []\nfor x in {v}:\n    if {part}:\n        result.append(x)\nreturn result",
        parts=("x not in result", "{v}.count(x) == 1"),
    ),
    _lists(
        "running_sums",
        ("find the running sums of {obj}",),
        "list(accumulate({v}))",
        "list(accumulate({v}, max))",
        needs="accumulate",
    ),
    count_operation(
        "count_greater", ("count the numbers of {obj} greater than {a}",), "x > {a}", "x < {a}", _WIDE, difficulty=-0.2
    ),
    count_operation(
        "count_multiples", ("count the multiples of {a} of {obj}",), "x % {a} == 0", "x % {a} != 0", _SMALL
    ),
    count_operation(
        "count_between",
        ("count the numbers of {obj} from {a} to {b}",),
        "{a} <= x <= {b}",
        "{a} < x < {b}",
        range(2, 25),
        range(5, 40),
        ordered=True,
        difficulty=0.3,
    ),
    sum_operation(
        "sum_greater", ("find the sum of the numbers of {obj} greater than {a}",), "x > {a}", "x < {a}", _WIDE
    ),
    sum_operation(
        "sum_multiples",
        ("find the sum of the multiples of {a} of {obj}",),
        "x % {a} == 0",
        "x % {a} != 0",
        _SMALL,
        difficulty=0.1,
    ),
    _numbers("total", ("find the sum of {obj}",), "sum({v})", "max({v})", difficulty=-0.5),
    _numbers(
        "spread",
        ("find the difference of the largest and smallest number of {obj}",),
        "max({v}) - min({v})",
        "max({v}) + min({v})",
    ),
    _numbers(
        "kth_largest",
        ("find number {a} of {obj} counted from the largest",),
        "sorted({v})[-{a}]",
        "sorted({v})[{a} - 1]",
        _FEW,
        difficulty=0.3,
    ),
    _numbers("total_modulo", ("find the sum of {obj} modulo {a}",), "sum({v}) % {a}", "sum({v}) // {a}", _WIDE),
    _numbers(
        "nearest_gap",
        ("find the smallest distance to {a} of {obj}",),
        "min(abs(x - {a}) for x in {v})",
        "max(abs(x - {a}) for x in {v})",
        _WIDE,
        difficulty=0.1,
    ),
    _numbers(
        "first_greater",
        ("find the first number of {obj} greater than {a} or else -1",),
        "next((x for x in {v} if x > {a}), -1)",
        "next((x for x in {v} if x < {a}), -1)",
        _WIDE,
        loop="for x in {v}:\n    if {part}:\n        return x\nreturn -1",
        parts=("x > {a}", "x < {a}"),
        difficulty=0.2,
        loop_share=0.75,
    ),
    _numbers(
        "count_pairs",
        ("count the pairs of {obj} with the sum {a}",),
        "len([1 for i, x in enumerate({v}) for y in {v}[i + 1:] if x + y == {a}])",
        "len([1 for i, x in enumerate({v}) for y in {v}[i:] if x + y == {a}])",
        range(4, 40, 2),
        loop="count = 0\nfor i in range(len({v})):\n    for j in range({part}, len({v})):\n"
        "        if {v}[i] + {v}[j] == {a}:\n            count += 1\nreturn count",
        parts=("i + 1", "i"),
        difficulty=0.5,
        loop_share=0.8,
    ),
)
