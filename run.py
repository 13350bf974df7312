#!/usr/bin/env python3
"""The pipeline's command line; `python3 run.py --help` lists the commands."""

import sys

from cli.main import finish, main

if __name__ == "__main__":
    finish(main(sys.argv[1:]))
