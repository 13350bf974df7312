"""Phases 4.5 to 7.6 on the bundled model, few coefficients and controls, shared by the tests that look at them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from common.runs.artifacts import COEFFICIENT_RESULTS, SELECTED_COEFFICIENTS
from tests.cli.helpers import Answer
from tests.cli.steering_place import quietly
from tests.organism_runs.steering import QUICK, Steered, steered

if TYPE_CHECKING:
    from tests.organism_runs.conftest import Detected

SLICE = 32
DIRECTIONS = ("correct", "incorrect")


class Chosen(NamedTuple):
    """Where phases 0 to 4.5 lie, and what each step of choosing said and left."""

    data: Path
    first: Answer
    refusal: Answer
    rest: Answer
    again: Answer
    by_hand: Answer
    kept: Answer
    back: Answer
    grids: list[bytes]
    selected: list[dict[str, Any] | None]


class Effects(NamedTuple):
    """Phases 4.8, 7.3 and 7.6 on the first positions, and what the refused ones said."""

    data: Path
    whole: Steered
    sliced: Steered
    again: Answer
    refusal: Answer
    instruct: Steered


def words(data: Path, phase: str, *more: object) -> tuple[object, ...]:
    return ("phase", phase, "--profile", "organism", "--data-dir", data, *QUICK, *more)


def ok(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def one_line(answer: Answer) -> str:
    lines = [line for line in answer.err.splitlines() if " INFO " not in line]
    assert answer.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), answer.err
    return lines[0]


def final_results(data: Path) -> Path:
    """Returns the table of the final evaluation that the record names."""
    outputs = [entry["path"] for entry in steered(data, "4.5").record()["outputs"]]
    (name,) = [path for path in outputs if path.startswith("final_evaluation/") and path.endswith(COEFFICIENT_RESULTS)]
    return data / "phase4_5" / name


def state(data: Path) -> tuple[bytes, dict[str, Any] | None]:
    """Returns the bytes of the grid, and what is chosen."""
    root = data / "phase4_5"
    path = root / SELECTED_COEFFICIENTS
    return (root / COEFFICIENT_RESULTS).read_bytes(), json.loads(path.read_text()) if path.is_file() else None


@pytest.fixture(scope="session")
def chosen(detected: Detected, tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    data = tmp_path_factory.mktemp("steering") / "data"
    shutil.copytree(detected.data, data)
    states, answers = [], []

    def step(*more: object) -> Answer:
        answers.append(ok(quietly(*words(data, "4.5", *more))))
        states.append(state(data))
        return answers[-1]

    first = step("--end", 47)
    refusal = quietly(*words(data, "4.8"))
    steps = [step(*more) for more in ((), (), ("--select", "correct=5"), (), ("--select", "correct=suggested"))]
    return Chosen(data, first, refusal, *steps, [grid for grid, _ in states], [found for _, found in states])


@pytest.fixture(scope="session")
def effects(chosen: Chosen, tmp_path_factory: pytest.TempPathFactory) -> Effects:
    """Both directions by hand at a coefficient that does something."""
    data = chosen.data
    ok(quietly(*words(data, "4.5", "--select", "correct=9", "incorrect=9")))
    ok(quietly(*words(data, "4.8", "--end", SLICE - 1)))
    again = ok(quietly(*words(data, "4.8", "--end", SLICE - 1)))
    other = tmp_path_factory.mktemp("sliced")
    for start, end in ((12, SLICE - 1), (0, 11)):
        ok(quietly(*words(other, "4.8", "--inputs-from", data, "--start", start, "--end", end)))
    ok(quietly(*words(data, "7.3")))
    refusal = quietly(*words(data, "7.6", "--end", SLICE - 1))
    ok(quietly(*words(data, "7.6", "--end", SLICE - 1, "--allow-partial")))
    return Effects(data, steered(data, "4.8"), steered(other, "4.8"), again, refusal, steered(data, "7.6"))
