#!/usr/bin/env python3
"""Deletes what phases wrote, after listing it and asking; `python3 clean_data.py --help` lists the options."""

import sys

from cli.clean import main
from cli.main import finish

if __name__ == "__main__":
    finish(main(sys.argv[1:]))
