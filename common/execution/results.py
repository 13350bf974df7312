"""What an evaluation returns."""

from __future__ import annotations

from dataclasses import dataclass

OUTCOMES = (
    "passed",
    "wrong_answer",
    "exception",
    "syntax_error",
    "no_function",
    "timeout",
    "memory",
    "crashed",
)

MAX_ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class EvaluationResult:
    """The verdict on one program; true exactly when every assertion ran and held.

    `assertions` holds one of `OUTCOMES` per assertion; where the program ended before its assertions were accounted
    for, each carries the program's own outcome. `in_child` counts the assertions that ran beside the program instead
    of being compared outside it. `opaque` says that a value of the program's own type was met where a literal was
    expected. `cpu_seconds` and `peak_memory_mb` are those of the program's process and of the children that it waited
    for.
    """

    passed: bool
    outcome: str
    assertions: tuple[str, ...]
    tests_passed: int
    tests_total: int
    error_message: str = ""
    opaque: bool = False
    in_child: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    strays_killed: int = 0
    rung: int = 0

    def __post_init__(self) -> None:
        assert self.outcome in OUTCOMES, self.outcome
        assert self.passed == (self.outcome == "passed"), (self.passed, self.outcome)

    def __bool__(self) -> bool:
        return self.passed
