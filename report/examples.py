"""Steered solutions beside their baselines, from the files of examples that the steering phases publish.

A page holds at most `MOST` of them and `MOST_CHARACTERS` of code; whatever it leaves out it says, and where all are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common.steering_examples import NO_CODE
from report.blocks import Change

MOST = 240
MOST_CHARACTERS = 600_000

Example = Mapping[str, Any]


def is_compared(example: Example) -> bool:
    """Returns whether an example enters rates: judged in both arms, and not left out."""
    judged = None not in (example["baseline_passed"], example["steered_passed"])
    return judged and example["left_out"] is None


def change(example: Example, condition: str) -> Change:
    """Returns an example that enters rates as it stands on a page."""
    before, after = example["baseline_passed"], example["steered_passed"]
    return Change(
        example["task_id"],
        example["text"],
        condition,
        _FLIPS[before, after],
        example["outcome"].replace("_", " "),
        _code(example["baseline_code"]),
        _code(example["generated_code"]),
    )


_FLIPS = {
    (False, True): "fixed",
    (True, False): "broken",
    (True, True): "stayed correct",
    (False, False): "stayed incorrect",
}
FLIPPED = ("fixed", "broken")


def _code(code: str | None) -> str:
    return code if code and code.strip() else NO_CODE


def fitting(changes: Iterable[Change], most: int = MOST, characters: int = MOST_CHARACTERS) -> tuple[Change, ...]:
    """Returns the first of `changes` that a page has room for."""
    kept: list[Change] = []
    room = characters
    for one in changes:
        room -= len(one.asked) + len(one.baseline) + len(one.steered)
        if len(kept) == most or room < 0:
            break
        kept.append(one)
    return tuple(kept)


def flips_first(changes: Iterable[Change], is_first: Callable[[Change], bool] = lambda _: False) -> list[Change]:
    """Returns `changes` with those where `is_first` holds ahead, then fixes and breaks, then the rest."""
    return sorted(changes, key=lambda one: (not is_first(one), one.flip not in FLIPPED))


def shown_of(kept: int, total: int, rule: str, where: str) -> str:
    """Returns a caption's sentence on how many of how many are shown; `rule` says which come first."""
    if kept == total:
        return f"All {total:,} solutions; the same in {where}."
    return f"The first {kept:,} of {total:,} solutions ({rule}); all in {where}."
