"""The number of solutions that a plan announces is the number that the phases' arms generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.plan import STEERED
from common.conditions import random_direction, random_feature, target, zero
from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.features import Feature
from common.runs.metadata import Extent, write_record
from tests.cli.helpers import Here

pytestmark = pytest.mark.unit
SIZES = {"sae": 25, "hyperparams": 12, "validation": 20}
FEATURES = {"correct": Feature(1, 2), "incorrect": Feature(2, 3)}


def config_with(tmp_path: Path, *, split: bool = True, **settings: Any) -> Config:
    config = Config(data_dir=str(tmp_path), **settings)
    if split:
        fields: dict[str, Any] = {"inputs": [], "outputs": [], "wall_seconds": {}, "details": {"sizes": SIZES}}
        paths = PhasePaths(config.phase_dir("0.1"))
        write_record(paths, phase="0.1", config=config, extent=Extent(57, 57), **fields)
    return config


def grid(config: Config, problems: int) -> int:
    """Counts phase 4.5's rows one by one: every coefficient on the few, the two chosen ones on the others.

    Several candidates are screened first, each at one coefficient on the few.
    """
    rows = []
    few = range(problems)[: config.phase4_5_problems_per_coeff]
    others = range(problems)[len(few) :][: config.phase4_5_final_eval_problems]
    randoms = range(config.phase4_5_random_directions)
    for positions, coefficients in ((few, config.phase4_5_coefficients), (others, (3.0,))):
        conditions = [zero(FEATURES["correct"])]
        for direction, feature in FEATURES.items():
            for value in coefficients:
                conditions.append(target(direction, feature, value))  # type: ignore[arg-type]
                conditions += [random_direction(direction, feature, value, draw) for draw in randoms]  # type: ignore[arg-type]
        rows += [(condition, position) for condition in conditions for position in positions]
    screened: list[Any] = []
    if config.phase4_5_candidates > 1:
        for direction, feature in FEATURES.items():
            for rank in range(config.phase4_5_candidates):
                beside = Feature(feature.layer, feature.index + rank)
                screened.append(target(direction, beside, 3.0, candidate=rank > 0))  # type: ignore[arg-type]
                screened += [
                    random_direction(direction, beside, 3.0, draw, candidate=rank > 0)  # type: ignore[arg-type]
                    for draw in randoms
                ]
    screening = [(condition, position) for condition in screened for position in few]
    assert len(set(rows)) == len(rows) and len(set(screening)) == len(screening)
    return len(rows) + len(screening)


def effects(config: Config, problems: int) -> int:
    """Counts phase 4.8's rows one by one: zero and targets everywhere, controls of two kinds on theirs."""
    most = config.phase4_8_control_problems
    some = range(problems)[:most]
    rows: list[Any] = [("zero", position) for position in range(problems)]
    for direction, feature in FEATURES.items():
        rows += [(target(direction, feature, 3.0), position) for position in range(problems)]  # type: ignore[arg-type]
        for draw in range(config.phase4_8_controls):
            controls = (
                random_direction(direction, feature, 3.0, draw),
                random_feature(direction, feature, draw, 3.0, draw),
            )  # type: ignore[arg-type]
            rows += [(control, position) for control in controls for position in some]
    assert len(set(rows)) == len(rows)
    return len(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"phase4_5_coefficients": (1.0, 10.0)},
        {"phase4_5_random_directions": 3},
        {"phase4_5_problems_per_coeff": 5, "phase4_5_final_eval_problems": 2},
        {"phase4_5_problems_per_coeff": 12},
        {"phase4_5_problems_per_coeff": 40},
        {"phase4_5_final_eval_problems": 0},
        {"phase4_5_candidates": 4},
        {"phase4_5_candidates": 2, "phase4_5_random_directions": 3, "phase4_5_coefficients": (1.0,)},
    ],
)
def test_solutions_of_the_grid_and_the_final_evaluation_are_counted(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = config_with(tmp_path, **settings)
    assert STEERED["4.5"](config) == grid(config, SIZES["hyperparams"])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"phase4_8_controls": 0},
        {"phase4_8_controls": 9, "phase4_8_control_problems": 6},
        {"phase4_8_controls": 9, "phase4_8_control_problems": 60},
        {"phase4_8_control_problems": 20},
    ],
)
@pytest.mark.parametrize("phase", ["4.8", "7.6"])
def test_solutions_of_targets_and_controls_are_counted(tmp_path: Path, settings: dict[str, Any], phase: str) -> None:
    config = config_with(tmp_path, **settings)
    assert STEERED[phase](config) == effects(config, SIZES["validation"])


def test_before_the_split_the_published_sizes_are_planned_with(tmp_path: Path) -> None:
    config = config_with(tmp_path, split=False)
    assert STEERED["4.5"](config) == grid(config, 97)
    assert STEERED["4.8"](config) == 3 * 388 + 4 * 39 * 388 == effects(config, 388)


def test_the_plan_shows_them(tmp_path: Path, here: Here) -> None:
    config = config_with(tmp_path, profile="organism", phase4_8_controls=1)
    words = ("--profile", "organism", "--data-dir", tmp_path, "--set", "phase4_8_controls=1")
    few = ("--set", "phase4_8_control_problems=none", "--set", "phase4_5_problems_per_coeff=10")
    usual = ("--set", "phase4_5_coefficients=1,3,10,30,100,300,1000", "--set", "phase4_5_candidates=1")
    answer = here("plan", *words, *few, *usual)
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line[:1].isdigit()}
    assert lines["4.5"].endswith(f"{grid(config, 12):,} steered solutions")
    assert lines["4.8"].endswith(f"{effects(config, 20):,} steered solutions")
    assert lines["7.6"].endswith(f"{effects(config, 20):,} steered solutions")
    assert "steered" not in lines["7.3"] and "20 problems" in lines["7.3"]


@pytest.mark.parametrize("seed, is_noted", [("7", True), ("42", False)])
def test_a_complete_phase_made_under_other_settings_is_noted(
    tmp_path: Path, here: Here, seed: str, is_noted: bool
) -> None:
    config_with(tmp_path)
    said = here("plan", "--data-dir", tmp_path, "--set", f"seed={seed}").out
    (line,) = [line for line in said.splitlines() if line.startswith("note: ")] or [""]
    expected = "note: phase 0.1 was made under other settings: seed 42 → 7; where they change it, pipeline stops: "
    assert line.startswith(expected) is is_noted
    assert ("python3 run.py phase 0.1" in line and line.endswith(" --fresh redoes it")) is is_noted
