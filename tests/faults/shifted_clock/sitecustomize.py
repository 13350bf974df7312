"""Python loads this at its start where this directory is on PYTHONPATH: the time of day is then off by days.

By how many says the file that SHIFTED_BY names, read anew at each look at the clock, so that time can be stepped while
a program runs. The monotonic clock stays true. (libfaketime would refuse to read the CPU clocks of other processes.)
"""

from __future__ import annotations

import datetime
import os
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


class _Kind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _datetime)


class Shifted(_datetime, metaclass=_Kind):
    """A datetime whose now is off."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Returns the moment that the shifted clock shows."""
        return _datetime.fromtimestamp(_seconds() + shift(), tz)


time.time = lambda: _seconds() + shift()
time.time_ns = lambda: int((_seconds() + shift()) * 1e9)
datetime.datetime = Shifted  # type: ignore[misc]
