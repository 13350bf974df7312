"""`run.py show-config`: every setting, its value, and where the value came from."""

from __future__ import annotations

import argparse
from dataclasses import fields

from cli.console import say
from cli.parser import resolved_config
from common.config import show
from common.text_table import text_table


def show_config(parsed: argparse.Namespace) -> int:
    """Prints the resolved configuration."""
    resolved = resolved_config(parsed)
    rows = [
        (item.name, show(getattr(resolved.config, item.name)), resolved.sources[item.name], item.metadata["doc"])
        for item in fields(resolved.config)
    ]
    say(text_table(rows, ("setting", "value", "from", "meaning")))
    return 0
