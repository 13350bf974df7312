"""The runner of the corpus notices what a program does besides ending: a pool that does such things itself shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from common.execution import EvaluationPool, EvaluationResult
from tests.common.execution.corpus import Program, Runner, Verdict, load_corpus, open_below

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc"),
]
PASSED = EvaluationResult(True, "passed", ("passed",), 1, 1)
FAILED = EvaluationResult(False, "wrong_answer", ("wrong_answer",), 0, 1)
PROGRAM: Program = {
    "id": "x",
    "category": "benign",
    "code": "canary = '@CANARY@'\nvictim = @VICTIM@",
    "test_list": ["assert True"],
    "expected": "pass",
    "why": "",
}


class Mischief:
    """Stands for a pool: does `act`, which gets what the program's code assigns, and returns `result`."""

    _slots: list[Any] = []

    def __init__(self, act: Callable[[dict[str, Any]], object], result: EvaluationResult) -> None:
        self._act = act
        self._result = result

    def submit(self, code: str, tests: list[str]) -> Future[EvaluationResult]:
        future: Future[EvaluationResult] = Future()
        scope: dict[str, Any] = {}
        exec(code, scope)
        try:
            self._act(scope)
            future.set_result(self._result)
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as entered:
        yield entered


def run(
    runner: Runner,
    act: Callable[[dict[str, Any]], object] = lambda scope: None,
    result: EvaluationResult = PASSED,
    **changes: Any,
) -> Verdict:
    return runner.run(cast(EvaluationPool, Mischief(act, result)), {**PROGRAM, **changes})


def test_a_program_that_does_nothing_besides_is_right_and_without_problems(runner: Runner) -> None:
    verdict = run(runner)
    assert (verdict.ended, verdict.right, verdict.problems) == ("pass", True, [])


@pytest.mark.parametrize(
    ("expected", "also_ok", "right"), [("pass", [], False), ("fail", [], True), ("timeout", ["fail"], True)]
)
def test_only_the_expected_outcomes_are_right(runner: Runner, expected: str, also_ok: list[str], right: bool) -> None:
    verdict = run(runner, result=FAILED, expected=expected, also_ok=also_ok)
    assert (verdict.ended, verdict.right, verdict.problems) == ("fail", right, [])


def test_a_timeout_is_not_a_fail(runner: Runner) -> None:
    verdict = run(runner, result=EvaluationResult(False, "timeout", ("timeout",), 0, 1), expected="fail")
    assert (verdict.ended, verdict.right) == ("timeout", False)


def test_an_exception_of_the_pool_is_a_problem_and_no_outcome(runner: Runner) -> None:
    def act(scope: dict[str, Any]) -> None:
        raise IndexError("list index")

    verdict = run(runner, act, also_ok=["fail", "timeout"])
    assert (verdict.ended, verdict.right) == ("raised", False)
    assert "IndexError" in verdict.problems[0]


ACTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "the kept file is changed": (lambda scope: Path(scope["canary"], "keep.txt").write_text("no"), "keep.txt"),
    "the kept file is removed": (lambda scope: os.unlink(f"{scope['canary']}/keep.txt"), "keep.txt"),
    "its mode is changed": (lambda scope: os.chmod(f"{scope['canary']}/keep.txt", 0o600), "keep.txt"),
    "its time is changed": (lambda scope: os.utime(f"{scope['canary']}/keep.txt", (1, 1)), "keep.txt"),
    "a file is planted": (lambda scope: Path(scope["canary"], "new").touch(), "new"),
    "the directory is closed": (lambda scope: os.chmod(scope["canary"], 0o700), "the canary"),
    "the victim is killed": (lambda scope: (os.kill(scope["victim"], 9), time.sleep(0.1)), "the victim is dead"),
    "the victim is slowed": (lambda scope: os.setpriority(os.PRIO_PROCESS, scope["victim"], 5), "the victim was"),
    "the victim is stopped": (lambda scope: (os.kill(scope["victim"], 19), time.sleep(0.1)), "the victim was"),
    "the working directory is littered": (lambda scope: Path("litter").touch(), "left: litter"),
    "a temporary directory is left": (lambda scope: tempfile.mkdtemp(), "a worker's directory"),
    "this process grows": (lambda scope: b"x" * (100 << 20), "grow"),
}


@pytest.mark.parametrize("what", ACTS)
def test_what_is_done_besides_is_noticed_and_put_right(runner: Runner, what: str) -> None:
    act, word = ACTS[what]
    verdict = run(runner, act)
    assert verdict.right
    assert any(word in problem for problem in verdict.problems), verdict.problems
    assert run(runner).problems == []


def test_processes_are_found_by_their_mark_and_ended(runner: Runner) -> None:
    started: list[subprocess.Popen[bytes]] = []
    mark = f"61.{os.getpid()}"
    verdict = run(
        runner,
        lambda scope: started.append(subprocess.Popen(["/bin/sleep", mark])),
        side={"no_process": f"sleep {mark}"},
    )
    assert any("survive" in problem for problem in verdict.problems), verdict.problems
    assert started[0].wait(10) == -9


def test_named_litter_is_found_and_removed(runner: Runner) -> None:
    place = Path(runner.place.directory)
    litter = place / "litter"
    verdict = run(runner, lambda scope: litter.mkdir(), side={"no_litter": [str(litter), str(place / "none")]})
    assert verdict.problems == [f"left: {litter}"]
    assert not litter.exists()


def test_output_is_noticed_where_it_is_asked_for(runner: Runner) -> None:
    def act(scope: dict[str, Any]) -> None:
        os.write(1, b"loud words")

    assert "loud words" in run(runner, act, side={"quiet": True}).problems[0]
    assert run(runner, act).problems == []


def test_times_above_their_bounds_are_noticed(runner: Runner) -> None:
    slept = run(runner, lambda scope: time.sleep(0.2), side={"max_wall": 0.1})
    assert "took" in slept.problems[0]
    computed = run(runner, lambda scope: sum(range(10_000_000)), side={"max_eval_cpu": 0.05})
    assert "compute" in computed.problems[0]


@pytest.mark.parametrize("text", ["x" * 301, "half of one: \ud800"])
def test_an_error_text_that_is_too_long_or_no_text_is_noticed(runner: Runner, text: str) -> None:
    result = EvaluationResult(False, "exception", ("exception",), 0, 1, text)
    assert "an error text" in run(runner, result=result, expected="fail").problems[0]


def test_a_fail_that_should_be_marked_as_opaque_is_noticed(runner: Runner) -> None:
    side = {"opaque_if_failed": True}
    assert "opaque" in run(runner, result=FAILED, expected="fail", side=side).problems[0]
    assert run(runner, side=side).problems == []


def test_the_surroundings_are_there_while_the_runner_is_and_gone_afterwards() -> None:
    before = os.getcwd(), tempfile.gettempdir(), os.environ.get("ATTACK_CANARY_KEY")
    with Runner() as inner:
        place, victim = Path(inner.place.directory), inner.victim.pid
        assert os.environ["ATTACK_CANARY_KEY"] == "s3cret-9a1"
        assert (inner.canary.directory / "secret.txt").read_text() == "s3cret-file-7c"
        assert tempfile.gettempdir().startswith(str(place))
        assert b"sandbox_victim" in Path(f"/proc/{victim}/cmdline").read_bytes()
    assert (os.getcwd(), tempfile.gettempdir(), os.environ.get("ATTACK_CANARY_KEY")) == before
    assert not place.exists()
    assert not Path(f"/proc/{victim}").exists()


@pytest.mark.parametrize("change", [{"category": "odd"}, {"expected": "maybe"}, {"side": {"no_harm": True}}])
def test_a_row_that_would_not_be_understood_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PROGRAM) + "\n")
    assert load_corpus(path) == [PROGRAM]
    path.write_text(json.dumps(PROGRAM | change) + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl: x"):
        load_corpus(path)


def test_the_rung_below_which_a_program_is_open_is_the_rows_or_known_of_the_shared_ones() -> None:
    assert open_below(PROGRAM) == 0
    assert open_below(PROGRAM | {"open_below": 2}) == 2
    assert open_below(PROGRAM | {"id": "network_loopback"}) == 1
