"""Which problems a patching study runs on, and which prompts steps 2 and 3 get: seeded, balanced over the classes.

A problem's class says whether the base model solves it greedily (the first class) or fails, as the stored baseline has
it. Problems are drawn so that their difficulty resembles the class's; prompts are others where there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from common.errors import UsageError
from common.problems import Problem
from common.statistics.detection_report import difficulty_of
from common.statistics.seeding import generator
from common.statistics.stratified import stratified_subset
from experiment_pathway_token_analysis.src.steps import Run

LEAST_OF_A_CLASS = 2
_STUDY, _PROMPTS = "patching study problems", "pathway prompts"


class Solved(NamedTuple):
    """One problem with the base model's stored greedy solution; `usable` says whether it fits the study's limit."""

    position: int
    problem: Problem
    prompt: str
    text: str
    passed: bool
    n_new_tokens: int
    usable: bool


class Chosen(NamedTuple):
    """The study's problems by class, in order of position, and the prompts as they are written."""

    problems: dict[str, list[Solved]]
    prompts: list[dict[str, Any]]


def choose(run: Run, solved: Sequence[Solved]) -> Chosen:
    """Returns problems and prompts; raises `UsageError` where a class is all but empty."""
    producer, seed = run.settings.producer, run.settings.seed
    problems: dict[str, list[Solved]] = {}
    prompts: list[dict[str, Any]] = []
    for name, passed in zip(run.settings.study.classes, (True, False), strict=True):
        of_class = [item for item in solved if item.passed is passed]
        usable = [item for item in of_class if item.usable]
        if len(usable) < LEAST_OF_A_CLASS:
            raise UsageError(
                f"the patching study needs {LEAST_OF_A_CLASS} {name} problems or more, but phase 3.5 has {len(usable)} "
                f"of at most {producer.max_new_tokens} new tokens; raise --set producer.max_new_tokens, or take "
                "another model"
            )
        problems[name] = _drawn(usable, producer.problems_per_class, seed, f"{_STUDY} {name}")
        prompts += _prompts(name, of_class, problems[name], producer.prompts_per_class, seed)
    return Chosen(problems, prompts)


def _drawn(items: Sequence[Solved], n: int, seed: int, purpose: str) -> list[Solved]:
    complexity = np.array([item.problem.cyclomatic_complexity for item in items], dtype=np.int64)
    labels = np.ones(len(items), dtype=bool)
    return [items[row] for row in stratified_subset(difficulty_of(complexity).tolist(), labels, n, seed, purpose)]


def _prompts(name: str, of_class: Sequence[Solved], taken: Sequence[Solved], n: int, seed: int) -> list[dict[str, Any]]:
    """Returns a class's prompts, half of them to select edges and half to validate them."""
    used = {item.position for item in taken}
    others = _drawn([item for item in of_class if item.position not in used], n, seed, f"{_PROMPTS} {name}")
    more = _drawn(taken, n - len(others), seed, f"{_PROMPTS} {name} again") if len(others) < n else []
    found = sorted([*others, *more])
    order = generator(seed, _PROMPTS, name, "halves").permutation(len(found))
    select = set(order[: (len(found) + 1) // 2].tolist())
    return [
        {
            "id": f"{name}-{item.problem.task_id}",
            "class": name,
            "prompt": item.prompt,
            "split": "select" if place in select else "validate",
            "task_id": item.problem.task_id,
        }
        for place, item in enumerate(found)
    ]
