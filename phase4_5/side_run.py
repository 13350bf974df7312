"""Steering beside the grid: the screening of features before it, and the evaluation of the choice after it.

Each has a directory and a record of its own in the phase's, so that it resumes by itself, and another choice does not
touch what the current record vouches for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property

from common.conditions import Condition, coefficient_name
from common.errors import Interrupted, OtherSettingsError, UsageError
from common.logging import get_logger
from common.runs.artifacts import COEFFICIENT_RESULTS, FINAL_EVALUATION, PhasePaths
from common.runs.features import Feature
from common.runs.interruption import StopRequest
from common.runs.locks import EVERYTHING, refuse_held, span_lock
from common.runs.slices import Span
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.generation_work import Arm
from common_simplified.model_loader import LoadedModel
from common_simplified.steering_runner import SteeringRunner

WAIT_SECONDS = 1.0
_log = get_logger(__name__)


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
        whole = {"start": None, "end": None, "worker": False, "open": False}  # it is published whoever runs it
        merge = grid.options.merge or grid.options.open
        super().__init__(grid.config, replace(grid.options, fresh=fresh, merge=merge, **whole))
        self.title = f"phase {self.phase}, {directory.partition('/')[0].replace('_', ' ')}"
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

    def stopping(self) -> AbstractContextManager[StopRequest]:
        """Returns the grid's: who asks for a stop means both."""
        return nullcontext(self._grid.stop)

    def steered_features(self) -> list[Feature]:
        """Returns the targets of the conditions."""
        return list(dict.fromkeys(Feature(item.layer, item.target_idx) for item in self.conditions))

    def arms(self) -> list[Arm]:
        """The conditions, at the positions."""
        return self.grouped("side", self.conditions, self.positions)


def run_beside(
    grid: SteeringRunner, directory: str, conditions: Sequence[Condition], positions: Sequence[int], *, fresh: bool
) -> SideRun:
    """Runs conditions beside the grid, or finds them run; what was run there under other settings is put aside.

    Of several workers one runs them, the others wait for it.
    """
    side = SideRun(grid, directory, conditions, positions, fresh=fresh)
    try:
        _execute_in_turn(side, grid)
    except OtherSettingsError:
        side = SideRun(grid, directory, conditions, positions, fresh=True)
        _execute_in_turn(side, grid)
    return side


def stands_beside(
    grid: SteeringRunner, directory: str, conditions: Sequence[Condition], positions: Sequence[int], *, fresh: bool
) -> bool:
    """Returns whether all of it has been run beside the grid; puts aside what was run otherwise, and runs nothing."""
    side = SideRun(grid, directory, conditions, positions, fresh=fresh)
    with span_lock(side.paths.locks, EVERYTHING):
        try:
            return not fresh and not side.settle()
        except OtherSettingsError:
            fresh = True
        finally:
            if fresh:
                side.set_aside()
    return False


def _execute_in_turn(side: SideRun, grid: SteeringRunner) -> None:
    while True:
        if grid.options.worker:
            _wait_for_others(side, grid)
        try:
            return side.execute()
        except UsageError:
            if not grid.options.worker or not _is_held(side):
                raise


def _wait_for_others(side: SideRun, grid: SteeringRunner) -> None:
    said = False
    while _is_held(side):
        if not said:
            _log.info("phase %s: waiting for the worker that steers for all in %s", side.phase, side.paths.root)
        said = True
        if grid.stop.requested:
            raise Interrupted(f"stopped while waiting for another worker; to go on: {grid.command()}")
        time.sleep(WAIT_SECONDS)


def _is_held(side: SideRun) -> bool:
    try:
        refuse_held(side.paths.locks)
    except UsageError:
        return True
    return False


def final_directory(coefficients: Mapping[Direction, float]) -> str:
    """Returns where the evaluation of a choice lies in the phase: `final_evaluation/correct_9_incorrect_30`."""
    names = "_".join(f"{name}_{coefficient_name(coefficients[name])}" for name in DIRECTIONS)
    return f"{FINAL_EVALUATION}/{names}"
