"""The chosen coefficients on problems that were not used for choosing them.

Kept in `final_evaluation/` with a record of its own: another choice evaluates anew and leaves the grid alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from common.conditions import random_direction, target, zero
from common.runs.artifacts import COEFFICIENT_RESULTS, FINAL_EVALUATION, PhasePaths
from common.runs.slices import Span
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.generation_work import Arm
from common_simplified.model_loader import LoadedModel
from common_simplified.steering_runner import SteeringRunner


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
        self.paths = PhasePaths(grid.paths.root / FINAL_EVALUATION)
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
