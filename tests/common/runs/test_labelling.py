from __future__ import annotations

from concurrent.futures import Future
from typing import cast

import pytest

from common.config import Config
from common.errors import PipelineError
from common.execution import EvaluationPool, EvaluationResult
from common.execution.enclosure import Isolation
from common.execution.ladder import Choice
from common.problems import Problem
from common.runs import labelling
from common.runs.labelling import Pending, collect, evaluation_fingerprint, sandbox_record, standing_rung
from common.runs.slices import Span
from common.runs.tables import EVALUATION_SCHEMA

pytestmark = pytest.mark.unit
STORED = [{"sandbox_rung": 1}, {"sandbox_rung": 3}]


@pytest.mark.parametrize(
    ("sandbox", "stored", "rung"),
    [
        ("auto", STORED, 1),
        ("strict", STORED, 3),
        ("4", STORED, 4),
        ("0", [], 0),
        ("auto", [], None),
        ("strict", [], None),
    ],
)
def test_labels_that_stand_say_their_rung_unless_one_is_asked_for(
    sandbox: str, stored: list[dict[str, int]], rung: int | None
) -> None:
    assert standing_rung(Config(sandbox=sandbox), stored) == rung


def test_a_process_that_tests_nothing_takes_the_rung_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "choose_isolation", lambda sandbox: Choice(Isolation(1), ("the network",), ()))
    assert evaluation_fingerprint(Config(), "data")["sandbox_rung"] == 1
    assert evaluation_fingerprint(Config(), "data", 4)["sandbox_rung"] == 4
    own = {"isolation": Isolation(1).describe(), "open": ["the network"]}
    assert sandbox_record(Config()) == own and sandbox_record(Config(), 1) == own
    assert sandbox_record(Config(), 4)["isolation"] == "rung 4" and sandbox_record(Config(), 4)["open"] is None


def test_where_the_isolation_cannot_be_had_only_what_is_made_here_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sandbox: str) -> Choice:
        raise PipelineError("not reached")

    monkeypatch.setattr(labelling, "choose_isolation", refuse)
    assert sandbox_record(Config(sandbox="4"), 4)["isolation"] == "rung 4"
    with pytest.raises(PipelineError, match="not reached"):
        sandbox_record(Config(sandbox="4"))


@pytest.mark.parametrize("labels", [[], [None], [None, None], [True, None], [None, False, True]])
def test_labels_are_truth_values_or_missing_whatever_stands_beside_them(labels: list[bool | None]) -> None:
    """A table guessed from its rows makes a column of missing labels nothing, and counts beside missing ones floats."""
    rows = [{"position": row, "task_id": row, "temperature": 0.0, "sample": 0} for row in range(len(labels))]
    results: list[Future[EvaluationResult] | None] = [None if label is None else judged(label) for label in labels]
    table = collect(Pending(Span(0, max(len(labels) - 1, 0)), rows, ["x"] * len(labels), results))
    assert table.schema == EVALUATION_SCHEMA
    assert table["test_passed"].to_pylist() == labels
    assert table["tests_total"].to_pylist() == [None if label is None else 3 for label in labels]


def judged(passed: bool) -> Future[EvaluationResult]:
    future: Future[EvaluationResult] = Future()
    outcome = "passed" if passed else "exception"
    future.set_result(EvaluationResult(passed, outcome, (outcome,) * 3, 3 * passed, 3))
    return future


class CountingPool:
    """Notes what it is given to test."""

    def __init__(self) -> None:
        self.tested: list[str] = []

    def submit(self, code: str, *_: object) -> Future[EvaluationResult]:
        self.tested.append(code)
        return Future()


def test_a_program_is_tested_once_on_each_problem_that_it_is_written_for() -> None:
    first, second = (Problem(number, "", "", ("assert f()",), "", 1) for number in (1, 2))
    pool, other = CountingPool(), CountingPool()
    futures = [labelling.verdict(cast("EvaluationPool", pool), first, code) for code in ("a", "b", "a")]
    assert futures[0] is futures[2] and futures[0] is not futures[1]
    assert labelling.verdict(cast("EvaluationPool", pool), second, "a") is not futures[0]
    assert pool.tested == ["a", "b", "a"]
    assert labelling.verdict(cast("EvaluationPool", other), first, "a") is not futures[0]
