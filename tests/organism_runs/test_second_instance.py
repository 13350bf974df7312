"""The known answers on an organism of another seed, which nobody has tuned for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.profiles import REPOSITORY
from tests.organism_runs.conftest import SIZES, done
from tests.organism_runs.steering import assert_breaks_carry_the_planted_bug, assert_steering_beats_its_controls

pytestmark = pytest.mark.slow
SEED = 1
MADE_BEFORE = "SECOND_ORGANISM"
# On seed 1 the best ranked incorrect-preferring feature only reads out what an earlier one decides, and the correct
# direction, in the last block, moves few solutions: several features are screened, and controls run on every problem.
STEERED = ("candidates=4", "coefficients=0.15,0.2,0.3,0.4", "problems_per_coeff=72")
STEERING = (
    *(word for setting in STEERED for word in ("--set", f"phase4_5_{setting}")),
    *("--set", "phase4_8_control_problems=none"),
)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance of another seed: the directory in $SECOND_ORGANISM, or one that is trained here (half an hour)."""
    if MADE_BEFORE in os.environ:
        return Path(os.environ[MADE_BEFORE])
    path = tmp_path_factory.mktemp("second") / "instance"
    from organism.build import build_instance

    build_instance(SEED, path, log=lambda line: None)
    return path


@pytest.fixture(scope="module")
def data(instance: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole pipeline on that instance."""
    root = tmp_path_factory.mktemp("pipeline")
    text = (REPOSITORY / "profiles" / "organism.toml").read_text().replace("organism/instance", str(instance))
    profile = root / "second.toml"
    profile.write_text(text.replace('data_dir = "data/organism"', f'data_dir = "{root / "data"}"'))
    done("pipeline", "--profile", profile, *SIZES, *STEERING)
    return root / "data"


def test_the_pipeline_finds_the_planted_answer_on_another_seed(data: Path) -> None:
    answers = json.loads((data / "known_answers.json").read_text())
    for direction, sign in (("correct", -1), ("incorrect", 1)):
        found = answers["detection"]["features"][direction]
        assert found["reaches_0_9_of_ceiling"], found
        assert found["ahead_of_random_directions"]["low"] > 0, found
        assert sign * found["spearman_with_carelessness"] > 0.4, found


def test_steering_beats_every_control_on_another_seed(data: Path) -> None:
    assert_steering_beats_its_controls(data)


def test_what_the_incorrect_direction_breaks_carries_the_planted_bug_on_another_seed(data: Path) -> None:
    assert_breaks_carry_the_planted_bug(data)
