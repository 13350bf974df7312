"""What a generating phase says of itself: figures for its record, lines for the log, and whether too much failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from common.config import Config
from common.errors import PipelineError
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.metadata import Extent
from common_simplified.generation_files import ArmTables

_log = get_logger(__name__)


def excluded_tasks(tables: Mapping[str, ArmTables]) -> set[int]:
    """Returns the problems that were given up in any arm."""
    found: set[int] = set()
    for generated, _ in tables.values():
        pairs = zip(generated["task_id"].to_pylist(), generated["excluded_reason"].to_pylist(), strict=True)
        found |= {task for task, why in pairs if why is not None}
    return found


def arm_summary(tables: ArmTables) -> dict[str, Any]:
    """Returns an arm's counts: judged, passed, outcomes, why rows stopped, rungs, the smallest batch that worked."""
    labels = [label for label in tables.evaluated["test_passed"].to_pylist() if label is not None]
    return {
        "judged": len(labels),
        "passed": sum(labels),
        "pass_rate": sum(labels) / len(labels) if labels else None,
        "outcomes": counted(tables.evaluated["outcome"].to_pylist()),
        "stop_reasons": counted(tables.generated["stop_reason"].to_pylist()),
        "sandbox_rungs": sorted({rung for rung in tables.evaluated["sandbox_rung"].to_pylist() if rung is not None}),
        "smallest_batch": min(tables.generated["batch_rows"].to_pylist()),
    }


def log_arms(phase: str, extent: Extent, tables: Mapping[str, ArmTables]) -> None:
    """Logs how many solutions of each arm pass."""
    for name, item in tables.items():
        found = arm_summary(item)
        _log.info(
            "phase %s %s: %d of %d problems, %d of %d solutions pass (%.1f %%), %d stopped at the token limit",
            *(phase, name, extent.done, extent.expected, found["passed"], found["judged"]),
            *(100 * (found["pass_rate"] or 0), found["stop_reasons"].get("max_new_tokens", 0)),
        )


def refuse_exclusions(phase: str, failed: int, done: int, unit: str, config: Config, paths: PhasePaths) -> None:
    """Says how much was given up; raises `PipelineError` where that is a larger share of `done` than may be."""
    if not failed:
        return
    share = failed / max(done, 1)
    _log.warning("%d of %d %s excluded (%.1f %%), see %s", failed, done, unit, 100 * share, paths.excluded)
    if share > config.max_excluded_share:
        raise PipelineError(
            f"phase {phase} gave up {failed} of {done} {unit} ({share:.1%}, allowed {config.max_excluded_share:.1%}), "
            f"see {paths.excluded}; all is saved, --fresh tries again"
        )


def counted(values: Iterable[Any]) -> dict[str, int]:
    """Returns how often each value but None occurs, by name."""
    return dict(sorted(Counter(value for value in values if value is not None).items()))
