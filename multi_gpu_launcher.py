#!/usr/bin/env python3
"""One phase on several devices or machines; `python3 multi_gpu_launcher.py --help` lists the options."""

import sys

from launcher.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
