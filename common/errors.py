"""Errors that a user can mend.

A `PipelineError` carries one line: the object, what is wrong with it, and the cure. The command line prints that line
without a traceback and exits with `exit_code`. Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """A run failed for a reason that the message names together with its cure (exit code 1)."""

    exit_code = 1


class UsageError(PipelineError):
    """The arguments or the inputs cannot be used; nothing has been computed or changed (exit code 2)."""

    exit_code = 2


class OtherSettingsError(UsageError):
    """What stands was made under other settings; `--fresh` puts it aside."""


class Interrupted(PipelineError):
    """The user or the system asked the run to stop; what was finished is saved (exit code 130)."""

    exit_code = 130


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X?` for the known name nearest to `name`, or an empty string when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
