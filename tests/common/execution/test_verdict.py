"""What is sent to the worker, and how its answers are judged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.errors import UsageError
from common.execution.verdict import WorkerReply, judge, plan_evaluation, plan_test

pytestmark = pytest.mark.unit

HEADER = {"status": "done", "detail": "exit status 0", "cpu_seconds": 0.5, "wall_seconds": 1.0, "peak_memory_mb": 9.0}
HEADER |= {"strays_killed": 2, "rung": 0}
TESTS = ("assert f(1) == 2", "assert f(2) == [3]", "assert f(3)")


def judged(report: Any, **header: Any) -> Any:
    plan = plan_evaluation("def f(x): ...", TESTS, "", 5.0, 100)
    message = report if isinstance(report, bytes) else json.dumps(report).encode("ascii")
    return judge(plan, WorkerReply({**HEADER, **header}, message))


def report_of(*results: Any, defined: bool = True) -> dict[str, Any]:
    return {"stage": "tests", "defined": defined, "results": list(results)}


@pytest.mark.parametrize(
    ("test", "kind", "source", "expected"),
    [
        ("assert f(1) == 2", "value", "f(1)", 2),
        ("assert f(1) == -2.5, 'message'", "value", "f(1)", -2.5),
        ("assert [1, {2: (3,)}] == f(1)", "value", "f(1)", [1, {2: (3,)}]),
        ("assert (f(1)) == set() \r\n", "value", "f(1)", set()),
        ("assert f(1) == g(2)", "truth", "f(1) == g(2)", None),
        ("assert f(1) is None", "truth", "f(1) is None", None),
        ("assert f(1) == 2 == g(1)", "truth", "f(1) == 2 == g(1)", None),
        ("assert not f(1)", "truth", "not f(1)", None),
        ("x = f(1)\nassert x == 2", "script", "x = f(1)\nassert x == 2", None),
        ("assert f(1) = 2", "script", "assert f(1) = 2", None),
    ],
)
def test_an_assertion_is_split_where_one_side_is_a_literal(test: str, kind: str, source: str, expected: Any) -> None:
    plan = plan_test(test)
    assert (plan.kind, plan.source, plan.expected) == (kind, source, expected)


def test_the_request_holds_no_expected_value() -> None:
    plan = plan_evaluation("pass", ("assert f(1) == 987654", "assert 'secret' == f(2)"), "", 5.0, 100)
    assert b"987654" not in plan.program() + plan.limits(None)
    assert b"secret" not in plan.program() + plan.limits(None)


def test_a_program_passes_only_when_every_assertion_is_accounted_for_and_holds() -> None:
    result = judged(report_of(["value", 2], ["value", ["l", 3]], ["held", True]))
    assert result
    assert result.assertions == ("passed",) * 3
    assert (result.tests_passed, result.in_child, result.strays_killed) == (3, 1, 2)


@pytest.mark.parametrize(
    "report",
    [
        report_of(["value", 2], ["value", ["l", 3]]),
        report_of(["value", 2], ["value", ["l", 3]], ["held", True], ["held", True]),
        report_of(["held", True], ["held", True], ["held", True]),
        report_of(["value", 2], ["value", ["l", 3]], ["value", True]),
        report_of(["value", 2], ["value", ["?"]], ["held", True]),
        report_of(["value", 2], ["value", ["l", 3]], ["held", 1]),
        {"stage": "tests"},
        {},
        [],
        b"",
        b"passed",
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_forged_or_broken_report_never_passes(report: Any) -> None:
    result = judged(report)
    assert not result
    assert result.outcome in ("crashed", "wrong_answer")
    assert len(result.assertions) == 3


def test_the_first_assertion_that_fails_names_the_outcome() -> None:
    raised = ["raised", {"type": "KeyError", "text": "'a'", "class": "other"}]
    result = judged(report_of(["value", 2], raised, ["held", False]))
    assert result.outcome == "exception"
    assert result.error_message == "KeyError: 'a'"
    assert result.assertions == ("passed", "exception", "wrong_answer")


def test_an_undefined_function_is_told_from_an_exception() -> None:
    raised = ["raised", {"type": "NameError", "text": "name 'f' is not defined", "class": "other"}]
    assert judged(report_of(raised, raised, raised, defined=False)).outcome == "no_function"
    assert judged(report_of(raised, raised, raised, defined=True)).outcome == "exception"


def test_an_own_type_is_marked_opaque_only_where_it_made_the_difference() -> None:
    own, good = ["value", ["l", ["own", "P"]]], ["held", True]
    assert judged(report_of(own, ["value", ["l", 3]], good)).opaque
    assert not judged(report_of(["value", ["other", "map"]], ["value", ["l", 3]], good)).opaque
    assert not judged(report_of(["value", 7], ["value", ["l", 3]], good)).opaque


@pytest.mark.parametrize(("status", "outcome"), [("timeout", "timeout"), ("died", "crashed")])
def test_a_child_without_a_verdict_failed_all_its_assertions(status: str, outcome: str) -> None:
    result = judged(report_of(["value", 2], ["value", ["l", 3]], ["held", True]), status=status)
    assert result.outcome == outcome
    assert result.assertions == (outcome,) * 3


def test_a_long_error_is_cut_to_300_characters() -> None:
    raised = ["raised", {"type": "E", "text": "x" * 5000, "class": "other"}]
    assert len(judged(report_of(raised, raised, raised)).error_message) == 300


def test_evaluations_without_tests_or_with_useless_limits_are_refused() -> None:
    with pytest.raises(UsageError, match="no tests"):
        plan_evaluation("pass", (), "", 5.0, 100)
    with pytest.raises(UsageError, match="positive"):
        plan_evaluation("pass", TESTS, "", 0.0, 100)
