"""How many problems either run solved, by split and temperature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.run_comparison.rows import Place, Row, measured_row
from common.run_comparison.sides import Pair, Side
from common.runs.discovery import PhaseOutput
from common.statistics.differences import Measured, proportion
from common.statistics.selection import IntArray

GROUP = "solved problems"
PHASES = {"1.0": "sae", "3.6": "hyperparams", "3.5": "validation", "7.3": "validation, instruct"}
_COLUMNS = ("task_id", "temperature", "test_passed")


class Judged(NamedTuple):
    """The solutions of one temperature that have a verdict; shape (n_solutions,)."""

    task_ids: IntArray
    passed: np.ndarray


def solved_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns the pass rate at each temperature that both runs have of a phase's split."""
    ours, theirs = (_judged(output) for output in pair.outputs(phase))
    rows = []
    for temperature in sorted(set(ours) & set(theirs)):
        place = Place(GROUP, f"{PHASES[phase]}, temperature {temperature:g}", phase)
        found = (ours[temperature], theirs[temperature])
        rates = [_rate(pair, side, one) for side, one in zip(pair.sides, found, strict=True)]
        sizes = (len(found[0].passed), len(found[1].passed))
        rows.append(measured_row(place, (rates[0], rates[1]), sizes, pair.draws))
    return rows


def _judged(output: PhaseOutput) -> dict[float, Judged]:
    names = dict.fromkeys(output.record["datasets"].values())
    table = pa.concat_tables([output.table(name).select(list(_COLUMNS)) for name in names])
    table = table.filter(table.column("test_passed").is_valid())
    return {temperature: _at(table, temperature) for temperature in set(table.column("temperature").to_pylist())}


def _at(table: pa.Table, temperature: float) -> Judged:
    found = table.filter(pa.array([one == temperature for one in table.column("temperature").to_pylist()]))
    passed = found.column("test_passed").to_numpy(zero_copy_only=False).astype(bool)
    return Judged(found.column("task_id").to_numpy(), passed)


def _rate(pair: Pair, side: Side, found: Judged) -> Measured:
    task_ids, line = np.unique(found.task_ids, return_inverse=True)
    passed, judged = (np.bincount(line[rows], minlength=len(task_ids)) for rows in (found.passed, slice(None)))
    return proportion(pair.problems(side, task_ids), passed, judged, "judged solutions")
