"""The whole comparison of two runs: what they were made with, how far they are, and every figure that both have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.config import Config
from common.errors import PipelineError
from common.run_comparison.detecting import GROUP as DETECTION
from common.run_comparison.detecting import detection_rows
from common.run_comparison.findings import COEFFICIENTS, FEATURES, coefficient_rows, feature_rows
from common.run_comparison.rows import WORDS, Row
from common.run_comparison.setup import Different, differences, progress
from common.run_comparison.sides import Draws, Pair, failure, opened
from common.run_comparison.solving import GROUP as SOLVED
from common.run_comparison.solving import PHASES as GENERATING
from common.run_comparison.solving import solved_rows
from common.run_comparison.steering import GROUPS as STEERING
from common.run_comparison.steering import TRANSFER, steering_rows, transfer_rows
from common.runs.status import COMPLETE
from common.statistics.summaries import CONFIDENCE

Maker = Callable[[Pair, str], list[Row]]
# What is compared, in this order: the heading, the phase, and what makes its rows.
_FIGURES: tuple[tuple[str, str, Maker], ...] = (
    *((SOLVED, phase, solved_rows) for phase in GENERATING),
    *((heading, phase, feature_rows) for phase, heading in FEATURES.items()),
    (DETECTION, "3.8", detection_rows),
    (COEFFICIENTS, "4.5", coefficient_rows),
    *((heading, phase, steering_rows) for phase, heading in STEERING.items()),
    (TRANSFER, "7.6", transfer_rows),
)


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side; every difference is B minus A."""

    a: Path
    b: Path
    different: list[Different]
    progress: list[dict[str, Any]]
    same_outputs: list[str]
    rows: list[Row]
    draws: Draws

    def as_dict(self) -> dict[str, Any]:
        """Returns everything by name, ready for JSON."""
        return {
            "what": "two runs side by side; differences are B minus A",
            "a": str(self.a),
            "b": str(self.b),
            "confidence": CONFIDENCE,
            "seed": self.draws.seed,
            "bootstrap_draws": self.draws.n_draws,
            "made_differently": [one.as_dict() for one in self.different],
            "phases": self.progress,
            "the_same_output": self.same_outputs,
            "figures": [row.as_dict() for row in self.rows],
        }


def compare_runs(dir_a: Path, dir_b: Path, draws: Draws | None = None) -> Comparison:
    """Compares the runs in two data directories; raises `UsageError` where there is nothing to compare.

    What is damaged in either run becomes a row that says so; the other figures are compared all the same.
    """
    chosen = draws or Draws(Config().seed, Config().phase3_8_bootstrap_draws)
    pair = Pair(*opened(dir_a, dir_b), chosen)
    rows = [row for figure in _FIGURES if figure[1] in pair.shared() for row in _rows(pair, *figure)]
    return Comparison(dir_a, dir_b, differences(pair), progress(pair), _same_outputs(pair), rows, chosen)


def _rows(pair: Pair, heading: str, phase: str, make: Maker) -> list[Row]:
    try:
        rows = make(pair, phase)
    except PipelineError as error:
        return [Row(heading, f"phase {phase}", phase, WORDS, reason=f"not compared: {failure(error)}")]
    unsound = "; ".join(_unsound(pair, phase))
    if not rows or not unsound:
        return rows
    return [replace(rows[0], remark="; ".join(filter(None, (rows[0].remark, unsound)))), *rows[1:]]


def _unsound(pair: Pair, phase: str) -> Iterator[str]:
    """Yields in which run a phase is not what it would be if it were run now."""
    for side in pair.sides:
        state = next(state for state in side.states if state.spec.id == phase)
        if state.state != COMPLETE:
            count = f" ({state.done} of {state.expected} problems)" if state.expected else ""
            yield f"take care: phase {phase} is {state.state} in {side.name}{count}"


def _same_outputs(pair: Pair) -> list[str]:
    """The phases whose records are one and the same: copies, whose differences are all 0."""
    same = []
    for phase in pair.shared():
        try:
            records = [output.record for output in pair.outputs(phase)]
        except PipelineError:
            continue
        if records[0]["record_id"] is not None and records[0]["record_id"] == records[1]["record_id"]:
            same.append(phase)
    return same
