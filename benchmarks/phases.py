"""Phases on the bundled tiny model as benchmarks need them: made beforehand, configured, run in this process."""

from __future__ import annotations

from pathlib import Path

from cli.parser import build_parser, resolved_config
from common.config import Config
from common.errors import PipelineError

# What the phases before the one that is timed can do without.
LESS_WORK = ("phase2_2_texts=200", "phase2_5_permutations=100", "phase2_10_permutations=100", "capture_layers=all")


def prepare(directory: Path, last: str, *more: str) -> None:
    """Runs every phase up to `last` below `directory`; `more` are settings."""
    run("pipeline", "--profile", "organism", "--data-dir", str(directory), "--to", last, *settings(*LESS_WORK, *more))


def configuration(directory: Path, phase: str, *more: str) -> Config:
    """Returns the configuration of a phase below `directory`."""
    words = ["phase", phase, "--profile", "organism", "--data-dir", str(directory), *settings(*LESS_WORK, *more)]
    return resolved_config(build_parser().parse_args(words)).config


def settings(*given: str) -> list[str]:
    """Returns settings as words of a command line."""
    return [word for item in given for word in ("--set", item)]


def run(*words: str) -> None:
    """Runs one command in this process; raises `PipelineError` where it fails."""
    from cli.main import main

    if main(list(words)):
        raise PipelineError(f"run.py {' '.join(words)} failed")
