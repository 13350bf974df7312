from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.conditions import (
    CONTROLS,
    RANDOM_DIRECTION,
    RANDOM_FEATURE,
    TARGET,
    ZERO,
    Condition,
    coefficient_name,
    random_direction,
    random_feature,
    target,
    zero,
)
from common.runs.features import Feature

pytestmark = pytest.mark.unit
OWN, OTHER = Feature(16, 123), Feature(16, 7)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def test_a_target_adds_its_own_feature() -> None:
    made = target("incorrect", OWN, 30.0)
    assert made == ("incorrect_30", TARGET, "incorrect", 16, 123, 123, None, 30.0)


def test_the_zero_arm_adds_nothing_at_the_features_layer() -> None:
    made = zero(OWN)
    assert made == ("zero", ZERO, "correct", 16, 123, 123, None, 0.0)


def test_controls_keep_layer_and_coefficient_and_are_counted() -> None:
    by_direction, by_feature = random_direction("correct", OWN, 30.0, 4), random_feature("correct", OWN, 7, 30.0, 12)
    assert by_direction == ("correct_30_random_direction_04", RANDOM_DIRECTION, "correct", 16, None, 123, 4, 30.0)
    assert by_feature == ("correct_30_random_feature_12", RANDOM_FEATURE, "correct", 16, 7, 123, 12, 30.0)
    assert {by_direction.kind, by_feature.kind} == set(CONTROLS)


@pytest.mark.parametrize(
    ("coefficient", "name"), [(30.0, "30"), (0.5, "0.5"), (-1.0, "-1"), (0.0, "0"), (1000.0, "1000"), (0.001, "0.001")]
)
def test_coefficients_are_named_as_they_are_written(coefficient: float, name: str) -> None:
    assert coefficient_name(coefficient) == name


@given(FINITE)
def test_a_name_gives_its_coefficient_back_so_no_two_share_one(coefficient: float) -> None:
    assert float(coefficient_name(coefficient)) == coefficient


def test_coefficients_that_are_nearly_equal_have_names_of_their_own() -> None:
    assert len({target("correct", OWN, value).name for value in (100.0, 100.0001, 100.00011, 1e6, 1000001.0)}) == 5


def test_no_two_conditions_of_a_grid_share_a_name() -> None:
    conditions = [zero(OWN)]
    for direction in ("correct", "incorrect"):
        for coefficient in (0.0, 1.0, 1.5, -1.0, 10.0, 100.0):
            conditions.append(target(direction, OWN, coefficient))
            for draw in range(120):
                conditions.append(random_direction(direction, OWN, coefficient, draw))
                conditions.append(random_feature(direction, OWN, draw, coefficient, draw))
    assert len({condition.name for condition in conditions}) == len(conditions)


def test_a_candidate_carries_its_layer_and_index_in_its_name_and_nothing_else_differs() -> None:
    for make in (lambda **kind: target("correct", OWN, -0.5, **kind), lambda **kind: _control(**kind)):
        best, beside = make(), make(candidate=True)
        assert beside.name == best.name.replace("correct", "correct_16_123", 1) != best.name
        assert beside[1:] == best[1:]


def _control(**kind: bool) -> Condition:
    return random_direction("correct", OWN, -0.5, 2, **kind)


def test_no_two_conditions_of_a_screening_share_a_name() -> None:
    """Candidates of both directions, one of them in both; the best feature of each carries no place."""
    features = {"correct": [OWN, OTHER, Feature(17, 7)], "incorrect": [OTHER, OWN]}
    names = [
        condition.name
        for direction, items in features.items()
        for feature in items
        for condition in (
            target(direction, feature, 30.0, candidate=feature != items[0]),  # type: ignore[arg-type]
            random_direction(direction, feature, 30.0, 0, candidate=feature != items[0]),  # type: ignore[arg-type]
        )
    ]
    assert len(set(names)) == len(names) == 10


def test_a_condition_survives_json() -> None:
    made = random_direction("correct", OWN, 0.1, 3)
    assert tuple(json.loads(json.dumps(list(made)))) == made
