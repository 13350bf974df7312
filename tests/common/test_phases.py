from __future__ import annotations

import ast
from pathlib import Path

import pytest

from common.errors import UsageError
from common.phases import OLDER_NUMBERS, PHASES, get_phase, phase_ids
from common.profiles import REPOSITORY
from common.runs.artifacts import SPLITS

pytestmark = pytest.mark.unit


def test_ids_are_text_and_stand_once() -> None:
    assert all(isinstance(spec.id, str) for spec in PHASES)
    assert len(set(phase_ids())) == len(PHASES)
    assert phase_ids()[:2] == ["0", "0.1"]


def test_2_10_is_not_2_1() -> None:
    with pytest.raises(UsageError):
        get_phase("2.1")
    assert "2.1" not in phase_ids()


@pytest.mark.parametrize("spec", PHASES, ids=lambda spec: spec.id)
def test_every_input_is_made_by_an_earlier_phase(spec: object) -> None:
    place = PHASES.index(spec)  # type: ignore[arg-type]
    before = {earlier.id for earlier in PHASES[:place]}
    assert set(PHASES[place].reads) <= before
    assert set(PHASES[place].optional_reads) <= before


@pytest.mark.parametrize("spec", PHASES, ids=lambda spec: spec.id)
def test_every_runner_stands_where_the_registry_says(spec: object) -> None:
    found = PHASES[PHASES.index(spec)]  # type: ignore[arg-type]
    module, _, name = found.runner.partition(":")
    path = REPOSITORY / Path(*module.split(".")).with_suffix(".py")
    classes = {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}
    assert module.split(".")[0] == f"phase{found.id.replace('.', '_')}"
    own = [ast.unparse(item.value) for item in classes[name].body if isinstance(item, ast.Assign)]
    assert repr(found.id) in own


def test_every_phase_that_is_cut_has_a_split() -> None:
    for spec in PHASES:
        assert spec.needs in ("cpu", "model")
        assert spec.sliceable or spec.split is None
        assert spec.split is None or spec.split in SPLITS
        assert spec.writes


def test_older_numbers_mean_todays_phases() -> None:
    assert get_phase("1") is get_phase("1.0")
    assert get_phase("2") is get_phase("2.5")
    assert all(number not in phase_ids() for number in OLDER_NUMBERS)
    assert set(OLDER_NUMBERS.values()) <= set(phase_ids())


@pytest.mark.parametrize(("name", "nearest"), [("0.11", "0.1"), ("2.55", "2.5"), ("1.00", "1.0")])
def test_an_unknown_phase_is_refused_with_all_that_exist_and_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_phase(name)
    said = str(caught.value)
    assert f"phase {name!r} is unknown" in said
    assert ", ".join(phase_ids()) in said
    assert said.endswith(f"did you mean {nearest!r}?")
