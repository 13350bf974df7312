#!/usr/bin/env python3
"""One phase on several devices or machines; `python3 multi_gpu_launcher.py --help` lists the options."""

import sys

from cli.main import finish
from launcher.main import main

if __name__ == "__main__":
    finish(main(sys.argv[1:]))
