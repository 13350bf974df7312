"""`run.py test-sandbox`: how generated code is isolated on this machine, why not better, and whether verdicts hold."""

from __future__ import annotations

import argparse
import dataclasses
import time

from cli.console import say
from cli.parser import resolved_config
from common.errors import PipelineError
from common.execution import EvaluationPool
from common.execution.ladder import Refusal, Way, choose_isolation, try_way, ways
from common.runs.labelling import evaluation_pool
from common.text_table import text_table

_TESTS = ["assert f(1) == 2", "assert f(2) == 3"]
_RIGHT = "def f(x):\n    return x + 1"
_KNOWN = (
    ("passed", "a right program", _RIGHT),
    ("wrong_answer", "a wrong one", "def f(x):\n    return x"),
    ("exception", "one that raises", "def f(x):\n    return [][x]"),
    ("syntax_error", "no Python", "def f(x) return x"),
    ("no_function", "another function", "def g(x):\n    return x + 1"),
    ("timeout", "an endless loop", "def f(x):\n    while True: pass"),
    ("memory", "a list of a billion", "def f(x):\n    return len([0] * 10**9)"),
    ("crashed", "one that leaves with status 0", "import os\ndef f(x):\n    os._exit(0)"),
)
_TIMED = 200


def test_sandbox(parsed: argparse.Namespace) -> int:
    """Tries every rung of the ladder, then programs of known verdict; returns 1 where a verdict is wrong."""
    config = resolved_config(parsed).config
    chosen = choose_isolation(config.sandbox)
    say(f"in use: {chosen.isolation.describe()}, leaving open: {', '.join(chosen.open) or 'nothing'}\n")
    say(text_table([_row(way) for way in ways()], ("rung", "way", "works here", "left open, or why it does not work")))
    limit = min(1.0, config.evaluation_timeout_seconds)
    with evaluation_pool(dataclasses.replace(config, evaluation_timeout_seconds=limit)) as pool:
        rate = _rate(pool)
        results = [(what, outcome, pool.submit(code, _TESTS).result().outcome) for outcome, what, code in _KNOWN]
    rows = [(*row, "right" if row[1] == row[2] else "WRONG") for row in results]
    say(f"\n{text_table(rows, ('program', 'must end as', 'ended as', ''))}")
    say(f"\n{rate:.0f} small programs a second with {pool.workers} workers")
    if wrong := [what for what, expected, found in results if expected != found]:
        raise PipelineError(f"the sandbox judges wrongly here: {', '.join(wrong)}; solutions cannot be tested")
    return 0


def _row(way: Way) -> tuple[str, str, str, str]:
    found = try_way(way)
    if isinstance(found, Refusal):
        return str(way.isolation.rung), way.name, "no", found.why
    return str(way.isolation.rung), way.name, "yes", ", ".join(found) or "nothing"


def _rate(pool: EvaluationPool) -> float:
    started = time.monotonic()
    for future in [pool.submit(_RIGHT, _TESTS) for _ in range(_TIMED)]:
        future.result()
    return _TIMED / (time.monotonic() - started)
