"""`run.py report`: one self-contained page from whatever phases are complete."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from cli.console import say
from cli.parser import resolved_config
from common.config import Config
from common.errors import UsageError
from common.runs.artifacts import REPORT
from common.runs.discovery import bundled_hint, command_line
from common.runs.files import write_bytes
from report.build import Report, build
from report.run import Run


def report(parsed: argparse.Namespace) -> int:
    """Writes the report; returns 1 where a damaged file kept a part of it from being shown."""
    return write_report(resolved_config(parsed).config, parsed.out, open_it=parsed.open)


def write_report(config: Config, out: Path | None, *, open_it: bool) -> int:
    """Writes a configuration's report to `out` (by default into its data directory), says where, and opens it."""
    path = out or Path(config.data_dir) / REPORT
    if path.is_dir():
        raise UsageError(f"--out {path} is a directory; name a file, such as {path / REPORT}")
    run = Run(config)
    if run.is_empty:
        cure = command_line(config, "pipeline") + bundled_hint(config)
        raise UsageError(f"{config.data_dir} holds no run; run: {cure}")
    made = build(run)
    size = len(data := made.html.encode("utf-8"))
    write_bytes(path, data)
    say(f"{path}: {size / 1e6:.1f} MB, {made.sections} sections")
    _say_what_lacks(made)
    if open_it:
        _open(path)
    return 1 if made.damaged else 0


def _say_what_lacks(made: Report) -> None:
    for gap in made.gaps:
        say(f"not complete: {gap.phase}: {gap.what} To fill it: {gap.command}")
    for damage in made.damaged:
        say(f"not shown: {damage}")


def _open(path: Path) -> None:
    if not has_display() or not webbrowser.open(path.resolve().as_uri()):
        say(f"no browser could be opened here; open it yourself: {path.resolve()}")


def has_display() -> bool:
    """Says whether a window can be opened here."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
