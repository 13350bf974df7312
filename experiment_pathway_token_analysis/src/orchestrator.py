"""Runs the producer and a contiguous range of steps: what is current is skipped, what is refused is refused first.

A step's module is imported when it is its turn, so that refusals and `--dry-run` load no torch. One lock keeps a second
run out of the same directory. A step that did not pass ends the run with its own exit code, unless `--force` goes on.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import OtherSettingsError, UsageError
from common.logging import add_log_file, capped_warnings, get_logger, remove_log_file
from common.runs.artifacts import PhasePaths
from common.runs.files import ensure_directory, read_json, sweep_temporaries, writing
from common.runs.locks import EVERYTHING, span_lock
from common.runs.slice_records import remove_slice_records
from experiment_pathway_token_analysis.src.limits import is_of_another_part, refuse_part
from experiment_pathway_token_analysis.src.room import OF_STEP, PRODUCER, require_room
from experiment_pathway_token_analysis.src.steps import (
    NAMES,
    NEEDS,
    Run,
    StepResult,
    changed_inputs,
    changed_settings,
    command,
    is_current,
    read_manifest,
    refuse_unready,
    standing_manifest,
    write_manifest,
)
from experiment_pathway_token_analysis.src.study_state import MADE_HERE, refuse_foreign_study, study_files, study_state

PACKAGE = "experiment_pathway_token_analysis.src"
MODULES = (
    "step0_data_audit",
    "step1_load_causal_features",
    "step2_pathway_prototype",
    "step3_pathway_discovery",
    "step4_token_association",
    "step5_integrate_results",
)
LAST_STEP = len(MODULES) - 1
SELECTION = 1  # the step that may select nothing, which is a result
DISCOVERY = 3  # the step that keeps finished work of its own
PRODUCING_MODULE = "experiment_pathway_token_analysis.make_patching_study"
_log = get_logger(__name__)


def step_range(first: int | None, last: int | None) -> range:
    """Returns the steps from `first` to `last`, both included; refuses numbers that are no steps, or reversed."""
    start, end = 0 if first is None else first, LAST_STEP if last is None else last
    for option, step in (("--from", start), ("--to", end)):
        if not 0 <= step <= LAST_STEP:
            names = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES))
            raise UsageError(f"{option} {step}: there is no such step; the steps are {names}")
    if start > end:
        raise UsageError(f"--from {start} comes after --to {end}: both are steps from 0, and both are included")
    return range(start, end + 1)


class Orchestrator:
    """Runs steps of one pathway analysis; `fresh` runs them though they are current, and puts earlier work aside."""

    def __init__(self, run: Run, *, fresh: bool = False) -> None:
        self.run, self.fresh = run, fresh

    def go(self, steps: Sequence[int], *, produce: bool = True) -> int:
        """Runs `steps`, the producer before them where their study wants it; returns the exit code."""
        self._refuse_first(steps, produce)
        with self._alone():
            if produce and wants_study(self.run, steps):
                self._make_study()
            code = 0
            for step in steps:
                if step > SELECTION and not selected_features(self.run):
                    _log.info("no feature is selected: there is nothing for steps %d to %d to work on", step, steps[-1])
                    break
                code = self._step(step) or code
                if code and not self.run.force:
                    break
        return code

    def only_produce(self) -> None:
        """Makes the study and runs no step."""
        if self.run.settings.study.kind != MADE_HERE:
            raise UsageError(f"study.kind = {self.run.settings.study.kind!r}: only a study of {MADE_HERE} is made here")
        if not self.fresh:
            refuse_part(self.run, (), producing=True)
        with self._alone():
            self._make_study()

    def _make_study(self) -> None:
        """Makes the study, or goes on with it, where it is missing or stale."""
        state = study_state(self.run)
        if state.current and not self.fresh:
            _log.info("patching study: complete and current")
            return
        if state.changed and not self.fresh:
            raise OtherSettingsError(
                f"{self.run.study_root} holds a study made under other settings ({'; '.join(state.changed)}); use "
                "--fresh to put it aside and start again, --no-produce to go on with it, or another --data-dir"
            )
        refuse_foreign_study(self.run)
        require_room(self.run, [PRODUCER])
        _log.info("patching study: %s", state.why)
        importlib.import_module(PRODUCING_MODULE).make_study(self.run, fresh=self.fresh or state.outdated)

    def _refuse_first(self, steps: Sequence[int], produce: bool) -> None:
        """Raises `UsageError` for what is known to be missing before anything is done."""
        refuse_layers(self.run)
        if not (self.fresh or self.run.force):
            refuse_other_profile(self.run)
        if not self.fresh:
            refuse_part(self.run, steps, producing=produce and wants_study(self.run, steps))
        if steps[0] > 0:
            refuse_unready(self.run, steps[0])
            refuse_other_settings(self.run, steps[0])
        elif not (produce and wants_study(self.run, steps)) and not study_files(self.run):
            raise UsageError(missing_study(self.run))
        require_room(self.run, works_of(self.run, steps))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the directory, and keeps a log in it."""
        paths = self.run.paths
        ensure_directory(paths.logs)
        sweep_temporaries(paths.root)
        with span_lock(paths.locks, EVERYTHING):
            log = paths.logs / "pathway.log"
            with writing(paths.logs):
                handler = add_log_file(log)
            try:
                with capped_warnings(self.run.settings.study.console_warnings, log):
                    yield
            finally:
                remove_log_file(handler)

    def _step(self, step: int) -> int:
        """Runs one step where it is not current; returns its exit code."""
        refuse_unready(self.run, step)
        if not self.fresh and step_is_current(self.run, step):
            _log.info("step %d (%s): complete and current", step, NAMES[step])
            return 0
        started = time.monotonic()
        _log.info("step %d (%s)", step, NAMES[step])
        is_stale = bool(changed_inputs(self.run, step)) or is_of_another_part(self.run, step)
        with writing(self.run.paths.manifest(step)):
            self.run.paths.manifest(step).unlink(missing_ok=True)  # a step that fails midway has not passed
        result = self._discovered(is_stale) if step == DISCOVERY else module_of(step).run_step(self.run)
        write_manifest(self.run, step, result)
        how = "passed" if result.passed else "did not pass"
        _log.info("step %d: %s in %.1f s: %s", step, how, time.monotonic() - started, result.message)
        return result.exit_code or (0 if result.passed else 1)

    def _discovered(self, is_stale: bool) -> StepResult:
        """Runs the step that keeps finished work; what was made of other inputs, or is to be made anew, goes first."""
        module = module_of(DISCOVERY)
        if self.fresh:
            forget_discovery(self.run)
        try:
            result = module.run_step(self.run)
        except OtherSettingsError as error:
            if not is_stale:
                held, _, _ = str(error).partition("; use --fresh")
                again = f"{command(self.run)} --from {DISCOVERY} --fresh"
                raise OtherSettingsError(
                    f"{held}; to put them aside and compute anew, add --from {DISCOVERY} --fresh "
                    f"({again}), or use another --data-dir"
                ) from None
            _log.warning("step %d: what it reads, or how much, has changed, so it starts again: %s", DISCOVERY, error)
            forget_discovery(self.run)
            result = module.run_step(self.run)
        remove_slice_records(PhasePaths(self.run.paths.pathways))
        return result


def module_of(step: int) -> Any:
    """Imports and returns a step's module (this is where torch comes in, for steps that need it)."""
    return importlib.import_module(f"{PACKAGE}.{MODULES[step]}")


def forget_discovery(run: Run) -> None:
    """Puts the finished targets of step 3 aside, and drops what workers said of them."""
    module_of(DISCOVERY).Discovery(run, computes_here=False).set_aside()
    remove_slice_records(PhasePaths(run.paths.pathways))


def refuse_other_profile(run: Run) -> None:
    """Raises `UsageError` where steps of another profile have run in the directory: theirs would be overwritten."""
    for step in range(LAST_STEP + 1):
        manifest = standing_manifest(run, step)
        if manifest is not None and manifest["profile"] != run.profile.name:
            raise UsageError(
                f"{run.paths.root} holds an analysis of profile {manifest['profile']}, this is {run.profile.name}; use "
                "another --data-dir, or --fresh to write over it"
            )


def refuse_layers(run: Run) -> None:
    """Raises `UsageError` where features are to be selected from layers that the model does not have."""
    first, n_layers = run.settings.selection.first_layer, run.profile.n_layers
    for name, layer in (("first_layer", first), ("last_layer", run.selected_layers.stop - 1)):
        if layer >= n_layers:
            raise UsageError(f"selection.{name} = {layer}: {run.profile.name} has layers 0 to {n_layers - 1}")
    if not run.selected_layers:
        raise UsageError(f"selection.first_layer = {first} comes after the last layer, {run.selected_layers.stop - 1}")


def wants_study(run: Run, steps: Sequence[int]) -> bool:
    """Returns whether steps read a study that is to be made here."""
    return bool(steps) and steps[0] == 0 and run.settings.study.kind == MADE_HERE


def works_of(run: Run, steps: Sequence[int]) -> list[str]:
    """Returns which of `steps` will load the model: those that do so at all and are not current."""
    return [OF_STEP[step] for step in steps if step in OF_STEP and not step_is_current(run, step)]


def step_is_current(run: Run, step: int) -> bool:
    """Returns whether a step need not run: it has passed on today's settings and files, the study's included."""
    if step == 0 and (run.strict or not _reads_every_study_file(run)):
        return False
    return is_current(run, step)


def _reads_every_study_file(run: Run) -> bool:
    """Returns whether step 0's manifest names every file that the study now has: new ones are found by name."""
    manifest = standing_manifest(run, 0)
    if manifest is None:
        return False
    named = {run.paths.root / name for name in manifest["inputs"]}
    return set(study_files(run)) <= named


def selected_features(run: Run) -> int:
    """Returns how many features step 1 selected; one at least where it has not run, which is refused elsewhere."""
    path = run.paths.causal_features
    return len(read_json(path)["features"]) if path.is_file() else 1


def refuse_other_settings(run: Run, step: int) -> None:
    """Raises `UsageError` where a step that this one stands on was made under other settings, or of a part only."""
    for needed in sorted(_stands_on(step)):
        manifest = None if run.force else read_manifest(run, needed)
        if manifest is None:
            continue
        changed = changed_settings(run, needed, manifest)
        if manifest["limit"] is not None and manifest["limit"] != run.limit:
            changed.append(f"--limit {manifest['limit']}")
        of = "under other settings"
        if not changed and needed:  # the study's own files may be gone: its audit stays valid
            of, changed = "of other files", changed_inputs(run, needed)
        if changed:
            raise UsageError(
                f"step {step} stands on step {needed} ({NAMES[needed]}), which was made {of} "
                f"({', '.join(changed)}); run: {command(run)} --from {needed}, or go on all the same with --force"
            )


def _stands_on(step: int) -> set[int]:
    return set(NEEDS[step]).union(*(_stands_on(needed) for needed in NEEDS[step]))


def missing_study(run: Run) -> str:
    """Returns in one line that there is no study to read, and how to come by one."""
    study = run.settings.study
    found = f"no file {study.checkpoints} or {study.response_logs} lies in {run.study_root}"
    if study.kind == "program_validity":
        return f"{found}; leave --no-produce out to make the study"
    return f"{found}; put the patching study there, or name its place with --set study.directory=DIR"


def command_given(run: Run) -> str:
    """Returns the command that goes on with this run: the one it was started with, but for `--fresh`."""
    if Path(sys.argv[0]).name in ("run.py", "multi_gpu_launcher.py"):
        words = (word for word in sys.argv[1:] if word != "--fresh")
        return shlex.join(["python3", Path(sys.argv[0]).name, *words])
    return command(run)
