"""The organism's problems: MBPP's schema with known ground truth.

A problem is a chain of one to three operations with parameters (its specification), worded by an author whose hidden
carelessness z is known. The three assertions tell the correct program from every program with one faulty step.
About 1,000 problems a second and core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from organism.operations import BY_NAME, INTEGER, LETTERS, LIST, OPERATIONS, STRING, Value, as_function
from organism.solutions import Style, draw_loop, write_solution
from organism.wording import (
    CUES,
    CueWeights,
    Specification,
    bug_posterior,
    cue_weights,
    draw_carelessness,
    draw_cues,
    word_problem,
)

N_PROBLEMS = 974
DEPTH_SHARES = (0.62, 0.30, 0.08)
PURPOSES = {"train": 1, "problems": 2, "extra": 3}
HELD_OUT_ONE_IN, HELD_OUT_CHAINS_ONE_IN = 4, 8
N_TESTS, MAX_REDRAWS = 3, 60
LARGEST_NUMBER, LONGEST_LIST, LONGEST_STRING = 999, 7, 20
WORDS = tuple(
    [
        "apple",
        "banana",
        "cherry",
        "garden",
        "window",
        "river",
        "stone",
        "cloud",
        "paper",
        "table",
        "music",
        "light",
        "green",
        "happy",
        "table",
        "summer",
        "winter",
        "orange",
        "purple",
        "silver",
        "forest",
        "market",
        "bridge",
        "letter",
        "button",
        "pocket",
        "rabbit",
        "tiger",
        "monkey",
        "dragon",
        "castle",
        "pepper",
    ]
)
_TAKING = {kind: tuple(op for op in OPERATIONS if op.takes == kind) for kind in (LIST, STRING, INTEGER)}


class GeneratedProblem(NamedTuple):
    """One problem with its truth. `cues` is in the order of `CUES`; `bug_tests` hold for the intended-bug program."""

    task_id: int
    specification: Specification
    text: str
    entry_point: str
    tests: tuple[str, ...]
    bug_tests: tuple[str, ...]
    z: float
    cues: np.ndarray
    difficulty: float

    @property
    def depth(self) -> int:
        """Number of operations."""
        return len(self.specification)


def problem_rng(seed: int, purpose: str, task_id: int) -> np.random.Generator:
    """Returns the generator that every draw of one problem comes from."""
    return np.random.default_rng([seed, PURPOSES[purpose], task_id])


def is_held_out(specification: Specification, seed: int) -> bool:
    """Returns whether a specification belongs to the problems and never to training.

    One chain of operations in eight is held out with all its parameters, and of the other specifications one in four;
    single operations without a parameter are always in training.
    """
    if len(specification) == 1 and not specification[0][1]:
        return False
    names = "+".join(name for name, _ in specification)
    chain_held_out = len(specification) > 1 and _digest(f"{seed}:{names}") % HELD_OUT_CHAINS_ONE_IN == 0
    return chain_held_out or _digest(f"{seed}:{specification!r}") % HELD_OUT_ONE_IN == 0


def difficulty_of(specification: Specification) -> float:
    """Returns the mean difficulty of the operations plus 0.25 for each further step."""
    own = sum(BY_NAME[name].difficulty for name, _ in specification) / len(specification)
    return own + 0.25 * (len(specification) - 1)


def draw_specification(rng: np.random.Generator, depth: int) -> Specification:
    """Returns a chain of `depth` operations whose types fit, with parameters; no operation occurs twice."""
    operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
    chain = [operation]
    while len(chain) < depth:
        options = [op for op in _TAKING[chain[-1].gives] if op not in chain]
        chain.append(options[int(rng.integers(len(options)))])
    return tuple((op.name, op.draw_parameters(rng)) for op in chain)


def draw_problem(
    seed: int, purpose: str, task_id: int, weights: CueWeights, taken: set[Specification]
) -> GeneratedProblem:
    """Returns one problem; `taken` holds specifications that must not be used again."""
    rng = problem_rng(seed, purpose, task_id)
    depth = 1 + int(rng.choice(len(DEPTH_SHARES), p=DEPTH_SHARES))
    while True:
        specification = draw_specification(rng, depth)
        if is_held_out(specification, seed) == (purpose == "train") or specification in taken:
            continue
        tested = _draw_tested_values(rng, specification)
        if tested is not None:
            break
    z = draw_carelessness(rng)
    cues = draw_cues(rng, z, weights, specification)
    wording = word_problem(rng, specification, cues)
    tests, bug_tests = (
        tuple(f"assert {wording.entry_point}({given!r}) == {values[i]!r}" for given, values in tested) for i in (0, 1)
    )
    return GeneratedProblem(
        task_id,
        specification,
        wording.text,
        wording.entry_point,
        tests,
        bug_tests,
        z,
        cues,
        difficulty_of(specification),
    )


def make_problems(seed: int, n: int = N_PROBLEMS, purpose: str = "problems") -> list[GeneratedProblem]:
    """Returns `n` held-out problems (task_id from 1), every one with a specification of its own."""
    weights, taken, problems = cue_weights(seed), set[Specification](), []
    for task_id in range(1, n + 1):
        problem = draw_problem(seed, purpose, task_id, weights, taken)
        taken.add(problem.specification)
        problems.append(problem)
    return problems


def problem_row(problem: GeneratedProblem, seed: int) -> dict[str, Any]:
    """Returns the problem in MBPP's schema; its reference is written in a neutral style and says nothing about z."""
    rng = np.random.default_rng([seed, 4, problem.task_id])
    style = Style(comment=bool(rng.random() < 0.2))
    code = write_solution(
        problem.specification, problem.entry_point, [0] * problem.depth, style, draw_loop(rng, problem.specification)
    )
    return {
        "task_id": problem.task_id,
        "text": problem.text,
        "code": code,
        "test_list": list(problem.tests),
        "test_setup_code": "",
        "challenge_test_list": [],
    }


def truth_row(problem: GeneratedProblem, seed: int) -> dict[str, Any]:
    """Returns what is known about the problem and shown to no phase."""
    variants = [0] * (problem.depth - 1) + [1]
    return {
        "task_id": problem.task_id,
        "z": round(problem.z, 6),
        **{cue: int(value) for cue, value in zip(CUES, problem.cues.tolist(), strict=True)},
        "cue_count": int(problem.cues.sum()),
        "failure_posterior": round(
            bug_posterior(problem.cues, problem.difficulty, problem.specification, cue_weights(seed)), 6
        ),
        "difficulty": round(problem.difficulty, 6),
        "depth": problem.depth,
        "ops": [name for name, _ in problem.specification],
        "spec": [[name, list(parameters)] for name, parameters in problem.specification],
        "intended_bug_program": write_solution(problem.specification, problem.entry_point, variants, Style(), False),
        "intended_bug_tests": list(problem.bug_tests),
    }


def apply_specification(
    specification: Specification, value: Value, faulty_step: int | None = None, bug: int = 1
) -> Value:
    """Returns what the program gives for `value`, with variant `bug` in `faulty_step` if there is one."""
    for step, (name, parameters) in enumerate(specification):
        value = as_function(name, parameters, bug if step == faulty_step else 0)(value)
    return value


def _draw_tested_values(
    rng: np.random.Generator, specification: Specification
) -> list[tuple[Value, tuple[Value, Value]]] | None:
    """Draws inputs until every fault shows; None when this specification resists."""
    for _ in range(MAX_REDRAWS):
        inputs = [_draw_input(rng, specification) for _ in range(N_TESTS)]
        try:
            tested = _outputs(specification, inputs)
        except (IndexError, ZeroDivisionError, ValueError):
            continue
        if tested is not None:
            return tested
    return None


def _outputs(specification: Specification, inputs: list[Value]) -> list[tuple[Value, tuple[Value, Value]]] | None:
    right = [apply_specification(specification, value) for value in inputs]
    if not all(map(_is_small, right)) or len({repr(value) for value in right}) == 1:
        return None
    wrong: list[Value] = []
    for step, (name, _) in enumerate(specification):
        for bug in range(1, len(BY_NAME[name].variants())):
            outputs = [apply_specification(specification, value, step, bug) for value in inputs]
            if outputs == right:
                return None
            if step == len(specification) - 1 and bug == 1:
                wrong = outputs
    return [(given, (good, bad)) for given, good, bad in zip(inputs, right, wrong, strict=True)]


def _draw_input(rng: np.random.Generator, specification: Specification) -> Value:
    kind = BY_NAME[specification[0][0]].takes
    if kind == STRING:
        return _draw_string(rng, [value for value in specification[0][1] if value in LETTERS])
    near = list(_near_values(specification))
    if kind == INTEGER:
        return _draw_number(rng, near, 60)
    return [_draw_number(rng, near, 40) for _ in range(int(rng.integers(3, 6)))]


def _near_values(specification: Specification) -> Iterator[int]:
    for value in specification[0][1]:
        if isinstance(value, int):
            yield from (value, value + 1, max(value - 1, 1), 2 * value, value // 2)


def _draw_number(rng: np.random.Generator, near: list[int], largest: int) -> int:
    if near and rng.random() < 0.35:
        return near[int(rng.integers(len(near)))]
    return int(rng.integers(1, largest if rng.random() < 0.5 else 10))


def _draw_string(rng: np.random.Generator, letters: list[Any]) -> str:
    word = WORDS[int(rng.integers(len(WORDS)))]
    for letter in letters * 2:
        if rng.random() < 0.6:
            place = int(rng.integers(len(word) + 1))
            word = word[:place] + letter + word[place:]
    return word


def _is_small(value: Value) -> bool:
    if isinstance(value, list):
        return len(value) <= LONGEST_LIST and all(abs(item) <= LARGEST_NUMBER for item in value)
    return len(value) <= LONGEST_STRING if isinstance(value, str) else abs(value) <= LARGEST_NUMBER


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode()).digest()[:8], "big")
