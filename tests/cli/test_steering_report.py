"""The report of what steering phases really publish; the artifacts made by hand for its tests have the same form."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.config import resolve_config
from common.runs.artifacts import COEFFICIENT_SUMMARY, STEERING_ANALYSIS
from report import steering_findings as findings
from report.run import Run
from report.sections import coefficients, instruct, steering
from tests.cli.helpers import Here
from tests.cli.steering_place import Place, done
from tests.report.sections.looking import table
from tests.report.sections.saying import changes, rows, sound
from tests.report.sections.steering_artifacts import analysis, arms, coefficient_summary
from tests.report.sections.test_coefficients import DOWN, UP

pytestmark = pytest.mark.smoke

ROWS = ["steering base: correct", "steering base: incorrect"]


@pytest.fixture
def steered(steering_made: Path, tmp_path: Path, here: Here) -> Run:
    """A run of a tiny random model whose phases 4.5 and 4.8 are there."""
    shutil.copytree(steering_made.parent / "data", tmp_path / "data")
    place = Place(steering_made, tmp_path / "data", here)
    done(place.phase("4.8"))
    return Run(resolve_config({"profile": str(place.profile), "data_dir": str(place.data)}).config)


def forms(value: Any, path: str = "") -> Iterator[str]:
    """Yields the places of a JSON value that keys lead to; of a list those of its first item, counts by reason none."""
    if isinstance(value, dict) and not path.endswith(("left_out", "failure_modes", "stop_reasons", "not_steered")):
        for key, item in value.items():
            yield f"{path}.{key}"
            yield from forms(item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        yield from forms(value[0], f"{path}[]")


def below(form: set[str], absent: tuple[str, ...]) -> set[str]:
    """Returns the places of the correct direction, but for what is null or empty in one of both."""
    return {path for path in form if not any(name in path for name in (*absent, ".incorrect"))}


def test_sections_show_what_the_phases_publish(steered: Run) -> None:
    effect = steered.json("4.8", STEERING_ANALYSIS)["directions"]["correct"]["effect"]
    made = sound(steering.section(steered))
    shown = {row["of the solutions"]: row for row in rows(table(made, "What steering did to"))}
    assert shown["n"]["correct: 4"] == str(effect["n"]) and shown["n"]["coefficient 0"] == str(effect["n"])
    assert len(changes(made)[0].items) > 0
    grid = sound(coefficients.section(steered))
    assert [row["coefficient"].partition(" ")[0] for row in rows(table(grid, "Correct-preferring"))] == ["2", "4*"]
    assert "chosen by hand" in grid.lead and len(changes(grid)[0].items) > 0
    whats = [one.what for one in (*findings.coefficients(steered), *findings.steering(steered, "4.8"))]
    assert whats == ["coefficient, correct", "coefficient, incorrect", *ROWS]
    missing = instruct.section(steered)
    assert missing is not None and missing.id == "instruct"


def test_the_artifacts_made_by_hand_have_the_form_of_the_published_ones(steered: Run) -> None:
    absent = ("selective", "control_firing_rates", "screening", "final_evaluation", "noise_floor")
    by_hand = analysis(arms(controls=["wwwwkkkb"]))
    real = steered.json("4.8", STEERING_ANALYSIS)
    assert below(set(forms(by_hand)), absent) == below(set(forms(real)), absent)
    by_hand = coefficient_summary(UP, DOWN)
    real = steered.json("4.5", COEFFICIENT_SUMMARY)
    assert below(set(forms(by_hand)), absent) == below(set(forms(real)), absent)
