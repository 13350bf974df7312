"""Workers are watched, replaced, cleaned up after and ended; a broken sandbox stops the run."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.execution import EvaluationPool, EvaluationResult, enclosure, self_check
from common.execution import pool as pool_module
from common.execution.ladder import Choice, choose_isolation
from tests.common.execution.elsewhere import BEST, Circumstances, ask, started
from tests.common.execution.hostile import GOOD, TESTS, new_mark
from tests.common.execution.processes import family, inner_worker, marked, worker_directory
from tests.common.execution.rungs import pool_at_every_rung

pytestmark = pytest.mark.unit

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc and prctl")
pool = pool_at_every_rung(timeout=0.4, memory_mb=512)


def run(pool: EvaluationPool, code: str, tests: list[str] | None = None, setup: str = "") -> EvaluationResult:
    return pool.submit(code, TESTS if tests is None else tests, setup).result(timeout=60)


@linux_only
def test_orphans_in_sessions_of_their_own_are_found_and_killed(pool: EvaluationPool) -> None:
    mark = new_mark()
    code = f"""
import os
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', '{mark}'])
        os._exit(0)
{GOOD}"""
    result = run(pool, code)
    assert result
    assert result.strays_killed >= 20
    assert not marked(mark)


@linux_only
def test_descriptors_directories_and_zombies_do_not_pile_up(pool: EvaluationPool) -> None:
    run(pool, GOOD)
    worker = inner_worker(pool)
    descriptors = Path(f"/proc/{worker}/fd")
    before = len(os.listdir(descriptors)) if os.access(descriptors, os.R_OK) else None
    files = sorted(os.listdir(worker_directory(pool)))
    hostile = [
        "import os\nos.mkdir('d')\nopen('d/x', 'w')\nos.fork()\nos._exit(0)",
        "import os\nos.abort()",
    ]
    for index in range(40):
        run(pool, hostile[index % 2] if index % 4 == 0 else GOOD)
    assert inner_worker(pool) == worker
    assert before is None or len(os.listdir(descriptors)) == before
    assert sorted(os.listdir(worker_directory(pool))) == files
    assert family(worker) == []


@linux_only
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_program_that_would_kill_its_worker_never_ends_the_run(pool: EvaluationPool, number: str) -> None:
    """As the same user it reaches the worker at rung 0, and at rung 4 with a signal that the worker handles."""
    code = f"import os, signal\ntry: os.kill(os.getppid(), signal.{number})\nexcept OSError: pass\n{GOOD}"
    result = run(pool, code)
    as_worker = {} if pool.isolation.other_user else {0: {"crashed"}, 4: {"passed", "crashed"}}
    assert result.outcome in as_worker.get(pool.isolation.rung, {"passed"}), result
    assert run(pool, GOOD)


@linux_only
def test_a_worker_that_dies_for_another_reason_loses_no_sample(pool: EvaluationPool) -> None:
    run(pool, GOOD)
    os.kill(inner_worker(pool), signal.SIGKILL)
    assert run(pool, GOOD)


@linux_only
def test_a_program_that_would_stop_its_worker_does_not_stop_the_run(pool: EvaluationPool) -> None:
    assert run(pool, f"import os, signal\ntry: os.kill(os.getppid(), signal.SIGSTOP)\nexcept OSError: pass\n{GOOD}")


def test_several_workers_return_every_result_in_its_own_future() -> None:
    with EvaluationPool(workers=2, timeout=2.0) as two:
        futures = [two.submit(f"def f(x): return {i}", [f"assert f(0) == {i if i % 3 else -1}"]) for i in range(30)]
        assert [bool(future.result(timeout=60)) for future in futures] == [bool(i % 3) for i in range(30)]


def test_leaving_by_an_exception_drops_the_rest_and_ends_the_workers() -> None:
    with pytest.raises(KeyError), EvaluationPool(workers=1, timeout=5.0) as leaving:
        running = leaving.submit("while True: pass", TESTS)
        waiting = leaving.submit(GOOD, TESTS)
        time.sleep(0.2)
        raise KeyError
    with pytest.raises(PipelineError, match="closed"):
        running.result(timeout=10)
    assert waiting.cancelled() or waiting.exception(timeout=10)


def test_a_closed_pool_takes_no_more() -> None:
    with EvaluationPool(1) as closed:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        closed.submit(GOOD, TESTS)


@pytest.fixture
def chosen() -> Choice:
    """Returns the isolation of this machine, found before a test breaks the sandbox."""
    return choose_isolation()


def test_a_sandbox_that_judges_wrongly_stops_the_run(chosen: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_GOOD", "def pva_sae_check(n): return n")
    with pytest.raises(PipelineError, match="does not work on this machine"):
        EvaluationPool(1)


def test_a_sandbox_that_passes_everything_stops_the_run(chosen: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_BAD", self_check._GOOD)
    with pytest.raises(PipelineError, match="must end as wrong_answer ended as passed"):
        EvaluationPool(1)


def test_a_worker_that_cannot_start_stops_the_run_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose_isolation("0")
    broken = tmp_path / "worker.py"
    broken.write_text("raise OSError('no such device')")
    monkeypatch.setattr(enclosure, "_SCRIPT", broken)
    with pytest.raises(PipelineError, match="no such device"):
        EvaluationPool(1, sandbox="0")


def test_a_sandbox_that_breaks_later_is_noticed_before_the_next_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SELF_CHECK_EVERY", 3)
    with EvaluationPool(1) as checked:
        assert all(run(checked, GOOD) for _ in range(3))
        monkeypatch.setattr(self_check, "_GOOD", "")
        for _ in range(2):
            with pytest.raises(PipelineError, match="does not work"):
                run(checked, GOOD)


@linux_only
def test_directories_that_a_killed_pipeline_leaves_are_swept_by_the_next(tmp_path: Path) -> None:
    here, mark = Circumstances(environment={"TMPDIR": str(tmp_path)}), new_mark()
    hangs = f"import subprocess\nsubprocess.run(['sleep', '{mark}'])"
    with started(BEST, "evaluate", at=here, programs=[(hangs, TESTS, "")], timeout=60.0) as running:
        wait_until(lambda: marked(mark))
        assert len(left_in(tmp_path)) == 1
        ask(BEST, "evaluate", at=here, programs=[(GOOD, TESTS, "")])
        assert len(left_in(tmp_path)) == 1, "the directory of a living pipeline was taken"
        running.process.kill()
        running.process.wait()
    wait_until(lambda: not marked(mark))
    assert len(left_in(tmp_path)) == 1
    ask(BEST, "evaluate", at=here, programs=[(GOOD, TESTS, "")])
    assert left_in(tmp_path) == []


def left_in(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith("pva-sae-sandbox-")]


def test_temporary_directories_are_private(pool: EvaluationPool) -> None:
    with EvaluationPool(1, sandbox=str(pool.isolation.rung)) as running:
        base = Path(worker_directory(running))
        assert base.parent == Path(tempfile.gettempdir())
        # Another user passes through to its own directory in it, and sees no more.
        assert base.stat().st_mode & 0o077 == (0o011 if running.isolation.other_user else 0)
    assert not base.exists()


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
