"""`run.py organism train`: another instance of the bundled tiny model."""

from __future__ import annotations

import argparse

from cli.console import say
from common.errors import UsageError


def train(parsed: argparse.Namespace) -> int:
    """Makes problems, tokenizer, models and SAEs from a seed."""
    if parsed.out.exists() and any(parsed.out.iterdir()):
        raise UsageError(f"--out {parsed.out} is not empty; give a new directory")
    if parsed.steps is not None and parsed.steps < 1:
        raise UsageError(f"--steps {parsed.steps}: give a positive number")
    from organism.build import build_instance

    steps = {} if parsed.steps is None else {"steps": parsed.steps}
    build_instance(parsed.seed, parsed.out, log=say, **steps)
    return 0
