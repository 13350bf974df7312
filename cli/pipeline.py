"""`run.py pipeline`: every phase in order, skipping what is complete and current."""

from __future__ import annotations

import argparse
import importlib
import shlex
import time
from dataclasses import replace
from itertools import takewhile

from cli.console import say
from cli.parser import resolved_config, run_options
from cli.phase import run_phase
from common.config import Config
from common.errors import OtherSettingsError, UsageError
from common.logging import get_logger
from common.phases import PHASES, PhaseSpec, get_phase
from common.runs.artifacts import PhasePaths
from common.runs.discovery import run_command
from common.runs.metadata import read_record
from common.runs.options import RunOptions
from common.runs.status import COMPLETE, STALE, PhaseState, all_states

_log = get_logger(__name__)


def pipeline(parsed: argparse.Namespace) -> int:
    """Runs the phases from `--from` to `--to`."""
    resolved = resolved_config(parsed)
    options = run_options(parsed, resolved)
    chosen = between(parsed.first, parsed.last)
    started = time.monotonic()
    for spec in chosen:
        if getattr(resolved.config, spec.model_field) is None:
            _log.warning("phase %s (%s): skipped, the profile names no instruction-tuned model", spec.id, spec.name)
        else:
            _run_one(spec, resolved.config, options)
    _log.info("pipeline: %d phases in %.0f s", len(chosen), time.monotonic() - started)
    step = resolved.profile.closing_step
    if step and chosen[-1] is PHASES[-1]:
        module, _, name = step.partition(":")
        getattr(importlib.import_module(module), name)(resolved.config)
    if parsed.summary:
        from cli.summary import summary

        say(summary(resolved.config))
    if parsed.report:
        from cli.report import write_report

        return write_report(resolved.config, None, open_it=True)
    return 0


def between(first: str | None, last: str | None) -> list[PhaseSpec]:
    """Returns the phases from `first` to `last`, both included, in dependency order."""
    start = PHASES.index(get_phase(first)) if first else 0
    end = PHASES.index(get_phase(last)) if last else len(PHASES) - 1
    if start > end:
        raise UsageError(f"--from {first} comes after --to {last}; the order is {', '.join(s.id for s in PHASES)}")
    return list(PHASES[start : end + 1])


def _run_one(spec: PhaseSpec, config: Config, options: RunOptions) -> None:
    state = _state_of(spec, config)
    if state.state == COMPLETE and not state.has_other_settings:
        _log.info("phase %s (%s): complete and current", spec.id, spec.name)
        return
    _log.info("phase %s (%s): %s", spec.id, spec.name, state.state if not state.why else f"{state.state}, {state.why}")
    given = _given_by_hand(spec, config)
    if given:
        _log.warning("phase %s was made with %s, which pipeline does not repeat: give it to the phase", spec.id, given)
    try:
        run_phase(spec, config, options)
    except OtherSettingsError as error:
        if state.state != STALE:
            cure = (
                f"to replace them: {run_command(config, spec.id)} --fresh; to keep them, give pipeline their settings"
            )
            raise OtherSettingsError(f"{error}; {cure}") from None
        _log.warning("phase %s: its input has changed, so what it had made is put aside: %s", spec.id, error)
        run_phase(spec, config, replace(options, fresh=True))


def _given_by_hand(spec: PhaseSpec, config: Config) -> str:
    """Returns the features that the standing output of a phase was made with, where a person had named them."""
    record = read_record(PhasePaths(config.phase_dir(spec.id)))
    words = shlex.split(record["command"]) if record and spec.takes_features else []
    if "--feature" not in words:
        return ""
    rest = words[words.index("--feature") + 1 :]
    return shlex.join(["--feature", *takewhile(lambda word: not word.startswith("-"), rest)])


def _state_of(spec: PhaseSpec, config: Config) -> PhaseState:
    return next(state for state in all_states(config) if state.spec is spec)
