"""`run.py status`: one line a phase."""

from __future__ import annotations

import argparse

from cli.console import say
from cli.parser import resolved_config
from common.runs.status import all_states


def status(parsed: argparse.Namespace) -> int:
    """Prints the state of every phase."""
    config = resolved_config(parsed).config
    say(f"profile {config.profile}, data directory {config.data_dir}")
    for state in all_states(config):
        say(state.line())
    return 0
