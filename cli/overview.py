"""`run.py` without a command: the help."""

from __future__ import annotations

import argparse


def overview(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    """Prints the help; nothing was asked for, so the exit code is 2."""
    from cli.parser import build_parser

    build_parser().print_help()
    return 2
