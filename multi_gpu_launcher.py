#!/usr/bin/env python3
"""One phase on several devices or machines; `python3 multi_gpu_launcher.py --help` lists the options."""

from __future__ import annotations

import sys

from cli.main import exit_code, finish


def launch() -> int:
    """Runs the launcher; a package that is not installed ends in one line."""
    from launcher.main import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    finish(exit_code(launch))
