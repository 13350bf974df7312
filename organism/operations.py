"""All operations by name, the code that some need in front, and each as a Python function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from organism.list_operations import LIST_OPERATIONS
from organism.operation_kinds import INTEGER, LIST, STRING, Operation, Parameters, Value
from organism.text_operations import LETTERS, TEXT_AND_NUMBER_OPERATIONS

__all__ = [
    "BY_NAME",
    "INTEGER",
    "LETTERS",
    "LIST",
    "OPERATIONS",
    "PREAMBLES",
    "STRING",
    "Operation",
    "Parameters",
    "Value",
    "as_function",
]

OPERATIONS: tuple[Operation, ...] = (*LIST_OPERATIONS, *TEXT_AND_NUMBER_OPERATIONS)
PREAMBLES = {
    "gcd": "from math import gcd",
    "math": "import math",
    "accumulate": "from itertools import accumulate",
    "vowels": "VOWELS = 'aeiou'",
    "is_prime": (
        "def is_prime(n):\n    if n < 2:\n        return False\n"
        "    for d in range(2, n):\n        if n % d == 0:\n            return False\n    return True"
    ),
    "digit_sum": "def digit_sum(n):\n    return sum(int(d) for d in str(n))",
    "shift": "def shift(c, k):\n    return chr((ord(c) - 97 + k) % 26 + 97)",
}

BY_NAME = {operation.name: operation for operation in OPERATIONS}


@cache
def preamble_names() -> dict[str, Any]:
    """Returns a namespace in which every preamble has run (our own code only)."""
    names: dict[str, Any] = {}
    for code in PREAMBLES.values():
        exec(code, names)
    return names


@cache
def as_function(name: str, parameters: Parameters, variant: int) -> Callable[[Value], Value]:
    """Returns variant `variant` (0 correct, 1.. faulty) of an operation as a Python function."""
    operation = BY_NAME[name]
    code = operation.fill(operation.variants()[variant], "v", parameters)
    return eval(f"lambda v: {code}", preamble_names())
