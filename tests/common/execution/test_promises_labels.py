"""No false fail (E2), the same verdicts under any flags (E10), and the meaning of the assertions themselves (E12)."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.execution import EvaluationPool, EvaluationResult
from common.execution.verdict import TestPlan, plan_evaluation
from tests.common.execution.conftest import Figure
from tests.common.execution.elsewhere import AS_USUAL, BEST, PLACES, Circumstances, Place, ask, other_pythons
from tests.common.execution.references import SHARED, programs, references
from tests.common.execution.rungs import pool_at_every_rung

pool = pool_at_every_rung(memory_mb=2048)

FILES = (SHARED / "attacks.jsonl", Path(__file__).with_name("attacks.jsonl"))
# Many of these arguments of an evaluator at once, and each alone, must change no verdict.
CIRCUMSTANCES: dict[str, tuple[Circumstances, dict[str, Any]]] = {
    "-O": (Circumstances(flags=["-O"]), {}),
    "-OO": (Circumstances(flags=["-OO"]), {}),
    "PYTHONOPTIMIZE": (Circumstances(environment={"PYTHONOPTIMIZE": "2"}), {}),
    "-s -P": (Circumstances(flags=["-s", "-P"]), {}),
    "-W error": (Circumstances(flags=["-W", "error"]), {}),
    "a hash seed": (Circumstances(environment={"PYTHONHASHSEED": "7"}), {}),
    "LANG=C": (Circumstances(environment={"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}), {}),
    "64 descriptors": (Circumstances(), {"open_files": 64, "workers": 8}),
    "a directory that cannot be written": (Circumstances(directory="/proc"), {}),
    "all at once": (
        Circumstances(
            flags=["-OO", "-W", "error"],
            environment={"PYTHONHASHSEED": "11", "LC_ALL": "C", "PYTHONUTF8": "0"},
            directory="/proc",
        ),
        {"open_files": 64},
    ),
}
FIXED = {
    "passed": [
        ("def f(x): return x + 1", ["assert f(1) == 2", "x = f(2)\nassert x == 3"]),
        ("def f(x): return {x, 'a', 'b'}", ["assert f('c') == {'a', 'b', 'c'}"]),
        ("def f(x):\n    'doc'\n    assert x\n    return f.__doc__", ["assert f(1) == 'doc'"]),
        ("def f(x): return 'é' + chr(0x1F600)", ["assert f(1) == 'é😀'"]),
        ("def f(x):\n    with open('é', 'w', encoding='utf-8') as file: return file.write('é')", ["assert f(1) == 1"]),
        ("def f(x):\n    s = '\\d'\n    return s", ["assert f(1) == '\\\\d'"]),
        ("import re\ndef f(x): return re.sub('a', 'b', x)", ["assert f('aa') == 'bb'", "assert not f('') == 'b'"]),
    ],
    "wrong_answer": [
        ("def f(x): return x", ["assert f(1) == 2", "assert f(2) == 3"]),
        ("def f(x): return x", ["x = f(2)\nassert x == 3"]),
        ("def f(x): return list({'a', 'b', 'c', 'd', 'e'})", ["assert f(1) == []"]),
        ("def f(x):\n    assert x == 0\n    return 2", ["assert f(1) == 2"]),
    ],
    "exception": [("def f(x): return g(x)", ["assert f(1) == 2"]), ("print(open('/proc/none'))", ["assert f(1) == 2"])],
    "syntax_error": [("def f(x) return x", ["assert f(1) == 2"])],
    "no_function": [("def g(x): return x", ["assert f(1) == 2"])],
    "timeout": [("def f(x):\n    while True: pass", ["assert f(1) == 2"])],
    "crashed": [("import os\ndef f(x): os._exit(0)", ["assert f(1) == 2"])],
}


def check_references(
    figure: Figure, place: Place, at: Circumstances = AS_USUAL, every: int = 1, workers: int = 4
) -> None:
    found = references()[::every]
    answer = ask(place, "evaluate", at=at, programs=programs(found), workers=workers)
    wrong = {
        item.task_id: (outcome, text)
        for item, outcome, text in zip(found, answer["outcomes"], answer["messages"], strict=True)
        if outcome != "passed"
    }
    under = {name: value for name, value in at._asdict().items() if value}
    figure(f"E2 {place} {under or ''}: {len(found) - len(wrong)} of {len(found)} references, {workers} workers")
    assert wrong == {}


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_reference_passes_at_every_rung(place: Place, figure: Figure) -> None:
    check_references(figure, place)


@pytest.mark.smoke
def test_references_pass_at_every_rung(pool: EvaluationPool) -> None:
    found = references()[::60]
    futures = {item.task_id: pool.submit(item.code, item.tests, item.setup) for item in found}
    assert {task_id: future.result() for task_id, future in futures.items() if not future.result()} == {}
    assert {future.result().rung for future in futures.values()} == {pool.isolation.rung}


@pytest.mark.smoke
def test_forty_threads_alive_at_once_fit_into_the_limits(pool: EvaluationPool) -> None:
    """Whatever the number of processors, by which the C library reserves memory for threads."""
    code = "import threading\ndef f(count):\n    hold = threading.Event()\n"
    code += "    waiting = [threading.Thread(target=hold.wait) for _ in range(count)]\n"
    code += "    [one.start() for one in waiting]\n    hold.set()\n    return len(waiting)"
    result = pool.submit(code, ["assert f(40) == 40"]).result(timeout=60)
    assert result, result


@pytest.mark.fault
@pytest.mark.parametrize("round_number", range(3))
@pytest.mark.parametrize("place", [BEST, Place("user", "2")], ids=str)
def test_every_reference_passes_with_eight_workers_beside_busy_loops(
    place: Place, round_number: int, figure: Figure
) -> None:
    with busy_loops(4):
        check_references(figure, place, workers=8)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(10))
def test_every_reference_passes_under_every_hash_seed_of_the_evaluator(seed: int, figure: Figure) -> None:
    check_references(figure, BEST, Circumstances(environment={"PYTHONHASHSEED": str(seed)}))


@pytest.mark.fault
@pytest.mark.parametrize("place", [Place("root", "4"), Place("root", "2"), Place("root", "0")], ids=str)
def test_every_reference_passes_under_every_python_found(place: Place, figure: Figure) -> None:
    found = other_pythons()
    if not found:
        pytest.skip("this is the only Python here")
    for python in found:
        check_references(figure, place, Circumstances(python=python))


@pytest.mark.smoke
def test_references_pass_under_another_python(figure: Figure) -> None:
    found = other_pythons()
    if not found:
        pytest.skip("this is the only Python here")
    check_references(figure, BEST, Circumstances(python=found[-1]), every=80, workers=2)


def check_fixed(place: Place, name: str) -> None:
    at, more = CIRCUMSTANCES[name]
    expected = [(outcome, code, tests) for outcome, items in FIXED.items() for code, tests in items]
    sent = [(code, tests, "") for _, code, tests in expected]
    answer = ask(place, "evaluate", at=at, programs=sent, timeout=0.5, **more)
    assert answer["outcomes"] == [outcome for outcome, _, _ in expected], answer["messages"]


@pytest.mark.fault
@pytest.mark.parametrize("name", CIRCUMSTANCES)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_verdicts_do_not_depend_on_how_the_evaluator_runs(place: Place, name: str) -> None:
    check_fixed(place, name)


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["-O", "all at once"])
def test_verdicts_at_the_best_rung_do_not_depend_on_how_the_evaluator_runs(name: str) -> None:
    check_fixed(BEST, name)


class BothWays(NamedTuple):
    """The verdict by values that are compared outside, and that of the assertions run as they are written."""

    outside: Future[EvaluationResult]
    inside: Future[EvaluationResult]

    def differ(self) -> bool:
        return self.outside.result().assertions != self.inside.result().assertions


def both_ways(pool: EvaluationPool, code: str, tests: list[str], setup: str = "") -> BothWays:
    plan = plan_evaluation(code, tests, setup, 5.0, 2048)
    as_written = tuple(TestPlan("script", test.replace("\r\n", "\n").strip()) for test in tests)
    return BothWays(pool.submit_plan(plan), pool.submit_plan(dataclasses.replace(plan, tests=as_written)))


def benign() -> list[dict[str, Any]]:
    """Returns the snippets of both collections that must pass and name nothing of the machine that runs them."""
    rows = [json.loads(line) for path in FILES if path.is_file() for line in path.read_text("utf-8").splitlines()]
    return [row for row in rows if row["expected"] == "pass" and not re.search("@[A-Z]+@", row["code"])]


@pytest.fixture(scope="module")
def best() -> Iterator[EvaluationPool]:
    with EvaluationPool(workers=min(4, os.cpu_count() or 1)) as running:
        yield running


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.fault), pytest.param(40, marks=pytest.mark.numeric)]
)
def test_references_are_judged_as_their_assertions_judge_them(best: EvaluationPool, every: int, figure: Figure) -> None:
    found = {item.task_id: both_ways(best, item.code, item.tests, item.setup) for item in references()[::every]}
    assert [task_id for task_id, both in found.items() if both.differ() or both.outside.result().opaque] == []
    assert all(both.inside.result() for both in found.values())
    figure(f"E12: {len(found)} references are judged as their assertions judge them")


@pytest.mark.numeric
def test_benign_programs_are_judged_as_their_assertions_judge_them_but_for_the_opaque(
    best: EvaluationPool, figure: Figure
) -> None:
    rows = benign()
    if not rows:
        pytest.skip(f"{' and '.join(map(str, FILES))} are absent")
    found = {row["id"]: both_ways(best, row["code"], row["test_list"]) for row in rows}
    differing = [name for name, both in found.items() if both.differ()]
    opaque = [name for name, both in found.items() if both.outside.result().opaque]
    figure(f"E12: {len(rows)} benign programs, judged otherwise than by their assertions: {', '.join(differing)}")
    assert differing == opaque
