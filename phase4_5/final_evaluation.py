"""The chosen coefficients on problems that were not used for choosing them.

Each choice has a directory and a record of its own: another choice evaluates anew, leaves the grid alone, and does not
touch what the current record of the phase vouches for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from common.conditions import coefficient_name, random_direction, target, zero
from common.runs.artifacts import COEFFICIENT_RESULTS, FINAL_EVALUATION, PhasePaths
from common.runs.slices import Span
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.generation_work import Arm
from common_simplified.model_loader import LoadedModel
from common_simplified.steering_runner import SteeringRunner


def directory_of(coefficients: Mapping[Direction, float]) -> str:
    """Returns where the evaluation of a choice lies in the phase: `final_evaluation/correct_9_incorrect_30`."""
    names = "_".join(f"{name}_{coefficient_name(coefficients[name])}" for name in DIRECTIONS)
    return f"{FINAL_EVALUATION}/{names}"


class FinalEvaluation(SteeringRunner):
    """Generates under the chosen coefficients, at `positions`, for the phase whose grid `grid` is."""

    phase = "4.5"
    split = "hyperparams"
    purpose = "choosing"
    results_name = COEFFICIENT_RESULTS

    def __init__(
        self, grid: SteeringRunner, coefficients: Mapping[Direction, float], positions: list[int], *, fresh: bool
    ) -> None:
        super().__init__(grid.config, replace(grid.options, start=None, end=None, fresh=fresh))
        self.paths = PhasePaths(grid.paths.root / directory_of(coefficients))
        self.problems, self.baseline, self.features = grid.problems, grid.baseline, grid.features
        self.baseline_output, self.setup, self.limit = grid.baseline_output, grid.setup, grid.limit
        self.span = Span(0, len(self.problems) - 1)
        self.coefficients, self.positions = coefficients, positions
        self._grid = grid
        self._inputs = grid._inputs

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model that the grid has loaded, or loads now."""
        return self._grid.loaded

    def arms(self) -> list[Arm]:
        """The zero arm, and each direction's feature beside random directions, at the chosen coefficients."""
        conditions = [zero(self.features["correct"])]
        for direction in DIRECTIONS:
            feature, coefficient = self.features[direction], self.coefficients[direction]
            conditions.append(target(direction, feature, coefficient))
            for draw in range(self.config.phase4_5_random_directions):
                conditions.append(random_direction(direction, feature, coefficient, draw))
        return self.grouped("final", conditions, self.positions)
