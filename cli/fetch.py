"""`run.py fetch`: everything a profile needs, into the hub's cache, for a machine that has network."""

from __future__ import annotations

import argparse

from cli.console import say
from cli.parser import resolved_config


def fetch(parsed: argparse.Namespace) -> int:
    """Downloads the profile's model, SAEs and data, their sizes and licences stated first."""
    from common.hub import fetch_profile

    fetch_profile(resolved_config(parsed).profile, say)
    return 0
