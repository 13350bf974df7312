"""What steering the bundled tiny model must come to: the planted answer, and batches that change nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from common.dataset_loading import load_mbpp
from common.problems import Problem
from common.profiles import load_profile, resolve_local
from common.prompt_utils import PromptBuilder
from common.runs.artifacts import STEERING_RESULTS
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_work import finished_by_solution
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.sae_loader import decoder_row
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering
from tests.organism_runs.conftest import SIZES, done
from tests.organism_runs.steering import (
    assert_breaks_carry_the_planted_bug,
    assert_steering_beats_its_controls,
    steered,
)

pytestmark = pytest.mark.slow
PROFILE = load_profile("organism")
COEFFICIENTS = (1.0, 3.0, 5.0, 7.0, 9.0, 13.0, 30.0, 100.0)
N_PROBLEMS = 32
LIMIT = 120


def test_both_directions_beat_every_control(answered: Path) -> None:
    assert_steering_beats_its_controls(answered)


def test_what_the_incorrect_direction_breaks_carries_the_planted_bug(answered: Path) -> None:
    assert_breaks_carry_the_planted_bug(answered)


def test_the_zero_arm_is_the_baseline_on_the_whole_split(answered: Path) -> None:
    for phase, name in (
        ("4.8", "phase3_5/dataset_temp_0_0.parquet"),
        ("7.6", "phase7_3/dataset_instruct_temp_0_0.parquet"),
    ):
        baseline = pd.read_parquet(answered / name).set_index("task_id")
        rows = steered(answered, phase).rows()
        zero = rows[rows["kind"] == "zero"].set_index("task_id")
        assert len(zero) == len(baseline) == 388
        whole = baseline.loc[zero.index, "n_new_tokens"] <= LIMIT
        assert whole.mean() > 0.9
        for column in ("prompt", "generated_text", "n_new_tokens", "test_passed"):
            assert (zero[column] == baseline.loc[zero.index, column])[whole].all(), (phase, column)
        assert (rows["steered_steps"] == rows["n_new_tokens"]).all()


def test_one_row_a_batch_gives_the_rows_of_whole_batches(answered: Path, tmp_path: Path) -> None:
    sizes = ("--set", "phase4_8_controls=1", "--end", 7)
    for name, size in (("alone", 1), ("together", 64)):
        options = ("--profile", "organism", "--data-dir", tmp_path / name, "--inputs-from", answered)
        done("phase", "4.8", *options, *SIZES, *sizes, "--batch-size", size)
    one, other = (tmp_path / name / "phase4_8" / STEERING_RESULTS for name in ("alone", "together"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("layer", "index"), [(2, 208), (1, 411)])
def test_eight_coefficients_in_one_batch_are_eight_runs(layer: int, index: int) -> None:
    """Rows of all coefficients side by side, against one coefficient at a time, token for token."""
    point = HookPoint(layer, PROFILE.sae.site)
    vector = decoder_row(PROFILE, layer, index)
    ways = [Steering(vector, coefficient, point) for coefficient in COEFFICIENTS]
    separate = {way.coefficient: generate([request(problem, way) for problem in problems()], point) for way in ways}
    for first in range(0, N_PROBLEMS, 4):
        asked = problems()[first : first + 4]
        mixed = generate([request(problem, way) for problem in asked for way in ways], point)
        for row, tokens in enumerate(mixed):
            place, way = first + row // len(ways), ways[row % len(ways)]
            assert tokens == separate[way.coefficient][place], (problems()[place].task_id, way.coefficient)
    texts = {tuple(map(tuple, rows)) for rows in separate.values()}
    assert len(texts) == len(COEFFICIENTS), "every coefficient changes some solution in its own way"


@cache
def loaded() -> LoadedModel:
    return load_model_and_tokenizer(str(resolve_local(PROFILE.model)), device="cpu")


@cache
def problems() -> tuple[Problem, ...]:
    return tuple(load_mbpp(PROFILE.dataset).problems)[:N_PROBLEMS]


def request(problem: Problem, way: Steering) -> Request:
    return Request(PromptBuilder().build(problem), finished_by_solution(problem), None, way)


def generate(requests: list[Request], point: HookPoint) -> list[list[int]]:
    with GenerationEngine(loaded(), max_new_tokens=LIMIT, steering_points=[point]) as engine:
        return [list(row.tokens) for row in engine.generate(requests).rows]
