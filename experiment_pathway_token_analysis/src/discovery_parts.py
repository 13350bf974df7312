"""Step 3 in slices: what each process of `multi_gpu_launcher.py --phase pathway` does with it."""

from __future__ import annotations

from typing import Literal

from common.runs.artifacts import PhasePaths
from common.runs.merging import Opened
from common.runs.slice_records import remove_slice_records
from experiment_pathway_token_analysis.src.limits import refuse_part
from experiment_pathway_token_analysis.src.orchestrator import (
    DISCOVERY,
    forget_discovery,
    module_of,
    refuse_other_settings,
)
from experiment_pathway_token_analysis.src.steps import Run, is_current, refuse_unready, write_manifest

Mode = Literal["open", "work", "merge"]


def refuse_unready_discovery(run: Run) -> None:
    """Raises `UsageError` where what step 3 stands on has not passed, or was made under other settings."""
    refuse_unready(run, DISCOVERY)
    refuse_other_settings(run, DISCOVERY)


def discovery_part(
    run: Run, mode: Mode, start: int | None, end: int | None, *, fresh: bool = False, go_on: str | None = None
) -> Opened | None:
    """Opens step 3 (and returns what is left), works on targets `start` to `end`, or publishes what was made."""
    refuse_unready_discovery(run)
    if mode == "open" and not fresh:
        refuse_part(run, (DISCOVERY,), producing=False)
    discovery = module_of(DISCOVERY).Discovery(run, worker=mode == "work", computes_here=mode == "work", go_on=go_on)
    span = discovery.span(start, end)
    if mode == "open":
        if fresh and not run.dry_run:
            forget_discovery(run)
        opened: Opened = discovery.opened(span)
        # Other thresholds want other results, though no target has to be computed again.
        opened = opened._replace(due=opened.due or not is_current(run, DISCOVERY))
        if opened.due and not run.dry_run:
            run.paths.manifest(DISCOVERY).unlink(missing_ok=True)
        return opened
    if mode == "work":
        discovery.compute(span)
    else:
        write_manifest(run, DISCOVERY, discovery.publish())
        remove_slice_records(PhasePaths(run.paths.pathways))
    return None
