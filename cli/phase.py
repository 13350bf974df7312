"""`run.py phase N`: one phase."""

from __future__ import annotations

import argparse

from cli.console import say
from cli.parser import resolved_config, run_options
from common.config import Config
from common.errors import UsageError
from common.logging import get_logger
from common.phases import OLDER_NUMBERS, PhaseSpec, get_phase
from common.runs.discovery import find_output
from common.runs.files import canonical_json
from common.runs.options import RunOptions
from common.runs.phase_runner import PhaseRunner

_log = get_logger(__name__)


def phase(parsed: argparse.Namespace) -> int:
    """Runs one phase."""
    spec = get_phase(parsed.phase)
    if parsed.phase in OLDER_NUMBERS and parsed.phase != "1":
        _log.info("phase %s is today's phase %s: running that", parsed.phase, spec.id)
    resolved = resolved_config(parsed)
    runner = run_phase(spec, resolved.config, run_options(parsed, resolved))
    if runner.opened is not None:
        say(canonical_json(runner.opened._asdict()))
    return 0


def run_phase(spec: PhaseSpec, config: Config, options: RunOptions) -> PhaseRunner:
    """Refuses what can be refused without loading anything, then imports the phase's runner, runs and returns it."""
    refuse_unusable(spec, config, options)
    runner: PhaseRunner = spec.runner_class()(config, options)
    runner.run()
    return runner


def refuse_unusable(spec: PhaseSpec, config: Config, options: RunOptions) -> None:
    """Raises `UsageError` for options that mean nothing to the phase, and for inputs that are not there."""
    in_slices = options.worker or options.open
    if not spec.sliceable and (options.start is not None or options.end is not None or in_slices):
        raise UsageError(f"phase {spec.id} works on all problems at once: leave --start and --end out")
    if options.split is not None and options.split not in spec.splits:
        known = f"it knows {', '.join(spec.splits)}" if spec.splits else "it works on one split: leave --split out"
        raise UsageError(f"--split {options.split} is nothing that phase {spec.id} can work on; {known}")
    if options.features and not spec.takes_features:
        raise UsageError(f"phase {spec.id} uses no feature: leave --feature out")
    if options.select and not spec.takes_selection:
        raise UsageError(f"phase {spec.id} chooses no coefficient: leave --select out")
    for read in spec.reads:
        if not any(item.phase in (None, read) for item in options.inputs):
            find_output(config, options, read, spec.id)
