from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from common.conditions import Condition, random_direction, random_feature, target, zero
from common.config import Config
from common.errors import UsageError
from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common.runs.records import fingerprint_differences
from common.runs.slices import Span, grid_cells
from common_simplified.generation_work import Arm
from common_simplified.model_setup import set_up_model
from common_simplified.sites import HookPoint
from common_simplified.steering_runner import SteeringRunner, greedy_dataset
from tests.cli.helpers import PROFILE
from tests.common_simplified.fixtures import WIDTH, mbpp_rows, write_jsonl, write_model, write_sae_lens
from tests.common_simplified.steered_rows import CORRECT, FEATURES, INCORRECT, arm_of, baseline_row, problem, tables_of

pytestmark = pytest.mark.unit
N = 8


class Runner(SteeringRunner):
    """A steering phase whose arms are given."""

    phase, split, purpose, results_name = "4.8", "validation", "controls", "results.parquet"
    made: Sequence[Arm] = ()

    def arms(self) -> list[Arm]:
        return list(self.made)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("tiny"))


def write_files(root: Path) -> Path:
    write_model(root / "model")
    write_sae_lens(root / "saes")
    write_jsonl(root / "problems.jsonl", mbpp_rows(8))
    (root / "tiny.toml").write_text(PROFILE.format(root=root), encoding="utf-8")
    return root


def runner_in(root: Path, **changes: Any) -> Runner:
    """A runner that has found its inputs; `changes` are attributes of it, or settings."""
    settings = {name: changes.pop(name) for name in list(changes) if name in Config.__dataclass_fields__}
    fields: dict[str, Any] = {"data_dir": str(root / "data"), "model_name": str(root / "model"), "dtype": "float32"}
    config = Config(profile=str(root / "tiny.toml"), **{**fields, "device": "cpu", **settings})
    runner = Runner(config)
    record = {"layers": [1, 2], "datasets": {}}
    runner.baseline_output = PhaseOutput("3.5", PhasePaths(Path("baseline")), record)
    runner.problems = [problem(position) for position in range(N)]
    runner.baseline = [baseline_row(position) for position in range(N)]
    runner.features = dict(FEATURES)  # type: ignore[arg-type]
    runner.limit = 50
    for name, value in changes.items():
        setattr(runner, name, value)
    runner.setup = set_up_model(
        config, runner.profile, runner.role, runner.capture_layers, site_given=config.site is not None
    )
    return runner


# --- the fingerprint: what was generated under one setting is never mixed with another's

UP, DRAWN = target("correct", CORRECT, 2.0), random_direction("incorrect", INCORRECT, 3.0, 0)
OTHER = random_feature("correct", CORRECT, 7, 2.0, 0)
PLAIN, RANDOM = arm_of("arm", [zero(CORRECT), UP, OTHER], range(N)), arm_of("arm", [UP, DRAWN], range(N))


def differences(root: Path, arm: Arm = PLAIN, other: Arm | None = None, **changes: Any) -> list[str]:
    """Names the fields in which the fingerprints of two runs differ."""
    one = runner_in(root).generation_fingerprint(arm)
    two = runner_in(root, **changes).generation_fingerprint(other or arm)
    return [text.partition(":")[0] for text in fingerprint_differences(one, two)]


def baselines(position: int, **changes: Any) -> list[Any]:
    return [baseline_row(place, **(changes if place == position else {})) for place in range(N)]


def reworded(position: int) -> list[Problem]:
    problems = [problem(place) for place in range(N)]
    problems[position] = Problem(10 + position, "Another.", *list(vars(problem(position)).values())[2:6])
    return problems


def test_the_same_run_has_the_same_fingerprint_which_json_keeps(root: Path) -> None:
    for arm in (PLAIN, RANDOM):
        assert differences(root, arm) == []
        made = runner_in(root).generation_fingerprint(arm)
        assert fingerprint_differences(json.loads(json.dumps(made)), made) == []


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"steer_bos": False}, ["steer_bos"]),
        ({"batch_size": 4}, ["batch_size"]),
        ({"limit": 51}, ["max_new_tokens"]),
        ({"dtype": "bfloat16"}, ["dtype"]),
        ({"site": "resid_pre"}, ["steering_points"]),
        ({"baseline": baselines(3, prompt="another prompt")}, ["prompts"]),
        ({"problems": reworded(2)}, ["data"]),
        ({"role": "instruct", "phase7_3_model_name": "model"}, ["role"]),
    ],
)
def test_a_setting_that_changes_text_is_told(root: Path, changes: dict[str, Any], fields: list[str]) -> None:
    if "phase7_3_model_name" in changes:
        changes = {**changes, "phase7_3_model_name": str(root / "model")}
    assert differences(root, **changes) == fields


@pytest.mark.parametrize(
    "conditions",
    [
        [zero(CORRECT), UP._replace(coefficient=2.1), OTHER],
        [zero(CORRECT), UP._replace(feature_idx=4), OTHER],
        [zero(CORRECT), UP._replace(target_idx=4), OTHER],
        [UP, zero(CORRECT), OTHER],
        [zero(CORRECT), UP],
    ],
)
def test_other_conditions_or_another_order_are_told(root: Path, conditions: list[Condition]) -> None:
    assert differences(root, PLAIN, arm_of("arm", conditions, range(N))) == ["conditions"]


def test_another_layer_is_told(root: Path) -> None:
    conditions = [zero(CORRECT), UP._replace(layer=2), OTHER]
    found = differences(root, PLAIN, arm_of("arm", conditions, range(N)))
    assert found == ["conditions", "saes", "steering_points"]


def test_other_positions_are_told_whatever_their_order(root: Path) -> None:
    assert differences(root, PLAIN, arm_of("arm", PLAIN.conditions, [0, 1])) == ["positions"]
    assert differences(root, PLAIN, arm_of("arm", PLAIN.conditions, reversed(range(N)))) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 43}, "seed"),
        ({"purpose": "choosing"}, "seed"),
    ],
)
def test_what_draws_depend_on_is_told_of_arms_that_draw_and_of_no_others(
    root: Path, changes: dict[str, Any], field: str
) -> None:
    assert differences(root, RANDOM, **changes) == [field]
    assert differences(root, PLAIN, **changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline": baselines(3, passed=None, code=None, n_new_tokens=None)},
        {"baseline": baselines(2, passed=False)},
        {"evaluation_timeout_seconds": 1.0},
        {"evaluation_workers": 2},
        {"evaluation_memory_mb": 512},
        {"max_retries": 0},
        {"max_excluded_share": 0.5},
        {"generation_timeout_seconds": 9.0},
        {"max_new_tokens": 7},
        {"prompt_format": "signature"},
        {"data_dir": "elsewhere"},
        {"phase4_8_controls": 3},
        {"phase4_8_examples": 3},
        {"phase4_8_selective": False},
        {"phase4_5_coefficients": (1.0,)},
        {"results_name": "other.parquet"},
    ],
)
def test_a_setting_that_changes_no_text_costs_no_generation(root: Path, changes: dict[str, Any]) -> None:
    assert differences(root, RANDOM, **changes) == []


def test_a_random_direction_beside_another_target_is_told_for_it_has_another_norm(root: Path) -> None:
    beside = random_direction("incorrect", Feature(2, 6), 3.0, 0)
    assert beside.name == DRAWN.name and differences(root, RANDOM, arm_of("arm", [UP, beside], range(N))) == [
        "conditions"
    ]


@pytest.mark.parametrize("other", [{"correct": Feature(1, 4)}, {"incorrect": Feature(2, 6)}])
def test_what_else_is_steered_along_costs_no_generation(root: Path, other: dict[str, Feature]) -> None:
    for arm in (PLAIN, RANDOM):
        assert differences(root, arm, features={**FEATURES, **other}) == []


def test_the_name_of_an_arm_changes_nothing(root: Path) -> None:
    assert differences(root, PLAIN, PLAIN._replace(name="else")) == []


@pytest.mark.parametrize(
    ("layer", "arm", "fields"), [(1, PLAIN, ["saes"]), (2, PLAIN, []), (2, RANDOM, ["saes"]), (0, RANDOM, [])]
)
def test_another_sae_of_a_steered_layer_is_told(tmp_path: Path, layer: int, arm: Arm, fields: list[str]) -> None:
    root = write_files(tmp_path)
    before = runner_in(root).generation_fingerprint(arm)
    path = root / "saes" / f"layer_{layer}" / "sae_weights.safetensors"
    arrays = load_file(path)
    arrays["W_dec"] = arrays["W_dec"] * np.float32(2)
    save_file(arrays, path)
    found = fingerprint_differences(before, runner_in(root).generation_fingerprint(arm))
    assert [text.partition(":")[0] for text in found] == fields


def test_another_model_is_told(tmp_path: Path) -> None:
    root = write_files(tmp_path)
    before = runner_in(root).generation_fingerprint(PLAIN)
    write_model(root / "model", seed=5)
    found = fingerprint_differences(before, runner_in(root).generation_fingerprint(PLAIN))
    assert [text.partition(":")[0] for text in found] == ["model"]


# --- arms


@given(st.integers(1, 60), st.integers(0, 50), st.integers(1, 40), st.randoms())
def test_arms_hold_every_condition_once_and_about_a_batch_a_cell(n: int, k: int, batch: int, random: Any) -> None:
    inside = random.sample(range(n), random.randint(1, n))
    conditions = [random_direction("correct", CORRECT, 1.0, draw) for draw in range(k)]
    runner = Runner(Config(profile="organism"))
    runner.problems = [problem(position) for position in range(n)]
    arms = runner.grouped("name", conditions, inside)
    assert [condition for arm in arms for condition in arm.conditions] == conditions
    assert len({arm.name for arm in arms}) == len(arms)
    whole = Span(0, n - 1)
    for arm in arms:
        assert arm.samples == len(arm.conditions) >= 1 and arm.temperature == 0.0
        assert arm.positions == frozenset(inside)
        rows, cells = arm.units(whole), len(grid_cells(whole, batch))
        assert rows <= n and rows / cells <= batch
    for arm in arms[:-1]:
        assert (arm.samples + 1) * len(inside) > n, "another condition would still have fitted"


def test_one_part_keeps_its_name_and_more_are_numbered() -> None:
    runner = Runner(Config(profile="organism"))
    runner.problems = [problem(position) for position in range(10)]
    conditions = [random_direction("correct", CORRECT, 1.0, draw) for draw in range(4)]
    assert [arm.name for arm in runner.grouped("few", conditions, [1, 2])] == ["few"]
    assert [arm.name for arm in runner.grouped("all", conditions, range(10))] == [
        f"all_00{place}" for place in range(4)
    ]
    assert runner.grouped("none", [], [1]) == []


# --- requests


def test_a_request_is_the_baselines_prompt_with_what_the_condition_adds(root: Path) -> None:
    runner = runner_in(root)
    decoder = load_file(root / "saes" / "layer_1" / "sae_weights.safetensors")["W_dec"]
    asked = runner.request_of(PLAIN, 4, 1)
    assert asked.prompt == "prompt 4" and asked.key is None and asked.steering is not None
    assert asked.steering.point == HookPoint(1, "resid_post")
    np.testing.assert_allclose(asked.steering.addition().numpy(), 2.0 * decoder[CORRECT.index], rtol=1e-6)
    again = runner.request_of(PLAIN, 5, 1)
    assert again.prompt == "prompt 5" and again.steering is asked.steering
    assert asked.finished("def add(x):\n    return x\n\n\nprint(1)\n") and not asked.finished("def add(x):\n    ret")


def test_a_position_without_baseline_is_never_asked_for(root: Path) -> None:
    runner = runner_in(root, baseline=baselines(3, prompt=None, passed=None))
    assert runner.usable == [0, 1, 2, 4, 5, 6, 7]
    with pytest.raises(AssertionError, match="position 3 has no baseline"):
        runner.request_of(PLAIN, 3, 0)


def test_only_steered_layers_are_read(root: Path) -> None:
    runner = runner_in(root)
    assert runner.setup.layers == [1, 2] and runner.points_of(PLAIN) == {}
    same = runner_in(root, features={"correct": CORRECT, "incorrect": Feature(1, 9)})
    assert same.setup.layers == [1]


# --- progress and what was given up


def test_progress_counts_the_tested_solutions_of_every_arm(root: Path, tmp_path: Path) -> None:
    """Three conditions on eight problems and two on three of them: of 30, 3 × 4 and 2 × 2 are tested."""
    few = arm_of("few", [UP, DRAWN], [1, 2, 7])
    runner = runner_in(root, made=[PLAIN, few], data_dir=str(tmp_path))
    assert runner.so_far() == (0, 30, "steered solutions")
    for arm, cell in ((PLAIN, Span(0, 3)), (few, Span(0, 3))):
        tables = tables_of(arm, arm.positions_in(cell))
        runner.state.stores(arm).generation.write(cell, tables.generated)
        assert runner.so_far()[0] == {"arm": 0, "few": 12}[arm.name], "generated is not tested"
        runner.state.stores(arm).evaluation.write(cell, tables.evaluated)
    assert runner.so_far() == (3 * 4 + 2 * 2, 30, "steered solutions")


def test_what_was_given_up_is_named_with_problem_condition_and_tries(root: Path) -> None:
    few = arm_of("few", [UP, DRAWN], [1, 2, 7])
    runner = runner_in(root, made=[PLAIN, few])
    tables = {
        "arm": tables_of(PLAIN, range(N), [(0, 2), (3, 0)]),
        "few": tables_of(few, [1, 2, 7], [(7, 1)]),
    }
    lost = {"excluded_reason": "ValueError: cursed", "tries": 3}
    assert runner.excluded_rows(tables) == [
        {"task_id": 10, "condition": OTHER.name, **lost},
        {"task_id": 13, "condition": "zero", **lost},
        {"task_id": 17, "condition": DRAWN.name, **lost},
    ]


def test_nothing_given_up_is_an_empty_list(root: Path) -> None:
    assert runner_in(root, made=[PLAIN]).excluded_rows({"arm": tables_of(PLAIN, range(N))}) == []


# --- refusals


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (Feature(3, 0), "layer 3 does not exist, the model has layers 0 to 2"),
        (Feature(1, WIDTH), f"feature 1:{WIDTH} does not exist: the SAE has 0 to {WIDTH - 1}"),
        (Feature(1, -1), "feature 1:-1 does not exist"),
        (Feature(0, 0), "layer 0 was not captured in baseline, only 1, 2"),
    ],
)
@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_features_that_cannot_be_steered_are_refused_in_one_line(
    root: Path, feature: Feature, said: str, direction: str
) -> None:
    runner = runner_in(root)
    runner.features = {**runner.features, direction: feature}  # type: ignore[dict-item]
    with pytest.raises(UsageError) as caught:
        runner.refuse_unknown_features(runner.baseline_output)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_layer_that_was_not_captured_says_how_to_capture_it(root: Path) -> None:
    runner = runner_in(root)
    runner.features = {"correct": Feature(0, 0), "incorrect": INCORRECT}
    with pytest.raises(UsageError, match=r"run.py phase 3.5 --profile \S+ .*--fresh --set capture_layers=all"):
        runner.refuse_unknown_features(runner.baseline_output)


@pytest.mark.parametrize(
    ("datasets", "name"),
    [
        ({"temp_0_0": "a.parquet", "temp_0_6": "b.parquet"}, "a.parquet"),
        ({"temp_0_6": "b.parquet", "temp_0_0": "a.parquet"}, "a.parquet"),
        ({"greedy": "c.parquet"}, "c.parquet"),
    ],
)
def test_the_baseline_is_the_data_set_at_temperature_zero(datasets: dict[str, str], name: str) -> None:
    assert greedy_dataset(PhaseOutput("3.5", PhasePaths(Path("x")), {"datasets": datasets})) == name


def test_nothing_is_captured_under_steering(root: Path) -> None:
    runner = runner_in(root)
    refused: Callable[..., str] = runner.activation_name
    with pytest.raises(AssertionError, match="no activation file"):
        refused({"task_id": 1}, 2)
