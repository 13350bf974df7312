"""Python loads this at its start where this directory is on PYTHONPATH: the time of day is then off by days.

By how many says the file that SHIFTED_BY names, read anew at each look at the clock, so that time can be stepped while
a program runs. The monotonic clock stays true. (libfaketime would refuse to read the CPU clocks of other processes.)
"""

from __future__ import annotations

import datetime
import importlib.abc
import importlib.machinery
import os
import sys
import time
from typing import Any

DAY = 86_400.0
_seconds, _datetime = time.time, datetime.datetime


def shift() -> float:
    """Returns by how many seconds the time of day is off."""
    try:
        with open(os.environ["SHIFTED_BY"], encoding="ascii") as file:
            return DAY * float(file.read())
    except (KeyError, OSError, ValueError):
        return 0.0


class Shifted(datetime.datetime):
    """A datetime whose now is off."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Returns the moment that the shifted clock shows, as an ordinary datetime."""
        return _datetime.fromtimestamp(_seconds() + shift(), tz)


class Modules(importlib.abc.MetaPathFinder):
    """Gives the project's own modules the shifted datetime; libraries keep theirs, whose layout C code relies on."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Returns a module's ordinary specification, whose loader shifts what the module has imported."""
        if not name.partition(".")[0].startswith(("common", "cli", "launcher", "phase")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = ShiftingLoader(spec.loader.name, spec.loader.path)
        return spec


class ShiftingLoader(importlib.machinery.SourceFileLoader):
    """Runs a module, then puts the shifted datetime where it has the true one."""

    def exec_module(self, module: Any) -> None:
        """Runs the module's code."""
        super().exec_module(module)
        if getattr(module, "datetime", None) is _datetime:
            module.datetime = Shifted


time.time = lambda: _seconds() + shift()
time.time_ns = lambda: int((_seconds() + shift()) * 1e9)
sys.meta_path.insert(0, Modules())
