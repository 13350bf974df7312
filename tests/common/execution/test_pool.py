"""Workers are watched, replaced, cleaned up after and ended; a broken sandbox stops the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.execution import EvaluationPool, EvaluationResult
from common.execution import pool as pool_module

pytestmark = pytest.mark.unit

TESTS = ["assert f(1) == 2", "assert f(2) == 3"]
GOOD = "def f(x):\n    return x + 1\n"
REPOSITORY = Path(__file__).resolve().parents[3]
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc and prctl")


@pytest.fixture(scope="module")
def pool() -> Iterator[EvaluationPool]:
    with EvaluationPool(workers=1, timeout=0.4, memory_mb=512) as running:
        yield running


def run(pool: EvaluationPool, code: str, tests: list[str] | None = None, setup: str = "") -> EvaluationResult:
    return pool.submit(code, TESTS if tests is None else tests, setup).result(timeout=60)


@linux_only
def test_orphans_in_sessions_of_their_own_are_found_and_killed(pool: EvaluationPool) -> None:
    mark = f"7{os.getpid()}.25"
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
    assert not processes_with(f"sleep\0{mark}")


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a worker")
def test_descriptors_directories_and_zombies_do_not_pile_up(pool: EvaluationPool) -> None:
    run(pool, GOOD)
    worker = only_worker(pool)
    before = len(os.listdir(f"/proc/{worker}/fd"))
    hostile = [
        "import os\nos.mkdir('d')\nopen('d/x', 'w')\nos.chmod('d', 0)\nos.fork()\nos._exit(0)",
        "import os\nos.abort()",
    ]
    for index in range(40):
        run(pool, hostile[index % 2] if index % 4 == 0 else GOOD)
    assert len(os.listdir(f"/proc/{worker}/fd")) == before
    base = os.readlink(f"/proc/{worker}/cwd")
    assert sorted(os.listdir(base)) == ["errors.txt", "lock"]
    assert Path(f"/proc/{worker}/task/{worker}/children").read_text() == ""


@linux_only
def test_a_sample_that_kills_its_worker_costs_one_retry_and_is_called_crashed(pool: EvaluationPool) -> None:
    code = f"import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n{GOOD}"
    assert run(pool, code).outcome == "crashed"
    assert run(pool, GOOD)


@linux_only
def test_a_worker_that_dies_for_another_reason_loses_no_sample(pool: EvaluationPool) -> None:
    run(pool, GOOD)
    os.kill(only_worker(pool), signal.SIGKILL)
    assert run(pool, GOOD)


@linux_only
def test_a_sample_that_stops_its_worker_does_not_stop_the_run(pool: EvaluationPool) -> None:
    assert run(pool, f"import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n{GOOD}")


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


def test_a_sandbox_that_judges_wrongly_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_GOOD", "def pva_sae_check(n): return n")
    with pytest.raises(PipelineError, match="does not work on this machine"):
        EvaluationPool(1)


def test_a_sandbox_that_passes_everything_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_BAD", pool_module._GOOD)
    with pytest.raises(PipelineError, match="must end as wrong_answer ended as passed"):
        EvaluationPool(1)


def test_a_worker_that_cannot_start_stops_the_run_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "worker.py"
    broken.write_text("raise OSError('no such device')")
    monkeypatch.setattr("common.execution.worker_process._SCRIPT", broken)
    with pytest.raises(PipelineError, match="no such device"):
        EvaluationPool(1)


def test_a_sandbox_that_breaks_later_is_noticed_before_the_next_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SELF_CHECK_EVERY", 3)
    with EvaluationPool(1) as checked:
        assert all(run(checked, GOOD) for _ in range(3))
        monkeypatch.setattr(pool_module, "_GOOD", "")
        for _ in range(2):
            with pytest.raises(PipelineError, match="does not work"):
                run(checked, GOOD)


@linux_only
def test_killing_the_pipeline_ends_worker_and_sample_and_the_next_run_sweeps_up(tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = f"open({str(started)!r}, 'w').write(str(__import__('os').getpid()))\nwhile True: pass"
    script = f"from common.execution import evaluate_code\nevaluate_code({program!r}, {TESTS!r}, timeout=60)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    pipeline = subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=REPOSITORY)
    wait_until(lambda: started.exists() and started.read_text())
    sample = int(started.read_text())
    worker = int(Path(f"/proc/{sample}/stat").read_text().rpartition(")")[2].split()[1])
    pipeline.kill()
    pipeline.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (sample, worker)))
    assert [name for name in os.listdir(tmp_path) if name.startswith("pva-sae-sandbox-")]
    again = f"from common.execution import evaluate_code\nassert evaluate_code({GOOD!r}, {TESTS!r})"
    subprocess.run([sys.executable, "-c", again], env=environment, cwd=REPOSITORY, check=True)
    assert not [name for name in os.listdir(tmp_path) if name.startswith("pva-sae-sandbox-")]


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_optimised_python_judges_the_same(flag: str) -> None:
    script = f"""
from common.execution import evaluate_code
import sys
tests = {TESTS!r} + ['x = f(1)\\nassert x == 2']
ends = [evaluate_code(code, tests).outcome for code in ({GOOD!r}, 'def f(x): return x')]
sys.exit(0 if ends == ['passed', 'wrong_answer'] else 1)
"""
    environment = {**os.environ, "PYTHONOPTIMIZE": "2", "LANG": "C", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, flag, "-c", script], cwd=REPOSITORY, env=environment, check=True)


def test_temporary_directories_are_private() -> None:
    with EvaluationPool(1) as running:
        base = Path(only_worker_directory(running))
        assert base.parent == Path(tempfile.gettempdir())
        assert base.stat().st_mode & 0o077 == 0
    assert not base.exists()


def only_worker(pool: EvaluationPool) -> int:
    worker = pool._slots[0]._worker
    assert worker is not None
    return worker._process.pid


def processes_with(words: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if words in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def only_worker_directory(pool: EvaluationPool) -> str:
    worker = pool._slots[0]._worker
    assert worker is not None
    return worker._directory
