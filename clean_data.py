#!/usr/bin/env python3
"""Deletes what phases wrote, after listing it and asking; `python3 clean_data.py --help` lists the options."""

import sys

from cli.clean import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
