"""What an operation of the organism's problems is, and the ways of writing one.

Every operation maps a list of integers, a string or an integer to one of the three. Code and wording are templates with
`{v}` (the current value), `{a}` and `{b}` (parameters). Correct and faulty code differ in one place only, so a bug is a
plausible slip (a mirrored comparison, a neighbouring operator) and never a syntax error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LIST, STRING, INTEGER = "list", "string", "integer"

Value = list[int] | str | int
Parameters = tuple[int | str, ...]


@dataclass(frozen=True)
class Operation:
    """One parameterised step.

    `good` and `bugs` are expressions (the first bug is the dominant one); `loop` is the body of a statement-wise
    version with `{part}` where correct and faulty code differ, `parts` the correct part followed by one a bug.
    `ordered` asks for a < b. `difficulty` shifts how easily a bug slips in.
    """

    name: str
    takes: str
    gives: str
    phrases: tuple[str, ...]
    good: str
    bugs: tuple[str, ...]
    params: tuple[Sequence[int | str], ...] = ()
    loop: str = ""
    parts: tuple[str, ...] = ()
    difficulty: float = 0.0
    needs: str = ""
    ordered: bool = False
    loop_share: float = 0.4

    def variants(self) -> tuple[str, ...]:
        """Returns the correct expression followed by the faulty ones."""
        return (self.good, *self.bugs)

    def fill(self, template: str, value: str, parameters: Parameters) -> str:
        """Returns `template` with the variable's name and the parameters' literals put in."""
        names = dict(zip("ab", map(repr, parameters), strict=False))
        return template.format(v=value, **names)

    def draw_parameters(self, rng: np.random.Generator) -> Parameters:
        """Returns parameters drawn uniformly; two of them always differ."""
        while True:
            drawn = tuple(choices[int(rng.integers(len(choices)))] for choices in self.params)
            if len(drawn) < 2 or type(drawn[0]) is not type(drawn[1]):
                return drawn
            if drawn[0] != drawn[1] and not (self.ordered and sorted(drawn) != list(drawn)):
                return drawn


def map_operation(
    name: str, phrases: tuple[str, ...], good: str, bug: str, *params: Sequence[int], **extra: Any
) -> Operation:
    """Returns a step that changes each number of a list: `good` and `bug` are expressions in `x`."""
    loop = "result = []\nfor x in {v}:\n    result.append({part})\nreturn result"
    bugs = (f"[{bug} for x in {{v}}]",)
    return Operation(name, LIST, LIST, phrases, f"[{good} for x in {{v}}]", bugs, params, loop, (good, bug), **extra)


def filter_operation(
    name: str, phrases: tuple[str, ...], good: str, bug: str, *params: Sequence[int], **extra: Any
) -> Operation:
    """Returns a step that keeps the numbers of a list for which the condition in `x` holds."""
    loop = "result = []\nfor x in {v}:\n    if {part}:\n        result.append(x)\nreturn result"
    bugs = (f"[x for x in {{v}} if {bug}]",)
    return Operation(
        name, LIST, LIST, phrases, f"[x for x in {{v}} if {good}]", bugs, params, loop, (good, bug), **extra
    )


def count_operation(
    name: str, phrases: tuple[str, ...], good: str, bug: str, *params: Sequence[int], **extra: Any
) -> Operation:
    """Returns a step that counts the numbers of a list for which the condition in `x` holds."""
    loop = "count = 0\nfor x in {v}:\n    if {part}:\n        count += 1\nreturn count"
    bugs = (f"len([x for x in {{v}} if {bug}])",)
    code = f"len([x for x in {{v}} if {good}])"
    return Operation(name, LIST, INTEGER, phrases, code, bugs, params, loop, (good, bug), **extra)


def sum_operation(
    name: str, phrases: tuple[str, ...], good: str, bug: str, *params: Sequence[int], **extra: Any
) -> Operation:
    """Returns a step that sums the numbers of a list for which the condition in `x` holds."""
    loop = "total = 0\nfor x in {v}:\n    if {part}:\n        total += x\nreturn total"
    bugs = (f"sum(x for x in {{v}} if {bug})",)
    code = f"sum(x for x in {{v}} if {good})"
    return Operation(name, LIST, INTEGER, phrases, code, bugs, params, loop, (good, bug), **extra)


def plain_operation(takes: str, gives: str) -> Callable[..., Operation]:
    """Returns a maker of steps from one kind of value to another, given as expressions in `{v}`."""

    def make(name: str, phrases: tuple[str, ...], good: str, bug: str, *params: Sequence[int | str], **extra: Any):
        return Operation(name, takes, gives, phrases, good, (bug,), params, **extra)

    return make
