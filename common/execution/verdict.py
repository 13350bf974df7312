"""The trusted side of an evaluation: what the worker is asked, and what its answer means.

The expected values of the assertions stay here. `assert LEFT == LITERAL` is split; only LEFT is sent, its value comes
back in the encoding of `values`, and the comparison is made here with Python's own equality. 2,919 of MBPP's 2,922
assertions split; the others run beside the sample.
"""

from __future__ import annotations

import ast
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.errors import UsageError
from common.execution.extraction import entry_point_from_tests
from common.execution.results import MAX_ERROR_CHARACTERS, EvaluationResult
from common.execution.values import Incomparable, MalformedVerdictError, decode_value


class TestPlan(NamedTuple):
    """One assertion: what is sent (`kind` is value, truth or script) and, for a value, what it must equal."""

    __test__ = False

    kind: str
    source: str
    expected: Any = None
    largest: int = 0


@dataclass(frozen=True)
class EvaluationPlan:
    """One program with its tests and limits, as `request` describes it to the worker."""

    code: str
    setup_code: str
    tests: tuple[TestPlan, ...]
    entry_point: str | None
    cpu_seconds: float
    memory_mb: int

    def limits(self, processes: int | None) -> bytes:
        """Returns what the worker is told; `processes` is the most that the program's user may run."""
        memory = self.memory_mb << 20
        message = {"cpu_seconds": self.cpu_seconds, "memory_bytes": memory, "processes": processes}
        return json.dumps(message).encode("ascii")

    def program(self) -> bytes:
        """Returns what the program's own process is told, which holds no expected value."""
        tests = [(test.kind, test.source) for test in self.tests]
        message = {"code": self.code, "setup": self.setup_code, "tests": tests, "entry_point": self.entry_point}
        return json.dumps(message).encode("ascii")


class WorkerReply(NamedTuple):
    """What a worker says of a sample: see `Watched` in `worker`."""

    header: dict[str, Any]
    message: bytes


_MOST_SECONDS, _MOST_MEMORY_MB = 86_400, 1_000_000
_NOTHING_USED = {"cpu_seconds": 0.0, "wall_seconds": 0.0, "peak_memory_mb": 0.0, "strays_killed": 0}


def plan_evaluation(
    code: str, tests: Sequence[str], setup_code: str, cpu_seconds: float, memory_mb: int
) -> EvaluationPlan:
    """Returns the plan of an evaluation; raises `UsageError` for limits that are not positive and for no tests."""
    if not (0 < cpu_seconds <= _MOST_SECONDS and 0 < memory_mb <= _MOST_MEMORY_MB):
        raise UsageError(
            f"the limits of the sandbox must be positive, at most {_MOST_SECONDS:,} s and {_MOST_MEMORY_MB:,} MB: "
            f"{cpu_seconds} s of CPU, {memory_mb} MB"
        )
    if not tests:
        raise UsageError("there are no tests to evaluate a program by; give at least one assertion")
    try:
        entry_point = entry_point_from_tests(tests)
    except UsageError:
        entry_point = None
    plans = tuple(plan_test(test) for test in tests)
    return EvaluationPlan(code, setup_code, plans, entry_point, cpu_seconds, memory_mb)


def plan_test(test: str) -> TestPlan:
    """Splits `assert LEFT == LITERAL` (either way round) into what is run and what it must equal."""
    source = test.replace("\r\n", "\n").strip()
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return TestPlan("script", source)
    if len(body) != 1 or not isinstance(body[0], ast.Assert):
        return TestPlan("script", source)
    condition = body[0].test
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq):
        sides = (condition.left, condition.comparators[0])
        for asked, literal in (sides, sides[::-1]):
            try:
                expected = ast.literal_eval(literal)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            largest = sum(1 for _ in ast.walk(literal))
            return TestPlan("value", ast.unparse(asked), expected, largest)
    return TestPlan("truth", ast.unparse(condition))


class _Judged(NamedTuple):
    outcome: str
    error_message: str = ""
    opaque: bool = False


def judge(plan: EvaluationPlan, reply: WorkerReply) -> EvaluationResult:
    """Returns the verdict on a worker's reply; whatever it does not account for is not passed."""
    status = reply.header["status"]
    if status != "done":
        outcome = status if status in ("timeout", "memory") else "crashed"
        return _result(plan, [_Judged(outcome, str(reply.header["detail"]))] * len(plan.tests), reply)
    try:
        judged = _judge_report(plan, json.loads(reply.message))
    except Exception as error:  # a report may hold anything: whatever reading it raises is the sample's doing
        judged = [_Judged("crashed", f"the verdict cannot be read: {type(error).__name__}")] * len(plan.tests)
    return _result(plan, judged, reply)


def crashed(plan: EvaluationPlan, reason: str, rung: int) -> EvaluationResult:
    """Returns the verdict on a program that took its worker down with it."""
    return _result(plan, [_Judged("crashed", reason)] * len(plan.tests), _no_reply(rung))


def no_code(plan: EvaluationPlan, rung: int) -> EvaluationResult:
    """Returns the verdict on an empty program, for which nothing need run."""
    return _result(plan, [_Judged("no_function", "no code")] * len(plan.tests), _no_reply(rung))


def _no_reply(rung: int) -> WorkerReply:
    return WorkerReply({**_NOTHING_USED, "rung": rung}, b"")


def _judge_report(plan: EvaluationPlan, report: dict[str, Any]) -> list[_Judged]:
    stage = report["stage"]
    if stage != "tests":
        judged = _judge_error(report["error"])
        if stage == "code syntax":
            judged = judged._replace(outcome="syntax_error")
        return [judged] * len(plan.tests)
    results = report["results"]
    if not isinstance(results, list) or len(results) != len(plan.tests):
        raise MalformedVerdictError("not every assertion is accounted for")
    judged = [_judge_test(test, result) for test, result in zip(plan.tests, results, strict=True)]
    missing = plan.entry_point is not None and report["defined"] is not True
    if missing and any(item.outcome != "passed" for item in judged):
        judged = [
            item if item.outcome == "passed" else _Judged("no_function", f"{plan.entry_point} is not defined")
            for item in judged
        ]
    return judged


def _judge_test(test: TestPlan, result: list[Any]) -> _Judged:
    kind, detail = result
    if kind == "raised":
        return _judge_error(detail)
    if kind == "large" and test.kind == "value":
        return _Judged("wrong_answer", f"{test.source} gave a {str(detail)[:80]} too large to compare")
    if kind == "held" and test.kind != "value":
        return _Judged("passed") if detail is True else _Judged("wrong_answer", f"{test.source} does not hold")
    if kind == "value" and test.kind == "value":
        return _compare(test, decode_value(detail, test.largest))
    raise MalformedVerdictError(f"result {str(kind)[:20]!r} for a test of kind {test.kind}")


def _judge_error(error: dict[str, str]) -> _Judged:
    name, text, kind = str(error["type"])[:80], str(error["text"])[:MAX_ERROR_CHARACTERS], error["class"]
    outcome = {"memory": "memory", "assertion": "wrong_answer"}.get(kind, "exception")
    return _Judged(outcome, f"{name}: {text}" if text else name)


def _compare(test: TestPlan, value: Any) -> _Judged:
    try:
        equal = bool(value == test.expected)
    except Exception as error:
        return _Judged("exception", f"{type(error).__name__}: {error}")
    if equal:
        return _Judged("passed")
    opaque = _holds_own_type(value)
    return _Judged("wrong_answer", f"{test.source} gave {_show(value)}", opaque)


def _holds_own_type(value: Any) -> bool:
    """Tells whether a decoded value is, or has among its parts, one of a type that the sample defined."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, Incomparable) and item.own:
            return True
        if isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            pending += item
    return False


def _show(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:
        return f"a {type(value).__name__} of very many digits"


def _writable(text: str) -> str:
    """Returns a text without halves of characters, which no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _result(plan: EvaluationPlan, judged: list[_Judged], reply: WorkerReply) -> EvaluationResult:
    failed = next((item for item in judged if item.outcome != "passed"), None)
    header = reply.header
    return EvaluationResult(
        passed=failed is None,
        outcome="passed" if failed is None else failed.outcome,
        assertions=tuple(item.outcome for item in judged),
        tests_passed=sum(item.outcome == "passed" for item in judged),
        tests_total=len(judged),
        error_message="" if failed is None else _writable(failed.error_message)[:MAX_ERROR_CHARACTERS],
        opaque=any(item.opaque for item in judged),
        in_child=sum(test.kind != "value" for test in plan.tests),
        cpu_seconds=float(header["cpu_seconds"]),
        wall_seconds=float(header["wall_seconds"]),
        peak_memory_mb=float(header["peak_memory_mb"]),
        strays_killed=int(header["strays_killed"]),
        rung=int(header["rung"]),
    )
