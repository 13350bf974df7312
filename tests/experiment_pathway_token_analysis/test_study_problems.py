from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import UsageError
from common.problems import Problem
from experiment_pathway_token_analysis.src.study_problems import Chosen, Solved, choose
from tests.experiment_pathway_token_analysis.runs import run_in

pytestmark = pytest.mark.unit


def solved(n: int, *, long: Sequence[int] = ()) -> list[Solved]:
    """Returns problems of which every other one is solved; those in `long` are past the study's limit."""
    return [
        Solved(
            position,
            Problem(100 + position, "text", "code", ("assert f(1) == 1",), cyclomatic_complexity=1 + position % 5),
            f"prompt {position}",
            f"text {position}",
            position % 2 == 0,
            position,
            position not in long,
        )
        for position in range(n)
    ]


def chosen(tmp_path: Path, items: list[Solved], problems: int, prompts: int, *given: str) -> Chosen:
    sizes = (f"producer.problems_per_class={problems}", f"producer.prompts_per_class={prompts}")
    return choose(run_in(tmp_path, *sizes, *given), items)


def test_problems_are_drawn_from_their_class_and_prompts_are_others(tmp_path: Path) -> None:
    found = chosen(tmp_path, solved(60), 10, 8)
    assert {name: len(items) for name, items in found.problems.items()} == {"correct": 10, "incorrect": 10}
    assert all(item.passed is (name == "correct") for name, items in found.problems.items() for item in items)
    used = {item.problem.task_id for items in found.problems.values() for item in items}
    assert used.isdisjoint(prompt["task_id"] for prompt in found.prompts) and len(found.prompts) == 16


def test_half_of_each_classes_prompts_select_and_half_validate(tmp_path: Path) -> None:
    found = chosen(tmp_path, solved(60), 10, 9)
    counts = {
        (name, split): sum(item["class"] == name and item["split"] == split for item in found.prompts)
        for name in ("correct", "incorrect")
        for split in ("select", "validate")
    }
    assert set(counts.values()) == {4, 5} and counts["correct", "select"] == 5
    assert len({item["id"] for item in found.prompts}) == 18
    assert set(found.prompts[0]) == {"id", "class", "prompt", "split", "task_id"}
    assert all(item["prompt"] == f"prompt {item['task_id'] - 100}" for item in found.prompts)


def test_prompts_of_the_study_are_taken_only_where_others_do_not_suffice(tmp_path: Path) -> None:
    found = chosen(tmp_path, solved(24), 8, 10)
    used = {item.problem.task_id for items in found.problems.values() for item in items}
    assert sum(prompt["task_id"] in used for prompt in found.prompts) == 2 * (8 + 10 - 12)
    assert len({prompt["id"] for prompt in found.prompts}) == 20


def test_the_draw_depends_on_the_seed_alone(tmp_path: Path) -> None:
    one, same = (chosen(tmp_path, solved(60), 10, 8) for _ in range(2))
    other = chosen(tmp_path, solved(60), 10, 8, "seed=7")
    assert one == same and one != other


def test_more_prompts_leave_the_problems_as_they_are(tmp_path: Path) -> None:
    assert chosen(tmp_path, solved(60), 10, 4).problems == chosen(tmp_path, solved(60), 10, 12).problems


def test_problems_whose_baseline_is_past_the_limit_are_left_out_of_the_study_and_not_of_the_prompts(
    tmp_path: Path,
) -> None:
    long = range(40)
    found = chosen(tmp_path, solved(60, long=long), 10, 30)
    assert {item.position for items in found.problems.values() for item in items} == set(range(40, 60))
    assert {prompt["task_id"] - 100 for prompt in found.prompts} == set(range(60))


def test_a_class_that_is_all_but_empty_is_refused(tmp_path: Path) -> None:
    only_failures = [item._replace(passed=False) for item in solved(20)]
    with pytest.raises(UsageError, match="needs 2 correct problems or more, but phase 3.5 has 0 of at most 120 new"):
        chosen(tmp_path, only_failures, 10, 8)
