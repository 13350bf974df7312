"""`clean_data.py`: lists what phases wrote, asks, and deletes it; never a data set, a model or anything else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.console import say
from cli.main import exit_code
from cli.parser import EPILOG, Parser, resolved_config
from common.errors import UsageError
from common.runs.cleaning import Deletable, delete, find_deletable, refuse_running, strange_directories
from common.text_table import text_table
from experiment_pathway_token_analysis.src.standing import find_pathway_deletable, strange_pathway

_UNITS = ("B", "kB", "MB", "GB", "TB")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit_code(lambda: clean(build_parser().parse_args(list(arguments))))


def build_parser() -> argparse.ArgumentParser:
    """Returns the command's parser."""
    parser = Parser(
        prog="clean_data.py", description="Deletes what phases wrote, after listing it and asking.", epilog=EPILOG
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be deleted, delete nothing")
    parser.add_argument("--force", action="store_true", help="delete without asking")
    parser.add_argument("--superseded", action="store_true", help="only earlier outputs, which --fresh put aside")
    parser.add_argument("--profile", metavar="NAME", help="the profile whose data directory is meant")
    parser.add_argument("--data-dir", metavar="DIR", help="root of all phase directories")
    parser.add_argument("--full", action="store_true", help="the directory of the profile's runs without reductions")
    parser.add_argument("--set", action="append", metavar="FIELD=VALUE", help="any setting (see run.py show-config)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings")
    return parser


def clean(parsed: argparse.Namespace) -> int:
    """Lists, asks and deletes."""
    config = resolved_config(parsed).config
    if not Path(config.data_dir).is_dir():
        raise UsageError(f"{config.data_dir} is no directory, so there is nothing to delete; check --data-dir")
    found = [
        *find_deletable(config, superseded_only=parsed.superseded),
        *find_pathway_deletable(config, superseded_only=parsed.superseded),
    ]
    if not parsed.dry_run:
        _refuse(found, force=parsed.force)
    say(f"profile {config.profile}, data directory {config.data_dir}")
    strange = [*strange_directories(config), *strange_pathway(config)]
    for line in _listing(found, strange, superseded_only=parsed.superseded):
        say(line)
    if found and not parsed.dry_run and (parsed.force or _is_agreed(found)):
        for item in found:
            delete(item)
        say(f"deleted: {_total(found)}")
    elif found:
        say("nothing deleted")
    return 0


def _refuse(found: list[Deletable], *, force: bool) -> None:
    if not force and not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on, so nothing was deleted; add --force to delete without asking")
    refuse_running(found)


def _listing(found: list[Deletable], strange: list[Path], *, superseded_only: bool) -> list[str]:
    if superseded_only:
        rows = [(item.spec.id, item.spec.name, _size(item.size)) for item in found]
        header = ("phase", "name", "put aside")
    else:
        rows = [
            (item.spec.id, item.spec.name, item.state, _size(item.size), _size(item.superseded_size)) for item in found
        ]
        header = ("phase", "name", "state", "size", "of it put aside")
    lines = [text_table(rows, header)] if found else ["nothing to delete"]
    staying = [path for item in found for path in item.staying]
    lines += [f"stays: {path} ({_reason(path, 'nothing shows that a phase ran there')})" for path in strange]
    return lines + [f"stays: {path} ({_reason(path, 'no phase wrote it')})" for path in staying]


def _reason(path: Path, otherwise: str) -> str:
    return "a symbolic link" if path.is_symlink() else otherwise


def _is_agreed(found: list[Deletable]) -> bool:
    try:
        answer = input(f"delete {_total(found)}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _total(found: list[Deletable]) -> str:
    files = sum(len(item.files) for item in found)
    phases = "1 phase" if len(found) == 1 else f"{len(found)} phases"
    return f"{files:,} files of {phases}, {_size(sum(item.size for item in found))}"


def _size(count: float) -> str:
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"
