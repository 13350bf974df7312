"""`--dry-run`: what each step would do, how large it is, what it needs, and what stands in the way; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from common.capacity import BYTES_PER_GB, visible_gpus
from common.errors import PipelineError, UsageError
from common.needs import planned_place
from common.text_table import text_table
from experiment_pathway_token_analysis.src import estimates, room
from experiment_pathway_token_analysis.src.estimates import CPU, GPU
from experiment_pathway_token_analysis.src.limits import refuse_part
from experiment_pathway_token_analysis.src.orchestrator import (
    missing_study,
    refuse_layers,
    step_is_current,
    wants_study,
    works_of,
)
from experiment_pathway_token_analysis.src.steps import NAMES, NEEDS, Run
from experiment_pathway_token_analysis.src.study_state import refuse_foreign_study, study_files, study_state

HEADER = ("step", "name", "would", "size", "memory", "on a GPU", "on a CPU")
_LITTLE = "< 1 GB"


def describe(run: Run, steps: Sequence[int], *, produce: bool) -> str:
    """Returns what running `steps` would do, as a table with notes; `steps` may be empty: the producer alone."""
    making = produce and (wants_study(run, steps) or not steps)
    rows = [_study_row(run)] if making else []
    willing = {step: _would(run, step, steps, making) for step in steps}
    rows += [(str(step), NAMES[step], willing[step], *_size(run, step)) for step in steps]
    return "\n".join([_heading(run), text_table(rows, HEADER), *_notes(run, steps, making)])


def blocks(run: Run, steps: Sequence[int], *, produce: bool) -> list[str]:
    """Returns what stands in the way of running `steps`, one line each."""
    found, works = [], works_of(run, steps)
    making = produce and (wants_study(run, steps) or not steps)
    if making:
        try:
            if not study_state(run).current:
                works.insert(0, room.PRODUCER)
                refuse_foreign_study(run)
        except UsageError as error:
            found.append(str(error))
    elif steps and steps[0] == 0 and not study_files(run):
        found.append(missing_study(run))
    if any(step in (2, 3) for step in steps) and not making and not run.paths.prompts.is_file():
        found.append(
            f"{run.paths.prompts} is missing: steps 2 and 3 read their prompts from it; write it (docs/pathway.md)"
        )
    found += room.lines_of(run, works)
    for refuse in (refuse_layers, partial(refuse_part, steps=steps, producing=making)):
        try:
            refuse(run)
        except UsageError as error:
            found.append(str(error))
    return found


def _heading(run: Run) -> str:
    study = run.settings.study
    return f"profile {run.profile.name}, study {study.kind} in {run.study_root}, results in {run.paths.root}"


def _notes(run: Run, steps: Sequence[int], making: bool) -> list[str]:
    sizes = estimates.sizes_of(run)
    how = "as selected" if sizes.known else "at most"
    notes = []
    if any(step in (2, 3) for step in steps) or making:
        place = planned_place(run.config, visible_gpus())
        where = "memory of the GPU" if place.kind == "cuda" else "RAM"
        notes.append(f"memory: {where} at the peak, with {place.itemsize} bytes a number, on {place.kind}")
        notes.append(
            f"times: {GPU.name}, {CPU.name}, prompts of {estimates.TOKENS_A_PROMPT} tokens; they say hours or days, "
            "not minutes"
        )
    if 3 in steps:
        notes.append(
            f"step 3, {how}: {sizes.targets:,} targets, {sizes.prompts} prompts, {sizes.edges:,} edges replayed"
        )
    return notes


def _study_row(run: Run) -> tuple[str, ...]:
    try:
        state = study_state(run)
        would = "be skipped (complete and current)" if state.current else f"be made ({state.why})"
    except PipelineError:
        would = "be made"
    count = estimates.producer_solutions(run)
    times = (estimates.in_words(estimates.producer_seconds(run, speed)) for speed in (GPU, CPU))
    return ("", "patching study", would, f"at most {count:,} solutions", _memory(run, room.PRODUCER), *times)


def _would(run: Run, step: int, steps: Sequence[int], making: bool) -> str:
    if making and step == 0 and not study_files(run):
        return "run, on the study made before"
    if step_is_current(run, step):
        return "be skipped (complete and current)"
    waits = [needed for needed in NEEDS[step] if needed not in steps and not run.paths.manifest(needed).is_file()]
    return f"be refused: step {waits[0]} has not run" if waits else "run"


def _size(run: Run, step: int) -> tuple[str, str, str, str]:
    sizes = estimates.sizes_of(run)
    if step in (2, 3):
        seconds = estimates.prototype_seconds if step == 2 else estimates.discovery_seconds
        what = "one feature" if step == 2 else f"{sizes.targets:,} targets, {sizes.edges:,} edges"
        times = (estimates.in_words(seconds(run, sizes, speed)) for speed in (GPU, CPU))
        return (what, _memory(run, room.OF_STEP[step]), *times)  # type: ignore[return-value]
    if step == 0:
        time = estimates.in_words(_study_bytes(run) / estimates.AUDIT_BYTES_A_SECOND)
        return _study_size(run), _LITTLE, "", time
    seconds = sizes.targets * estimates.TOKEN_SECONDS_A_FEATURE if step == 4 else 1.0
    return f"{sizes.targets:,} features", _LITTLE, "", estimates.in_words(seconds)


def _memory(run: Run, work: str) -> str:
    need = room.need_of(run, work, planned_place(run.config, visible_gpus()))
    peak = 0.0 if need is None else (need.gpu or need.ram) / BYTES_PER_GB
    return "unknown" if need is None else _LITTLE if peak < 1 else f"{peak:.1f} GB"


def _study_size(run: Run) -> str:
    study, found = run.settings.study, study_files(run)
    if found:
        return f"{len(found)} files, {_study_bytes(run) / 1e6:,.0f} MB"
    if study.expected_checkpoints is not None:
        return f"{study.expected_checkpoints} checkpoints, {study.expected_response_logs} logs expected"
    return "the study"


def _study_bytes(run: Run) -> float:
    """Returns the size of the study, an expected one's where it is not there."""
    found = study_files(run)
    if not found:
        return (run.settings.study.expected_response_logs or 0) * estimates.EXPECTED_LOG_BYTES
    return float(sum(path.stat().st_size for path in found))
