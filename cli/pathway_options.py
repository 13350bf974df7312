"""The options of `run.py pathway` that are its own, shared with the launcher of several workers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def range_options(command: argparse.ArgumentParser) -> None:
    """Adds what says which steps run."""
    command.add_argument("--from", dest="first", type=int, metavar="K", help="first step, 0 to 5 (default: 0)")
    command.add_argument("--to", dest="last", type=int, metavar="K", help="last step (default: 5)")
    study = command.add_mutually_exclusive_group()
    study.add_argument("--no-produce", action="store_true", help="take the patching study as it lies there")
    study.add_argument("--only-produce", action="store_true", help="make the patching study and run no step")
    command.add_argument("--strict", action="store_true", help="step 0: end with exit code 1 where there are warnings")
    command.add_argument("--fresh", action="store_true", help="run steps again though current; put earlier work aside")
    command.add_argument("--dry-run", action="store_true", help="say what would run, how large it is; write nothing")


def analysis_options(command: Any) -> None:
    """Adds, to a parser or a group of one, what each process of an analysis must be told alike."""
    command.add_argument("--limit", type=int, metavar="N", help="only the first N features or targets")
    command.add_argument("--force", action="store_true", help="go on past a step that did not pass")
    command.add_argument("--pathway-config", type=Path, metavar="FILE", help="another config.yaml")


def hidden_options(command: argparse.ArgumentParser) -> None:
    """Adds what the launcher of several workers asks of each process that it starts."""
    for position in ("--start", "--end"):
        command.add_argument(position, type=int, help=argparse.SUPPRESS)
    for mode in ("--worker", "--open", "--merge"):
        command.add_argument(mode, action="store_true", help=argparse.SUPPRESS)
    command.add_argument("--go-on", help=argparse.SUPPRESS)
