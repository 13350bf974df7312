"""How well either run's predictors detect, on the validation split: AUROC, and F1 at each run's own threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from common.run_comparison.rows import SCORE, Place, Row, measured_row
from common.run_comparison.sides import Pair, Side
from common.runs.artifacts import EVALUATION_RESULTS, SCORES
from common.runs.discovery import PhaseOutput
from common.statistics.detection import f1_of_calling_everything_positive
from common.statistics.differences import Measured, ranking, ratio
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.selection import BoolArray, FloatArray, IntArray

GROUP = "detection"


class Detector(NamedTuple):
    """One run's predictor of one direction on its validation split; arrays have shape (n_problems,)."""

    problems: IntArray
    scores: FloatArray
    positive: BoolArray
    report: Mapping[str, Any]


def detection_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns AUROC and F1 of either direction, each beside what it has to beat."""
    ours, theirs = (_detectors(pair, *read) for read in zip(pair.sides, pair.outputs(phase), strict=True))
    rows = []
    for direction in DIRECTIONS:
        rows.append(_auroc(pair, phase, direction, ours[direction], theirs[direction]))
        rows.append(_f1(pair, phase, direction, ours[direction], theirs[direction]))
    return rows


def _detectors(pair: Pair, side: Side, output: PhaseOutput) -> dict[Direction, Detector]:
    table, reports = output.table(SCORES), output.json(EVALUATION_RESULTS)["directions"]
    found = table.filter(pa.array([split == "validation" for split in table.column("split").to_pylist()]))
    return {direction: _detector(pair, side, found, reports[direction], direction) for direction in DIRECTIONS}


def _detector(pair: Pair, side: Side, found: pa.Table, report: Mapping[str, Any], direction: Direction) -> Detector:
    passed = found.column("test_passed").to_numpy(zero_copy_only=False).astype(bool)
    problems = pair.problems(side, found.column("task_id").to_pylist())
    scores = found.column(f"{direction}_score").to_numpy()
    return Detector(problems, scores, passed if direction == "correct" else ~passed, report)


def _auroc(pair: Pair, phase: str, direction: Direction, ours: Detector, theirs: Detector) -> Row:
    figures = tuple(ranking(one.problems, one.scores, one.positive) for one in (ours, theirs))
    medians = [one.report["rivals"]["random directions"]["auroc"]["median"] for one in (ours, theirs)]
    place = Place(GROUP, f"AUROC, {direction} predictor ({_feature(ours, theirs)})", phase, SCORE)
    return _row(pair, place, figures, (ours, theirs), "median of random directions", medians)


def _f1(pair: Pair, phase: str, direction: Direction, ours: Detector, theirs: Detector) -> Row:
    figures = (_f1_of(ours), _f1_of(theirs))
    trivial = [f1_of_calling_everything_positive(one.positive) for one in (ours, theirs)]
    place = Place(GROUP, f"F1, {direction} predictor", phase, SCORE)
    return _row(pair, place, figures, (ours, theirs), "F1 of calling everything positive", trivial)


def _row(
    pair: Pair,
    place: Place,
    figures: tuple[Measured, ...],
    detectors: tuple[Detector, Detector],
    beside: str,
    values: list[float | None],
) -> Row:
    n = (len(detectors[0].problems), len(detectors[1].problems))
    shown = ["not defined" if value is None else f"{value:.3f}" for value in values]
    detail = {"beside": beside, "a": values[0], "b": values[1]}
    return measured_row(place, (figures[0], figures[1]), n, pair.draws, f"{beside}: {' and '.join(shown)}", detail)


def _f1_of(one: Detector) -> Measured:
    threshold = one.report["threshold"]["threshold"]
    if threshold is None:
        found = ratio(one.problems, 0 * one.scores, 0 * one.scores, "threshold")
        return Measured(found.problems, None, found.at, one.report["threshold"]["reason"])
    flagged = one.scores >= threshold
    if not one.positive.any():
        return ratio(one.problems, 0 * one.scores, 0 * one.scores, "positive problems")
    both = (flagged & one.positive).astype(float)
    return ratio(one.problems, 2 * both, flagged.astype(float) + one.positive, "positive problems")


def _feature(ours: Detector, theirs: Detector) -> str:
    names = [f"{one.report['feature']['layer']}:{one.report['feature']['index']}" for one in (ours, theirs)]
    return names[0] if names[0] == names[1] else f"{names[0]} and {names[1]}"
