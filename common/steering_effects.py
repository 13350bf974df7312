"""What steering did: a condition's solutions against the stored baseline, and a target among its controls.

Works on the rows of a steering phase's results (one a problem and condition). Problems whose generation failed in
either arm, or whose baseline is longer than the steered limit, enter no rate; they are counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from common.code_survival import FAILURE_MODES
from common.conditions import CONTROLS, TARGET, ZERO
from common.statistics.detection_report import DIFFICULTY_GROUPS, difficulty_of
from common.statistics.permutation import Direction
from common.statistics.selection import BoolArray
from common.statistics.steering import OUTCOMES, Flips, flips, primary_outcome, rank_among, share


@dataclass(frozen=True)
class SteeredArm:
    """A condition's rows that enter rates, in order of position; every array has shape (n_problems,)."""

    condition: Mapping[str, Any]
    positions: np.ndarray
    task_ids: np.ndarray
    complexity: np.ndarray
    baseline: BoolArray
    steered: BoolArray
    parses: BoolArray
    baseline_parses: BoolArray
    defines_function: BoolArray
    keeps_signature: BoolArray
    failure_modes: list[str]
    stop_reasons: list[str]
    left_out: dict[str, int]

    def flips(self, inside: BoolArray | None = None) -> Flips:
        """Returns the flips on the rows where `inside` holds (all by default)."""
        chosen = np.ones(len(self.baseline), dtype=bool) if inside is None else inside
        return flips(self.baseline[chosen], self.steered[chosen], self.parses[chosen])

    def on(self, positions: np.ndarray) -> BoolArray:
        """Returns which rows lie at `positions`."""
        return np.isin(self.positions, positions)


def arms_of(results: pa.Table) -> list[SteeredArm]:
    """Returns the arms of a table of results, in its order."""
    of_condition: dict[str, list[dict[str, Any]]] = {}
    columns = [name for name in _COLUMNS if name in results.column_names]
    for row in results.select(columns).to_pylist():
        of_condition.setdefault(row["condition"], []).append(row)
    return [_arm(rows) for rows in of_condition.values()]


def chosen(arms: Iterable[SteeredArm], kind: str, direction: Direction | None = None) -> list[SteeredArm]:
    """Returns the arms of a kind (and direction)."""
    return [
        arm
        for arm in arms
        if arm.condition["kind"] == kind and (direction is None or arm.condition["direction"] == direction)
    ]


def direction_effects(arms: Sequence[SteeredArm], direction: Direction) -> dict[str, Any]:
    """Returns what steering along one direction did: on all problems, by difficulty, and beside its controls."""
    (target,) = chosen(arms, TARGET, direction)
    return {
        "feature": {"layer": target.condition["layer"], "index": target.condition["feature_idx"]},
        "coefficient": target.condition["coefficient"],
        "primary_outcome": OUTCOMES[direction],
        "effect": target.flips().as_dict(),
        **survival(target),
        "left_out": target.left_out,
        "failure_modes": failure_modes(target),
        "stop_reasons": dict(sorted(Counter(target.stop_reasons).items())),
        "by_difficulty": by_difficulty(target),
        "controls": control_effects(arms, target, direction),
    }


def control_effects(
    arms: Sequence[SteeredArm], target: SteeredArm, direction: Direction, steered_tasks: Iterable[int] | None = None
) -> dict[str, Any]:
    """Returns every control's flips and the target's rank among them on the primary outcome.

    All are compared on the problems that enter rates in every one of them. Each kind of control has a rank of its own;
    the one that is reported (`rank`, of `rank_kind`) is the worse. With `steered_tasks` only these problems count as
    steered, in the target and in every control.
    """
    gated = None if steered_tasks is None else frozenset(steered_tasks)
    controls = [arm for kind in CONTROLS for arm in chosen(arms, kind, direction)]
    shared = target.positions
    for arm in controls:
        shared = np.intersect1d(shared, arm.positions)
    own = _flips_on(target, shared, gated)
    outcome = primary_outcome(own, direction)
    compared = controls if len(shared) else []  # without a shared problem there is nothing to rank on
    entries = {kind: [_control(arm, shared, gated, direction) for arm in chosen(compared, kind)] for kind in CONTROLS}
    ranks = {kind: rank_among(outcome, [entry["outcome"] for entry in items]) for kind, items in entries.items()}
    worse = max(CONTROLS, key=lambda kind: -1.0 if ranks[kind].p is None else ranks[kind].p or 0.0)
    return {
        "n_problems": len(shared),
        "all_problems": len(shared) == len(target.positions),
        "n_left_out": sum(len(arm.positions) - int(arm.on(shared).sum()) for arm in controls),
        "target": own.as_dict(),
        "outcome": outcome,
        "rank": ranks[worse].as_dict(),
        "rank_kind": worse,
        **{kind: {"rank": ranks[kind].as_dict(), "conditions": entries[kind]} for kind in CONTROLS},
    }


def by_difficulty(arm: SteeredArm) -> list[dict[str, Any]]:
    """Returns the flips of each group of cyclomatic complexity."""
    groups = difficulty_of(arm.complexity)
    return [{"group": name, **arm.flips(groups == name).as_dict()} for name in DIFFICULTY_GROUPS]


def failure_modes(arm: SteeredArm) -> dict[str, dict[str, int]]:
    """Counts how the steered solutions end, of the problems that failed before and of those that passed."""
    modes = np.array(arm.failure_modes, dtype=object)
    return {
        name: _counted(modes[rows].tolist())
        for name, rows in (("initially_failing", ~arm.baseline), ("initially_passing", arm.baseline))
    }


def noise_floor(arms: Sequence[SteeredArm]) -> dict[str, Any] | None:
    """Returns the flips of the zero-coefficient arm: what batching alone changes."""
    found = chosen(arms, ZERO)
    return found[0].flips().as_dict() if found else None


def selective_effects(
    arms: Sequence[SteeredArm], target: SteeredArm, direction: Direction, steered_tasks: Iterable[int]
) -> dict[str, Any]:
    """Returns the flips where only `steered_tasks` are steered and every other problem keeps its baseline.

    Rows are steered independently of each other, so this needs no generation of its own; the controls are steered on
    the same problems only.
    """
    wanted = frozenset(steered_tasks)
    steered = int(np.isin(target.task_ids, sorted(wanted)).sum())
    nothing = {0: "the predictor fires on no problem", len(target.task_ids): "the predictor fires on every problem"}
    return {
        "n_steered": steered,
        "n": len(target.task_ids),
        "note": nothing.get(steered),
        "effect": _flips_on(target, target.positions, wanted).as_dict(),
        "controls": control_effects(arms, target, direction, wanted),
    }


def survival(arm: SteeredArm) -> dict[str, Any]:
    """Returns the shares of solutions that still define the asked-for function, and with its signature."""
    n = len(arm.baseline)
    return {
        "defines_function": share(int(arm.defines_function.sum()), n).as_dict(),
        "keeps_signature": share(int(arm.keeps_signature.sum()), n).as_dict(),
    }


def _flips_on(arm: SteeredArm, positions: np.ndarray, steered_tasks: frozenset[int] | None) -> Flips:
    """Returns the flips at `positions`; of them only `steered_tasks` count as steered, if given."""
    inside = arm.on(positions)
    if steered_tasks is None:
        return arm.flips(inside)
    wanted = np.isin(arm.task_ids, sorted(steered_tasks))
    steered = np.where(wanted, arm.steered, arm.baseline)
    parsing = np.where(wanted, arm.parses, arm.baseline_parses)
    return flips(arm.baseline[inside], steered[inside], parsing[inside])


def _control(
    arm: SteeredArm, shared: np.ndarray, steered_tasks: frozenset[int] | None, direction: Direction
) -> dict[str, Any]:
    effect = _flips_on(arm, shared, steered_tasks)
    return {
        "condition": arm.condition["condition"],
        "feature_idx": arm.condition["feature_idx"],
        "draw": arm.condition["draw"],
        "outcome": primary_outcome(effect, direction),
        "left_out": arm.left_out,
        "stopped_at_limit": arm.stop_reasons.count("max_new_tokens"),
        "effect": effect.as_dict(),
    }


def _counted(modes: list[str]) -> dict[str, int]:
    counts = Counter(modes)
    return {mode: counts[mode] for mode in FAILURE_MODES if counts[mode]}


_COLUMNS = (
    *("condition", "kind", "direction", "layer", "feature_idx", "target_idx", "draw", "coefficient"),
    *("position", "task_id"),
    *("cyclomatic_complexity", "baseline_passed", "baseline_parses", "test_passed", "parses"),
    *("defines_function", "keeps_signature", "failure_mode", "stop_reason", "left_out"),
)


def _arm(rows: list[dict[str, Any]]) -> SteeredArm:
    used = [row for row in rows if row["left_out"] is None]
    return SteeredArm(
        condition={name: rows[0][name] for name in _COLUMNS[:8]},
        positions=np.array([row["position"] for row in used], dtype=np.int64),
        task_ids=np.array([row["task_id"] for row in used], dtype=np.int64),
        complexity=np.array([row["cyclomatic_complexity"] for row in used], dtype=np.int64),
        baseline=np.array([row["baseline_passed"] for row in used], dtype=bool),
        steered=np.array([row["test_passed"] for row in used], dtype=bool),
        parses=np.array([row["parses"] for row in used], dtype=bool),
        baseline_parses=np.array([row["baseline_parses"] for row in used], dtype=bool),
        defines_function=np.array([row["defines_function"] for row in used], dtype=bool),
        keeps_signature=np.array([row["keeps_signature"] for row in used], dtype=bool),
        failure_modes=[row["failure_mode"] for row in used],
        stop_reasons=[row["stop_reason"] for row in used],
        left_out=dict(Counter(row["left_out"] for row in rows if row["left_out"] is not None)),
    )
