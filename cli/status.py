"""`run.py status`: one line a phase, and one about the pathway analysis."""

from __future__ import annotations

import argparse

from cli.console import say
from cli.parser import resolved_config
from common.runs.status import all_states
from experiment_pathway_token_analysis.src.standing import state_line


def status(parsed: argparse.Namespace) -> int:
    """Prints the state of every phase, and of the pathway analysis."""
    config = resolved_config(parsed).config
    say(f"profile {config.profile}, data directory {config.data_dir}")
    for state in all_states(config):
        say(state.line())
    say(state_line(config))
    return 0
