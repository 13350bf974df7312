"""The launcher's command line: which phase, on which devices, by which engine."""

from __future__ import annotations

import argparse
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cli.console import say
from cli.main import exit_code
from cli.parser import resolved_config, run_options
from cli.phase import refuse_unusable
from common.config import Config
from common.errors import UsageError
from common.logging import get_logger, setup_console
from common.phases import OLDER_NUMBERS, PATHWAY, PhaseSpec, get_phase
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest, polite_stop
from common.runs.labelling import check_sandbox
from launcher.arguments import ENGINES, Commands, build_parser, refuse_options_of_others
from launcher.devices import alone
from launcher.engine import Device, Place
from launcher.launch import Launch, works_of
from launcher.slurm import cancel_array
from launcher.slurm_options import cut_off, slurm_options
from launcher.slurm_script import how_to_use, write_script
from launcher.steps import StepFailed, Steps

_log = get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Runs the launcher; returns the exit code."""
    return exit_code(lambda: _answer(arguments))


def _answer(arguments: Sequence[str]) -> int:
    parsed = build_parser().parse_args(list(arguments))
    setup_console(verbose=parsed.verbose)
    refuse_options_of_others(parsed)
    spec, config, paths = _discovery(parsed) if parsed.phase == PATHWAY.id else _phase(parsed)
    _refuse_other_engines_options(parsed)
    devices = ENGINES[parsed.engine].devices(parsed, config)
    with _stopping() as stop:
        try:
            return _run(spec, parsed, config, paths, devices, stop)
        except StepFailed as failed:  # it has said why
            return failed.exit_code


def _phase(parsed: argparse.Namespace) -> tuple[PhaseSpec, Config, PhasePaths]:
    """Returns the phase that is asked for, its configuration and its place; refuses what can be refused."""
    spec, resolved = get_phase(parsed.phase), resolved_config(parsed)
    refuse_unusable(spec, resolved.config, run_options(parsed, resolved))
    if parsed.phase in OLDER_NUMBERS and parsed.phase != "1":
        _log.info("phase %s is today's phase %s: running that", parsed.phase, spec.id)
    return spec, resolved.config, PhasePaths(resolved.config.phase_dir(spec.id))


def _discovery(parsed: argparse.Namespace) -> tuple[PhaseSpec, Config, PhasePaths]:
    """Returns step 3 of the pathway analysis in the same way."""
    from cli.pathway import ready_for_discovery

    run = ready_for_discovery(parsed)
    return PATHWAY, run.config, PhasePaths(run.paths.pathways)


def _run(
    spec: PhaseSpec,
    parsed: argparse.Namespace,
    config: Config,
    paths: PhasePaths,
    devices: Sequence[Device],
    stop: StopRequest,
) -> int:
    commands = Commands(spec, parsed)
    steps = Steps(alone(devices[0]), stop, commands.go_on)
    if not spec.sliceable:
        _log.info("phase %s works on all problems at once: one process on %s", spec.id, devices[0].name)
        steps.run(commands.whole(devices[0].option))
        return 0
    if commands.on_this_machine and spec.split is not None:
        check_sandbox(config)
    if parsed.dry_run:
        opened = steps.open(commands.opening(devices[0].option))
        for work, device in zip(works_of(opened, commands, devices, paths, config), devices, strict=False):
            say(f"positions {work.span.start} to {work.span.end} on {device.name}")
        return 0
    if parsed.cancel:
        say(cancel_array(paths))
        return 0
    if parsed.script_only:
        return _write_script(parsed, config, devices, commands, paths, steps)
    engine = ENGINES[parsed.engine].build(parsed, Place(spec.id, paths.root, devices))
    Launch(commands, config, devices, engine, paths, steps, stop).run()
    return 0


def _write_script(
    parsed: argparse.Namespace,
    config: Config,
    devices: Sequence[Device],
    commands: Commands,
    paths: PhasePaths,
    steps: Steps,
) -> int:
    opened = steps.open(commands.opening(devices[0].option))
    works = works_of(opened, commands, devices, paths, config)
    if not works:
        say(f"phase {opened.phase}: nothing is left to compute; to publish it: {_merge(commands, devices)}")
        return 0
    merge = _merge(commands, devices)
    say(how_to_use(write_script(paths, opened.phase, works, slurm_options(parsed), merge), merge))
    return 0


def _merge(commands: Commands, devices: Sequence[Device]) -> str:
    return shlex.join(commands.merging(devices[0].option))


def _refuse_other_engines_options(parsed: argparse.Namespace) -> None:
    if parsed.engine != "slurm" and (given := cut_off(parsed)):
        raise UsageError(f"{', '.join(given)}: for --engine slurm only; leave out, or name that engine")
    given = [f"--{name}" for name in ("gpus", "devices") if parsed.engine != "local" and getattr(parsed, name)]
    if given:
        raise UsageError(f"{', '.join(given)}: for --engine local only; leave out, or name that engine")


@contextmanager
def _stopping() -> Iterator[StopRequest]:
    """Handles Ctrl-C, SIGTERM and a closed terminal as requests to stop; the second one ends at once."""
    with polite_stop() as stop:
        before = signal.getsignal(signal.SIGHUP)
        if before == signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, stop.handle)
        try:
            yield stop
        finally:
            signal.signal(signal.SIGHUP, before)
