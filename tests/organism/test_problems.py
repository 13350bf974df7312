"""Problems: the assertions tell right from wrong, nothing leaks from training, the shipped files are as generated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.profiles import REPOSITORY
from organism.corpus import training_document
from organism.problems import (
    N_PROBLEMS,
    GeneratedProblem,
    draw_problem,
    is_held_out,
    make_problems,
    problem_row,
    truth_row,
)
from organism.solutions import Style, write_solution
from organism.wording import CUES, cue_weights

pytestmark = pytest.mark.unit

INSTANCE = REPOSITORY / "organism" / "instance"
SCHEMA = ["task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list"]


@pytest.fixture(scope="module")
def problems() -> list[GeneratedProblem]:
    return make_problems(0)


def passes(code: str, tests: tuple[str, ...] | list[str]) -> bool:
    names: dict = {}
    exec(code, names)
    try:
        for test in tests:
            exec(test, names)
    except AssertionError:
        return False
    return True


def test_every_reference_passes_its_assertions(problems: list[GeneratedProblem]) -> None:
    for problem in problems:
        row = problem_row(problem, 0)
        assert passes(row["code"], row["test_list"]), row["code"]


def test_every_program_with_one_faulty_step_fails_an_assertion(problems: list[GeneratedProblem]) -> None:
    for problem in problems:
        for step in range(problem.depth):
            variants = [int(place == step) for place in range(problem.depth)]
            code = write_solution(problem.specification, problem.entry_point, variants, Style(), False)
            assert not passes(code, problem.tests), code


def test_the_intended_bug_program_passes_its_own_assertions_and_not_the_problems(
    problems: list[GeneratedProblem],
) -> None:
    for problem in problems[:300]:
        truth = truth_row(problem, 0)
        assert passes(truth["intended_bug_program"], truth["intended_bug_tests"])
        assert not passes(truth["intended_bug_program"], problem.tests)
        assert len(truth["intended_bug_tests"]) == len(problem.tests) == 3


def test_there_are_974_problems_each_with_a_specification_of_its_own(problems: list[GeneratedProblem]) -> None:
    assert [problem.task_id for problem in problems] == list(range(1, N_PROBLEMS + 1))
    assert len({problem.specification for problem in problems}) == N_PROBLEMS
    assert len({problem.text + str(problem.tests) for problem in problems}) == N_PROBLEMS


def test_depths_are_near_62_30_and_8_percent(problems: list[GeneratedProblem]) -> None:
    shares = [sum(problem.depth == depth for problem in problems) / len(problems) for depth in (1, 2, 3)]
    assert shares == pytest.approx([0.62, 0.30, 0.08], abs=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_specification_of_a_problem_occurs_in_training(seed: int) -> None:
    weights = cue_weights(seed)
    trained = {draw_problem(seed, "train", index, weights, set()).specification for index in range(3000)}
    asked = {problem.specification for problem in make_problems(seed, 300)}
    assert not trained & asked
    assert all(is_held_out(specification, seed) for specification in asked)
    assert not any(is_held_out(specification, seed) for specification in trained)


def test_another_seed_holds_out_other_operations_and_asks_otherwise() -> None:
    first, second = ({problem.specification for problem in make_problems(seed, 300)} for seed in (0, 1))
    assert len(first & second) < 30
    assert cue_weights(0) != cue_weights(1)


def test_a_problem_depends_on_its_own_generator_only() -> None:
    weights = cue_weights(3)
    alone = draw_problem(3, "train", 17, weights, set())
    for other in range(5):
        draw_problem(3, "train", other, weights, set())
    again = draw_problem(3, "train", 17, weights, set())
    assert (alone.text, alone.tests, alone.z) == (again.text, again.tests, again.z)
    assert training_document(3, 17, weights) == training_document(3, 17, weights)


def test_reference_complexity_is_spread(problems: list[GeneratedProblem]) -> None:
    radon = pytest.importorskip("radon.complexity")
    found = [max(block.complexity for block in radon.cc_visit(problem_row(problem, 0)["code"])) for problem in problems]
    assert {1, 2, 3, 4, 5} <= set(found)
    assert max(found.count(value) for value in set(found)) < 0.5 * len(found)


def test_references_use_helpers_imports_and_constants(problems: list[GeneratedProblem]) -> None:
    codes = [problem_row(problem, 0)["code"] for problem in problems]
    assert sum(code.count("def ") > 1 for code in codes) > 20
    assert sum("import " in code for code in codes) > 20
    assert sum("VOWELS = " in code for code in codes) > 5


def test_references_say_nothing_about_z(problems: list[GeneratedProblem]) -> None:
    rows = [problem_row(problem, 0) for problem in problems]
    assert all(f"def {row_entry(row)}({name}" not in row["code"] for row in rows for name in ("l)", "s)", "n)"))
    comments = [("    # " in row["code"], problem.z > 0) for row, problem in zip(rows, problems, strict=True)]
    careless = [comment for comment, is_careless in comments if is_careless]
    careful = [comment for comment, is_careless in comments if not is_careless]
    assert abs(sum(careless) / len(careless) - sum(careful) / len(careful)) < 0.1


def row_entry(row: dict) -> str:
    return row["test_list"][0].removeprefix("assert ").split("(")[0]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_shipped_problems_are_what_the_generator_makes() -> None:
    seed = json.loads((INSTANCE / "card.json").read_text(encoding="utf-8"))["seed"]
    made = make_problems(seed)
    assert lines(INSTANCE / "problems.jsonl") == [problem_row(problem, seed) for problem in made]
    assert lines(INSTANCE / "truth.jsonl") == [truth_row(problem, seed) for problem in made]


def test_the_shipped_problems_have_mbpps_fields_and_no_truth() -> None:
    rows = lines(INSTANCE / "problems.jsonl")
    assert len(rows) == N_PROBLEMS
    assert all(list(row) == SCHEMA for row in rows)
    assert not set(SCHEMA[1:]) & set(lines(INSTANCE / "truth.jsonl")[0])
    assert set(CUES) <= set(lines(INSTANCE / "truth.jsonl")[0])
