"""What steering did in either run, beside its controls, and what transferred to the instruction-tuned model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.conditions import TARGET
from common.run_comparison.rows import SCORE, WORDS, Place, Row, difference_row, measured_row, words_row
from common.run_comparison.sides import Pair, Side
from common.runs.artifacts import CROSS_MODEL_COMPARISON, STEERING_ANALYSIS, STEERING_RESULTS
from common.runs.discovery import PhaseOutput
from common.statistics.differences import Measured, difference_from_intervals, proportion, ratio
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.steering import OUTCOMES
from common.steering_effects import SteeredArm, arms_of, chosen

GROUPS = {"4.8": "steering", "7.6": "steering, instruct"}
TRANSFER = "transfer"
_VERDICT = {True: "transferred", False: "did not", None: "cannot be told"}


class Steered(NamedTuple):
    """One direction in one run: its steered problems, and its rank among the controls."""

    side: Side
    arm: SteeredArm
    rank: Mapping[str, Any]


def steering_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns fixes, breaks and the net change of either direction, as shares of problems; the controls beside."""
    ours, theirs = (_steered(*read) for read in zip(pair.sides, pair.outputs(phase), strict=True))
    rows: list[Row] = []
    for direction in DIRECTIONS:
        if direction in ours and direction in theirs:
            rows.extend(_rows(pair, phase, direction, ours[direction], theirs[direction]))
    return rows


def _steered(side: Side, output: PhaseOutput) -> dict[Direction, Steered]:
    table, analysis = output.table(STEERING_RESULTS), output.json(STEERING_ANALYSIS)["directions"]
    arms = arms_of(table.filter(pa.array([kind == TARGET for kind in table.column("kind").to_pylist()])))
    found: dict[Direction, Steered] = {}
    for direction in DIRECTIONS:
        targets = chosen(arms, TARGET, direction)
        if targets and direction in analysis:
            found[direction] = Steered(side, targets[0], analysis[direction]["controls"]["rank"])
    return found


def _rows(pair: Pair, phase: str, direction: Direction, ours: Steered, theirs: Steered) -> Iterator[Row]:
    ranks = (ours.rank, theirs.rank)
    detail = {"beside": f"rank among controls on {OUTCOMES[direction]}", "a": ranks[0], "b": ranks[1]}
    remark = f"{OUTCOMES[direction]} among controls: {' and '.join(map(_rank, ranks))}"
    figures = [_figures(pair, one.side, one.arm) for one in (ours, theirs)]
    for what in figures[0]:
        first, second = figures[0][what], figures[1][what]
        place = Place(GROUPS[phase], f"{direction}: {what}", phase)
        beside = (remark, detail) if what == _PRIMARY[direction] else ("", None)
        yield measured_row(place, (first[0], second[0]), (first[1], second[1]), pair.draws, *beside)


_NET, _BROKEN = "net change in solved problems", "broken, still parsing, of passing"
_PRIMARY: dict[Direction, str] = {"correct": _NET, "incorrect": _BROKEN}


def _figures(pair: Pair, side: Side, arm: SteeredArm) -> dict[str, tuple[Measured, int]]:
    """Each figure of one direction with the number of problems that it is a share of."""
    problems = pair.problems(side, arm.task_ids)
    failing, passing = (~arm.baseline).astype(float), arm.baseline.astype(float)
    fixed, broken = (~arm.baseline & arm.steered).astype(float), (arm.baseline & ~arm.steered).astype(float)
    n_passing, everyone = int(passing.sum()), np.ones(len(problems))
    none, of = "initially passing problems", "initially failing problems"
    return {
        _NET: (ratio(problems, fixed - broken, everyone, "problems"), len(problems)),
        "fixed, of failing": (proportion(problems, fixed, failing, of), int(failing.sum())),
        "broken, of passing": (proportion(problems, broken, passing, none), n_passing),
        _BROKEN: (proportion(problems, broken * arm.parses, passing, none), n_passing),
    }


def _rank(rank: Mapping[str, Any]) -> str:
    if rank["p"] is None:
        return "none"
    return f"p {rank['p']:.3f} ({rank['n_at_least']} of {rank['n_controls']} do as well)"


def transfer_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns whether predictors and directions transferred, and the predictors' AUROC on the other model."""
    ours, theirs = (output.json(CROSS_MODEL_COMPARISON) for output in pair.outputs(phase))
    rows = []
    for direction in DIRECTIONS:
        if direction in ours["detection"] and direction in theirs["detection"]:
            entries = (ours["detection"][direction], theirs["detection"][direction])
            rows.append(_verdict(f"{direction} predictor", phase, entries))
            found = [entry["instruct"]["auroc"] for entry in entries]
            place = Place(TRANSFER, f"AUROC of the {direction} predictor on the instruct model", phase, SCORE)
            values, n = (found[0]["value"], found[1]["value"]), (found[0]["n"], found[1]["n"])
            rows.append(difference_row(place, values, n, difference_from_intervals(found[0], found[1])))
        if direction in ours["steering"] and direction in theirs["steering"]:
            entries = (ours["steering"][direction], theirs["steering"][direction])
            rows.append(_verdict(f"{direction} direction", phase, entries))
    return rows


def _verdict(what: str, phase: str, entries: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Row:
    words = (_VERDICT[entries[0]["transferred"]], _VERDICT[entries[1]["transferred"]])
    return words_row(Place(TRANSFER, what, phase, WORDS), words)
