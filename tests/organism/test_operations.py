"""Operations: correct and faulty code differ, and both ways of writing a step agree."""

from __future__ import annotations

import numpy as np
import pytest

from organism.operations import BY_NAME, INTEGER, OPERATIONS, STRING, Operation, as_function
from organism.problems import apply_specification
from organism.solutions import SPACED_OPERATOR, Style, write_solution
from organism.wording import Specification

pytestmark = pytest.mark.unit


def sample_values(operation: Operation, rng: np.random.Generator) -> list:
    if operation.takes == STRING:
        return ["".join(rng.choice(list("abcdefgh"), size=int(rng.integers(4, 9)))) for _ in range(40)]
    if operation.takes == INTEGER:
        return rng.integers(1, 60, size=40).tolist()
    return [rng.integers(1, 30, size=5).tolist() for _ in range(40)]


def run(code: str, name: str, value: object) -> object:
    names: dict = {}
    exec(code, names)
    return names[name](value)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_bug_changes_some_output(name: str) -> None:
    operation = BY_NAME[name]
    rng = np.random.default_rng(0)
    for bug in range(1, len(operation.variants())):
        differs = False
        for _ in range(20):
            parameters = operation.draw_parameters(rng)
            values = sample_values(operation, rng)
            differs = differs or any(
                as_function(name, parameters, 0)(value) != as_function(name, parameters, bug)(value) for value in values
            )
        assert differs, f"{name}: bug {bug} is no bug"


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("style", [Style(), Style(short_names=True, tight=True, comment=True)])
def test_written_programs_do_what_the_operation_does_in_every_style(name: str, style: Style) -> None:
    operation = BY_NAME[name]
    rng = np.random.default_rng(1)
    parameters = operation.draw_parameters(rng)
    specification: Specification = ((name, parameters),)
    for loop in (False, True) if operation.loop else (False,):
        for variant in range(len(operation.variants())):
            code = write_solution(specification, "f", [variant], style, loop)
            for value in sample_values(operation, rng)[:10]:
                assert run(code, "f", value) == as_function(name, parameters, variant)(value), code


def test_a_chain_applies_its_steps_in_order() -> None:
    chain: Specification = (("add_each", (3,)), ("multiply_each", (2,)), ("total", ()))
    assert apply_specification(chain, [1, 2]) == (1 + 3) * 2 + (2 + 3) * 2
    assert apply_specification(chain, [1, 2], faulty_step=2) == 10
    assert run(write_solution(chain, "f", [0, 0, 0], Style(), False), "f", [1, 2]) == 18


def test_there_are_at_least_36_operations_of_all_kinds_with_distinct_names() -> None:
    assert len(OPERATIONS) >= 36
    assert len(BY_NAME) == len(OPERATIONS)
    assert len({(operation.takes, operation.gives) for operation in OPERATIONS}) == 6


def test_ordered_parameters_are_ordered_and_pairs_differ() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        low, high = BY_NAME["keep_between"].draw_parameters(rng)
        assert low < high
        old, new = BY_NAME["replace_letter"].draw_parameters(rng)
        assert old != new


def test_a_tight_style_removes_spaces_round_operators_only() -> None:
    assert SPACED_OPERATOR.sub(r"\1", "x = [a + 1 for a in v if a % 2 == 0]") == "x=[a+1 for a in v if a%2==0]"
