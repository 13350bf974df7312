"""Fixes, breaks and planted bugs of hand-written solutions, judged in the real sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from common.conditions import Condition, random_direction, target
from common.config import Config
from common.execution import EvaluationPool
from common.runs.artifacts import STEERING_ANALYSIS, STEERING_RESULTS, PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, output_file, write_record
from common.steering_effects import arms_of, direction_effects
from organism.steering_answers import mark_intended_bugs, steering_answers
from tests.common.steering_rows import CORRECT, DOWN, INCORRECT, UP

pytestmark = pytest.mark.unit

RIGHT = "def keep(nums):\n    return [x for x in nums if x < 3]"
PLANTED = "def keep(nums):\n    return [x for x in nums if x <= 3]"
PLANTED_OTHERWISE = (
    "def keep(nums):\n    out = []\n    for x in nums:\n        if not x > 3:\n            out += [x]\n    return out"
)
OTHER_BUG = "def keep(nums):\n    return nums"
BROKEN = "def keep(nums:\n    return"
ENDLESS = "def keep(nums):\n    while True:\n        pass"
RAISES = "def keep(nums):\n    raise ValueError(nums)"
TESTS = ["assert keep([1, 3, 5]) == [1, 3]", "assert keep([3]) == [3]", "assert keep([]) == []"]
TRUTH = {task: {"intended_bug_tests": TESTS} for task in range(100, 110)}


@pytest.fixture(scope="module")
def pool() -> Iterator[EvaluationPool]:
    with EvaluationPool(1, 0.4, 512) as made:
        yield made


def row(condition: Condition, position: int, before: bool, after: bool, code: str, **changes: Any) -> dict[str, Any]:
    return {
        **{name: value for name, value in condition._asdict().items() if name != "name"},
        **{"condition": condition.name, "position": position, "task_id": 100 + position, "cyclomatic_complexity": 1},
        **{"baseline_passed": before, "baseline_parses": True, "test_passed": after, "generated_code": code},
        **{"parses": code != BROKEN, "failure_mode": "passed" if after else "wrong_answer", "left_out": None},
        **{"defines_function": True, "keeps_signature": True, "stop_reason": "eos"},
        **changes,
    }


@pytest.mark.parametrize(
    ("code", "intended"),
    [
        (PLANTED, True),
        (PLANTED_OTHERWISE, True),
        (OTHER_BUG, False),
        (RAISES, False),
        (BROKEN, False),
        ("", False),
        (ENDLESS, False),
        ("import sys\nsys.exit(0)", False),
    ],
)
def test_a_broken_solution_has_the_planted_bug_if_it_does_what_the_bug_does(
    pool: EvaluationPool, code: str, intended: bool
) -> None:
    rows = [row(DOWN, 0, True, False, code)]
    mark_intended_bugs(rows, TRUTH, pool)
    assert (rows[0]["intended"], rows[0]["broken"], rows[0]["fixed"]) == (intended, True, False)


@pytest.mark.parametrize(("before", "after"), [(False, False), (False, True), (True, True)])
def test_only_broken_solutions_are_asked(pool: EvaluationPool, before: bool, after: bool) -> None:
    rows = [row(DOWN, 0, before, after, PLANTED)]
    mark_intended_bugs(rows, TRUTH, pool)
    assert (rows[0]["intended"], rows[0]["broken"], rows[0]["fixed"]) == (False, False, not before and after)


def test_each_solution_is_held_against_its_own_problems_bug(pool: EvaluationPool) -> None:
    truth = {100: {"intended_bug_tests": TESTS}, 101: {"intended_bug_tests": ["assert keep([1, 3]) == [1, 3, 5]"]}}
    rows = [row(DOWN, place, True, False, PLANTED) for place in range(2)]
    mark_intended_bugs(rows, truth, pool)
    assert [item["intended"] for item in rows] == [True, False]


def beside(draw: int, direction: str = "incorrect") -> Condition:
    feature = INCORRECT if direction == "incorrect" else CORRECT
    return random_direction(direction, feature, 5.0, draw)  # type: ignore[arg-type]


ROWS = [
    row(DOWN, 0, True, False, PLANTED),
    row(DOWN, 1, True, False, PLANTED_OTHERWISE),
    row(DOWN, 2, True, False, OTHER_BUG),
    row(DOWN, 3, True, True, RIGHT),
    row(DOWN, 4, False, True, RIGHT),
    row(DOWN, 5, False, False, OTHER_BUG),
    row(DOWN, 6, True, False, BROKEN),
    row(DOWN, 7, True, None, "", left_out="generation failed", parses=None, failure_mode=None),  # type: ignore[arg-type]
    row(beside(0), 0, True, False, OTHER_BUG),
    row(beside(0), 1, True, True, RIGHT),
    row(beside(0), 4, False, False, PLANTED),
    row(beside(1), 0, True, False, PLANTED),
    row(beside(1), 1, True, True, RIGHT),
    row(beside(1), 4, False, True, RIGHT),
    row(beside(1), 5, False, True, RIGHT),
    row(UP, 0, True, True, RIGHT),
    row(UP, 4, False, True, RIGHT),
]


def answers(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Publishes rows and their analysis, and returns what is answered about them."""
    config = Config(data_dir=str(tmp_path), evaluation_workers=1, evaluation_timeout_seconds=2.0)
    paths = PhasePaths(config.phase_dir("4.8"))
    table = pa.Table.from_pylist(rows)
    arms = arms_of(table)
    directions = {name: direction_effects(arms, name) for name in ("correct", "incorrect")}  # type: ignore[arg-type]
    analysis = {"model": {"name": "tiny", "role": "base"}, "n_problems": 8, "directions": directions}
    write_json(paths.root / STEERING_ANALYSIS, analysis)
    results = OutputFile(STEERING_RESULTS, write_parquet(paths.root / STEERING_RESULTS, table), table.num_rows)
    fields: dict[str, Any] = {"inputs": [], "wall_seconds": {}, "details": {}}
    outputs = [results, output_file(paths, STEERING_ANALYSIS)]
    record = write_record(paths, phase="4.8", config=config, extent=Extent(8, 8), outputs=outputs, **fields)
    return steering_answers(config, PhaseOutput("4.8", paths, record), TRUTH)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answers(tmp_path_factory.mktemp("answers"), ROWS)


def test_all_problems_of_a_direction_are_counted_by_hand(found: dict[str, Any]) -> None:
    own = found["directions"]["incorrect"]["all_problems"]
    share = own.pop("intended_share_of_breaks")
    assert own == {"n_failing": 2, "n_passing": 5, "fixes": 1, "breaks": 4, "intended": 2}
    assert (share["value"], share["numerator"], share["denominator"]) == (0.5, 2, 4)
    assert share["low"] < 0.5 < share["high"]


def test_controls_and_target_are_compared_on_the_problems_that_all_have(found: dict[str, Any]) -> None:
    compared = found["directions"]["incorrect"]["control_problems"]  # positions 0, 1 and 4
    assert compared["n"] == 3
    target_counts = compared["target"]
    assert (target_counts["breaks"], target_counts["intended"], target_counts["fixes"]) == (2, 2, 1)
    first, second = compared["controls"].values()
    assert (first["breaks"], first["intended"], first["fixes"], first["kind"]) == (1, 0, 0, "random_direction")
    assert (second["breaks"], second["intended"], second["fixes"]) == (1, 1, 1)
    rank = found["directions"]["incorrect"]["rank_by_intended_bugs"]
    assert (rank["target"], rank["n_at_least"], rank["p"]) == (2.0, 0, 1 / 3)


def test_the_rank_on_the_primary_outcome_is_the_analysis_own(found: dict[str, Any]) -> None:
    entry = found["directions"]["incorrect"]
    arms = arms_of(pa.Table.from_pylist(ROWS))
    assert entry["rank"] == direction_effects(arms, "incorrect")["controls"]["rank"]
    assert entry["beats_every_control"] is True
    assert (found["model"]["role"], found["n"]) == ("base", 8)


def test_without_controls_nothing_is_beaten_and_the_reason_is_said(found: dict[str, Any]) -> None:
    entry = found["directions"]["correct"]
    assert entry["beats_every_control"] is None
    assert entry["rank_by_intended_bugs"]["p"] is None
    assert entry["rank_by_intended_bugs"]["reason"] == "no controls"
    assert entry["control_problems"]["controls"] == {} and entry["control_problems"]["n"] == 0


def test_where_nothing_broke_the_share_is_missing_with_a_reason(found: dict[str, Any]) -> None:
    share = found["directions"]["correct"]["all_problems"]["intended_share_of_breaks"]
    assert share["value"] is None and share["reason"] == "no breaks"


def test_a_control_that_does_as_well_is_not_beaten(tmp_path: Path) -> None:
    strong = [row(beside(0), 0, True, False, PLANTED), row(beside(0), 1, True, False, PLANTED)]
    entry = answers(tmp_path, [*ROWS[:8], *strong, *ROWS[-2:]])["directions"]["incorrect"]
    assert entry["beats_every_control"] is False
    assert entry["rank_by_intended_bugs"]["p"] == 1.0


def test_a_problem_that_the_target_lost_is_not_counted_for_the_controls(tmp_path: Path) -> None:
    rows = [*ROWS, row(beside(0), 7, True, False, PLANTED), row(beside(1), 7, True, False, PLANTED)]
    compared = answers(tmp_path, rows)["directions"]["incorrect"]["control_problems"]
    assert compared["n"] == 3
    assert [item["intended"] for item in compared["controls"].values()] == [0, 1]


def test_answers_can_be_written_as_json(found: dict[str, Any]) -> None:
    json.dumps(found)


def test_targets_of_these_tests_steer_both_ways() -> None:
    assert {UP, DOWN} == {target("correct", CORRECT, 9.0), target("incorrect", INCORRECT, 5.0)}
