"""Measuring in a process of its own: what a benchmark leaves behind in memory or settings touches no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cli.console import say
from common.errors import PipelineError
from common.profiles import REPOSITORY


def measured_apart(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs `python -m module arguments` and returns the JSON of the last line that it says.

    Raises `PipelineError` where it fails; why stands on the lines above.
    """
    command = [sys.executable, "-m", module, *arguments]
    own = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=REPOSITORY, env=own, stdout=subprocess.PIPE, check=False)
    return answer_of(module, done.returncode, done.stdout)


def measured_together(module: str, runs: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[Any]:
    """Runs the module once for each of `runs`, all at the same time, and returns what each says."""
    own = {**os.environ, **environment}
    started = [
        subprocess.Popen([sys.executable, "-m", module, *run], cwd=REPOSITORY, env=own, stdout=subprocess.PIPE)
        for run in runs
    ]
    said = [process.communicate()[0] for process in started]
    return [answer_of(module, process.returncode, out) for process, out in zip(started, said, strict=True)]


def answer_of(module: str, code: int, said: bytes) -> Any:
    """Returns the JSON of the last line."""
    if code:
        raise PipelineError(f"{module} could not be measured; mend what the lines above name")
    return json.loads(said.splitlines()[-1])


def answer(measure: Callable[[], object]) -> int:
    """Says what `measure` returns as one line of JSON; returns the exit code, after one line where it is refused."""
    try:
        found = measure()
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    say(json.dumps(found))
    return 0


def keep_to_cores(count: int) -> int:
    """Keeps this process and what it starts to `count` cores where the system lets it, and returns how many it has."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    return len(os.sched_getaffinity(0))
