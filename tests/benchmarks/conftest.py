"""A random model of very few weights with problems of its own, for the tests of benchmarks."""

from __future__ import annotations

import pytest

from benchmarks.random_models import Shape, random_model
from benchmarks.workloads import Workload, scripted_on
from common.problems import Problem

SMALL = Shape("a very small model", 64, 16, 32, 3, 2, 1, 8, sliding_window=32)


def problem(number: int, characters: int) -> Problem:
    """Returns a problem whose reference has so many characters."""
    code = "def f():\n    return 1\n"
    return Problem(number, f"Problem {number}", code + "#" * (characters - len(code)), ("assert f() == 1",))


@pytest.fixture(scope="session")
def small() -> Workload:
    """Four rows of 8, 9, 10 and 12 tokens."""
    problems = [problem(number, characters) for number, characters in enumerate((24, 27, 30, 36))]
    return scripted_on(random_model(SMALL), problems, "scripted")
