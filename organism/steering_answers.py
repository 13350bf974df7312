"""Steering held against the planted truth: whether solutions that broke carry the bug that was planted.

Any large push breaks solutions; a push along carelessness breaks them in the planted way. The share of breaks with the
intended bug, beside that of every control, tells the two apart. Solutions run only in the sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.conditions import CONTROLS, TARGET
from common.config import Config
from common.execution import EvaluationPool
from common.runs.artifacts import STEERING_ANALYSIS, STEERING_RESULTS
from common.runs.discovery import PhaseOutput
from common.runs.labelling import evaluation_pool
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.steering import rank_among, share

Row = dict[str, Any]


def steering_answers(config: Config, output: PhaseOutput, truth: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns fixes, breaks and intended bugs of both directions and their controls.

    `output` is phase 4.8's or 7.6's; `truth` holds the planted truth by problem.
    """
    analysis = output.json(STEERING_ANALYSIS)
    rows = [row for row in output.table(STEERING_RESULTS).to_pylist() if row["left_out"] is None]
    with evaluation_pool(config) as pool:
        mark_intended_bugs(rows, truth, pool)
    return {
        "model": analysis["model"],
        "n": analysis["n_problems"],
        "directions": {name: _direction(rows, name, analysis["directions"][name]) for name in DIRECTIONS},
    }


def mark_intended_bugs(rows: Sequence[Row], truth: Mapping[int, Mapping[str, Any]], pool: EvaluationPool) -> None:
    """Sets `intended` of every broken row: whether the solution does what the problem's intended bug does."""
    waiting = []
    for row in rows:
        row["fixed"] = not row["baseline_passed"] and row["test_passed"]
        row["broken"] = row["baseline_passed"] and not row["test_passed"]
        row["intended"] = False
        if row["broken"] and row["parses"]:
            waiting.append((row, pool.submit(row["generated_code"], truth[row["task_id"]]["intended_bug_tests"], "")))
    for row, result in waiting:
        row["intended"] = result.result().passed


def _direction(rows: Sequence[Row], direction: Direction, analysis: Mapping[str, Any]) -> dict[str, Any]:
    own = [row for row in rows if row["kind"] == TARGET and row["direction"] == direction]
    controls = _by_condition([row for row in rows if row["kind"] in CONTROLS and row["direction"] == direction])
    positions = [{row["position"] for row in items} for items in controls.values()]
    shared = set.intersection({row["position"] for row in own}, *positions) if positions else set()
    beside = {
        name: _counts([row for row in items if row["position"] in shared]) | {"kind": items[0]["kind"]}
        for name, items in controls.items()
    }
    target = _counts([row for row in own if row["position"] in shared])
    rank = analysis["controls"]["rank"]
    return {
        "feature": analysis["feature"],
        "coefficient": analysis["coefficient"],
        "all_problems": _counts(own),
        "control_problems": {"n": len(shared), "target": target, "controls": beside},
        "primary_outcome": analysis["primary_outcome"],
        "rank": rank,
        "beats_every_control": None
        if rank["p"] is None
        else all(analysis["controls"][kind]["rank"]["n_at_least"] == 0 for kind in CONTROLS),
        "rank_by_intended_bugs": rank_among(
            target["intended"], [counts["intended"] for counts in beside.values()]
        ).as_dict(),
    }


def _by_condition(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["condition"], []).append(row)
    return found


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    fixes, breaks, intended = (sum(row[name] for row in rows) for name in ("fixed", "broken", "intended"))
    return {
        "n_failing": sum(not row["baseline_passed"] for row in rows),
        "n_passing": sum(row["baseline_passed"] for row in rows),
        "fixes": fixes,
        "breaks": breaks,
        "intended": intended,
        "intended_share_of_breaks": share(intended, breaks, "breaks").as_dict(),
    }
