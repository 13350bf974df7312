"""`--limit` where everything has been done before: a part would take its place, so it is refused with what to do."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import UsageError
from common.runs.files import read_json
from experiment_pathway_token_analysis.src.steps import NAMES, PASSED, Run, standing_manifest
from experiment_pathway_token_analysis.src.study_state import study_record_found

_FIRST = 3  # the first step whose results `--limit` shortens; those before it are made in seconds


def refuse_part(run: Run, steps: Sequence[int], *, producing: bool) -> None:
    """Raises `UsageError` where `--limit` would leave a part of a whole study (`producing`) or of `steps`' results."""
    if run.limit is None:
        return
    record = study_record_found(run) if producing else None
    if record is not None and record["published_under"]["limit"] is None:
        n_features = record["found"]["n_features"]
        if run.limit < n_features:
            raise UsageError(
                f"{run.study_root} holds a study of all {n_features} features, and --limit {run.limit} would leave a "
                "part of it; leave --limit out, read the study as it is with --no-produce, start again with --fresh, "
                "or use another --data-dir"
            )
    whole = [step for step in steps if step >= _FIRST and _is_of_everything(run, step)]
    if whole:
        raise UsageError(
            f"{run.paths.results} holds what step {whole[0]} ({NAMES[whole[0]]}) found for all {_selected(run)} "
            f"features, and --limit {run.limit} would write over it; leave --limit out, start again with --fresh, or "
            "use another --data-dir"
        )


def is_of_another_part(run: Run, step: int) -> bool:
    """Returns whether a step's results are of a part, and another part (or everything) is wanted now."""
    manifest = standing_manifest(run, step)
    return manifest is not None and manifest["limit"] not in (None, run.limit)


def _is_of_everything(run: Run, step: int) -> bool:
    """Returns whether a step's results stand for more features than the limit lets through."""
    manifest = standing_manifest(run, step)
    if manifest is None or manifest["status"] != PASSED or manifest["limit"] is not None:
        return False
    assert run.limit is not None
    return run.limit < _selected(run)


def _selected(run: Run) -> int:
    path = run.paths.causal_features
    return len(read_json(path)["features"]) if path.is_file() else 0
