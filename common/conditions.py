"""The ways of steering that are compared: targets, their controls, and the zero-coefficient arm.

A condition adds coefficient × direction to the residual stream at one layer throughout a generation. The *target* is a
feature's decoder direction; its controls are decoder directions of matched random features and random directions of
equal norm, with the same coefficient at the same layer; the *zero* arm adds nothing by the same code and shows what
batching alone changes.
"""

from __future__ import annotations

from typing import NamedTuple

from common.runs.features import Feature
from common.statistics.permutation import Direction

ZERO, TARGET, RANDOM_FEATURE, RANDOM_DIRECTION = "zero", "target", "random_feature", "random_direction"
CONTROLS = (RANDOM_FEATURE, RANDOM_DIRECTION)


class Condition(NamedTuple):
    """One way of steering.

    `direction` says whose layer and coefficient it has; `feature_idx` is the SAE feature whose decoder row is added
    (None for a random direction); `target_idx` is the target itself, or the one that a control stands beside;
    `draw` counts the controls of a kind from 0.
    """

    name: str
    kind: str
    direction: Direction
    layer: int
    feature_idx: int | None
    target_idx: int
    draw: int | None
    coefficient: float


def zero(feature: Feature) -> Condition:
    """Returns the arm that adds nothing, with the hook at the feature's layer."""
    return Condition("zero", ZERO, "correct", feature.layer, feature.index, feature.index, None, 0.0)


def target(direction: Direction, feature: Feature, coefficient: float, *, candidate: bool = False) -> Condition:
    """Returns the feature's own direction; a `candidate` beside the best feature carries its place in its name."""
    name = _name(direction, feature, coefficient, candidate)
    return Condition(name, TARGET, direction, feature.layer, feature.index, feature.index, None, coefficient)


def random_direction(
    direction: Direction, feature: Feature, coefficient: float, draw: int, *, candidate: bool = False
) -> Condition:
    """Returns control `draw` of the feature: a random direction of its norm."""
    name = f"{_name(direction, feature, coefficient, candidate)}_random_direction_{draw:02d}"
    return Condition(name, RANDOM_DIRECTION, direction, feature.layer, None, feature.index, draw, coefficient)


def random_feature(direction: Direction, feature: Feature, control: int, coefficient: float, draw: int) -> Condition:
    """Returns control `draw` of the feature: feature `control` of the same layer."""
    name = f"{direction}_{coefficient_name(coefficient)}_random_feature_{draw:02d}"
    return Condition(name, RANDOM_FEATURE, direction, feature.layer, control, feature.index, draw, coefficient)


def _name(direction: Direction, feature: Feature, coefficient: float, candidate: bool) -> str:
    place = f"_{feature.layer}_{feature.index}" if candidate else ""
    return f"{direction}{place}_{coefficient_name(coefficient)}"


def coefficient_name(coefficient: float) -> str:
    """A coefficient as it stands in names: 30, 0.5, -1; two that differ never share one."""
    return repr(float(coefficient)).removesuffix(".0")
