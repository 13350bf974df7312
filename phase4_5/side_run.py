"""Steering beside the grid: the screening of features before it, and the evaluation of the choice after it.

Each has a directory and a record of its own in the phase's, so that it resumes by itself, and another choice does not
touch what the current record vouches for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from common.conditions import Condition, coefficient_name
from common.errors import OtherSettingsError
from common.runs.artifacts import COEFFICIENT_RESULTS, FINAL_EVALUATION, PhasePaths
from common.runs.features import Feature
from common.runs.slices import Span
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.generation_work import Arm
from common_simplified.model_loader import LoadedModel
from common_simplified.steering_runner import SteeringRunner


class SideRun(SteeringRunner):
    """Generates `conditions` at `positions` of the whole split, for the phase whose grid is `grid`."""

    phase = "4.5"
    split = "hyperparams"
    purpose = "choosing"
    results_name = COEFFICIENT_RESULTS

    def __init__(
        self,
        grid: SteeringRunner,
        directory: str,
        conditions: Sequence[Condition],
        positions: Sequence[int],
        *,
        fresh: bool,
    ) -> None:
        super().__init__(grid.config, replace(grid.options, start=None, end=None, fresh=fresh))
        self.paths = PhasePaths(grid.paths.root / directory)
        self.problems, self.baseline = grid.problems, grid.baseline
        self.baseline_output, self.setup, self.limit = grid.baseline_output, grid.setup, grid.limit
        self.span = Span(0, len(self.problems) - 1)
        self.features = dict(grid.features)
        self.conditions, self.positions = list(conditions), list(positions)
        self._grid = grid
        self._inputs = grid._inputs

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model that the grid has loaded, or loads now."""
        return self._grid.loaded

    def steered_features(self) -> list[Feature]:
        """Returns the targets of the conditions."""
        return list(dict.fromkeys(Feature(item.layer, item.target_idx) for item in self.conditions))

    def arms(self) -> list[Arm]:
        """The conditions, at the positions."""
        return self.grouped("side", self.conditions, self.positions)


def run_beside(
    grid: SteeringRunner, directory: str, conditions: Sequence[Condition], positions: Sequence[int], *, fresh: bool
) -> SideRun:
    """Runs conditions beside the grid, or finds them run; what was run there under other settings is put aside."""
    side = SideRun(grid, directory, conditions, positions, fresh=fresh)
    try:
        side.execute()
    except OtherSettingsError:
        side = SideRun(grid, directory, conditions, positions, fresh=True)
        side.execute()
    return side


def final_directory(coefficients: Mapping[Direction, float]) -> str:
    """Returns where the evaluation of a choice lies in the phase: `final_evaluation/correct_9_incorrect_30`."""
    names = "_".join(f"{name}_{coefficient_name(coefficients[name])}" for name in DIRECTIONS)
    return f"{FINAL_EVALUATION}/{names}"
