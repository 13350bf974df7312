"""What commands print on standard output."""

from __future__ import annotations

import sys


def say(text: str = "") -> None:
    """Prints a line of a command's answer."""
    sys.stdout.write(text + "\n")
