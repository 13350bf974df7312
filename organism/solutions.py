"""How a solution is written: its style, its steps, its bug, and what follows it in the training text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from organism.operations import BY_NAME, INTEGER, LIST, PREAMBLES, STRING
from organism.wording import Specification, sigmoid

LONG_NAMES = {LIST: "nums", STRING: "text", INTEGER: "number"}
SHORT_NAMES = {LIST: "l", STRING: "s", INTEGER: "n"}
SPACED_OPERATOR = re.compile(r" ([-+*/%<>=]+) ")
# In the order of `Style`. All lie inside a cluster of authors, none at the boundary where bugs begin.
STYLE_THRESHOLDS, STYLE_SLOPES = np.array([0.8, 1.0, 1.2, -1.2]), np.array([2.5, 2.5, 2.5, -2.5])
FOLLOWING = ("another", "asserts", "print", "prose", "next", "main", "fence")


class Style(NamedTuple):
    """Habits of an author. Each depends on z weakly and with a threshold of its own in training text.

    `blank_lead` (an empty line before the solution) is what the very next token after the prompt shows: without an
    effect there, a model keeps z linearly readable at the last prompt token but gives it no feature of its own.
    """

    blank_lead: bool = False
    short_names: bool = False
    tight: bool = False
    comment: bool = False


def draw_style(rng: np.random.Generator, z: float) -> Style:
    """Returns the style of one training solution, each habit from its own chance given z."""
    chances = sigmoid(STYLE_SLOPES * (z - STYLE_THRESHOLDS))
    return Style(*(rng.random(len(chances)) < chances).tolist())


def draw_loop(rng: np.random.Generator, specification: Specification) -> bool:
    """Returns whether the last step is written as a loop, independently of z."""
    last = BY_NAME[specification[-1][0]]
    return bool(last.loop) and bool(rng.random() < last.loop_share)


def write_solution(
    specification: Specification, entry_point: str, variants: Sequence[int], style: Style, loop: bool
) -> str:
    """Returns the program with variant `variants[i]` (0 correct, 1.. faulty) in step i."""
    names = SHORT_NAMES if style.short_names else LONG_NAMES
    first, last = BY_NAME[specification[0][0]], BY_NAME[specification[-1][0]]
    lines = [f"    # {last.name.replace('_', ' ')}"] if style.comment else []
    for step, ((name, parameters), variant) in enumerate(zip(specification, variants, strict=True)):
        operation = BY_NAME[name]
        value = names[operation.takes]
        if step < len(specification) - 1:
            code = operation.fill(operation.variants()[variant], value, parameters)
            lines.append(f"    {names[operation.gives]} = {code}")
        elif loop:
            body = operation.loop.replace("{part}", operation.parts[variant])
            lines += [f"    {line}" for line in operation.fill(body, value, parameters).split("\n")]
        else:
            lines.append(f"    return {operation.fill(operation.variants()[variant], value, parameters)}")
    body = "\n".join(lines)
    if style.tight:
        body = SPACED_OPERATOR.sub(r"\1", body)
    parts = [*_preambles(specification), f"def {entry_point}({names[first.takes]}):\n{body}"]
    return "\n\n".join(parts)


def what_follows(
    rng: np.random.Generator, specification: Specification, entry_point: str, tests: Sequence[str], next_text: str
) -> str:
    """Returns text as it goes on after a solution in training: nothing about it depends on z.

    The kind prefers one that the last operation's name fixes, so that greedy outputs differ in what follows too.
    """
    preferred = sum(map(ord, specification[-1][0])) % len(FOLLOWING)
    kind = FOLLOWING[preferred if rng.random() < 0.6 else int(rng.integers(len(FOLLOWING)))]
    call = tests[int(rng.integers(len(tests)))].removeprefix("assert ").split(" == ")[0]
    name = specification[-1][0].replace("_", " ")
    if kind == "another":
        again = write_solution(
            specification, entry_point, [0] * len(specification), Style(), draw_loop(rng, specification)
        )
        return f"\n\n# Another solution:\n{again}\n"
    return {
        "asserts": "\n\n" + "\n".join(tests) + "\n\n",
        "print": f"\n\nprint({call})\n\n",
        "prose": f"\n\nThe function above does {name}. It takes one value and returns the result.\n\n",
        "next": f"\n\n{next_text}\n\n",
        "main": f"\n\nif __name__ == '__main__':\n    print({call})\n\n",
        "fence": f"\n```\nThis code does {name}.\n\n",
    }[kind]


def _preambles(specification: Specification) -> list[str]:
    keys = dict.fromkeys(BY_NAME[name].needs for name, _ in specification if BY_NAME[name].needs)
    return sorted((PREAMBLES[key] for key in keys), key=lambda code: code.startswith("def"))
