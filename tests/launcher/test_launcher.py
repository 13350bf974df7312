"""The launcher as a user runs it, on the tiny random model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from common.runs.artifacts import PhasePaths
from common.runs.locks import span_lock
from common.runs.slices import Span
from launcher.main import main
from tests.cli.conftest import Workspace, whole  # noqa: F401
from tests.cli.helpers import Answer, record, refusal, stopped
from tests.cli.steering_place import done, quietly
from tests.launcher.launched import alive, assert_same_results, begin, ended, launch, wait_for

pytestmark = pytest.mark.smoke
TWO = ("--devices", "cpu,cpu")
LONG = ("--set", "max_new_tokens=400", "--batch-size", 1)
Launch = Callable[..., Answer]


@pytest.fixture
def data(workspace: Workspace, tmp_path: Path) -> Path:
    return workspace.copy(tmp_path / "data")


@pytest.fixture
def here(workspace: Workspace, data: Path, capfd: pytest.CaptureFixture[str]) -> Launch:
    """Runs the launcher in this process, on phase 1.0 unless another is named."""

    def run(*more: object, phase: str = "1.0") -> Answer:
        capfd.readouterr()
        code = main([str(word) for word in words(workspace, data, *more, phase=phase)])
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


def words(workspace: Workspace, data: Path, *more: object, phase: str = "1.0") -> list[object]:
    return ["--phase", phase, "--profile", workspace.profile, "--data-dir", data, *more]


def test_two_workers_publish_the_bytes_of_a_single_process(workspace: Workspace, data: Path, whole: Path) -> None:  # noqa: F811
    answer = launch(*words(workspace, data, *TWO))
    assert answer.code == 0, answer
    assert_same_results(data / "phase1_0", whole / "phase1_0")
    made = record(data)
    assert made["complete"] and [item["span"] for item in made["workers"]] == [[0, 7], [8, 15]]
    assert "positions 0 to 7 on cpu 1, log: " in answer.err and "positions 8 to 15 on cpu 2" in answer.err
    assert "16 of 16 positions, cpu 1 100%, cpu 2 100%" in answer.err
    logs = sorted(path.name for path in (data / "phase1_0" / "logs").glob("worker_*"))
    assert logs == ["worker_000000-000007.log", "worker_000008-000015.log"]
    again = launch(*words(workspace, data, *TWO))
    assert again.code == 0 and "nothing to do, positions 0 to 15 are done" in again.err
    assert record(data)["record_id"] == made["record_id"]


def test_a_request_to_stop_ends_every_worker_after_it_has_saved(workspace: Workspace, data: Path) -> None:
    paths = PhasePaths(data / "phase1_0")
    launcher = begin(*words(workspace, data, *TWO, *LONG))
    try:
        seen = wait_for(launcher, paths, lambda found: len(found) == 2 and all(item.done for item in found))
        asked = time.monotonic()
        launcher.send_signal(signal.SIGTERM)
    finally:
        answer = ended(launcher)
    assert time.monotonic() - asked < 30
    line = stopped(answer, 130)
    assert f"--phase 1.0 --profile {workspace.profile}" in line and "; to go on: python3 multi_gpu_launcher.py" in line
    after = wait_for(launcher, paths, lambda found: True) if launcher.poll() is None else None
    assert after is None and not any(alive(item.pid) for item in seen)
    states = [json.loads(path.read_text())["state"] for path in sorted(paths.slices.glob("*.json"))]
    assert states == ["stopped", "stopped"]
    generated, tested = (
        sorted(path.name[:13] for path in paths.stage(stage, "greedy").glob("*.parquet"))
        for stage in ("generation", "evaluation")
    )
    assert generated == tested and len(tested) >= 2
    assert not paths.metadata.exists()


def test_a_dry_run_says_how_it_would_be_cut_and_writes_nothing(here: Launch, data: Path) -> None:
    answer = here(*TWO, "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines() == ["positions 0 to 7 on cpu 1", "positions 8 to 15 on cpu 2"]
    assert not (data / "phase1_0").exists()


def test_a_phase_that_cannot_be_sliced_runs_as_one_process(here: Launch, data: Path) -> None:
    shutil.rmtree(data / "phase0_1")
    answer = here(*TWO, phase="0.1")
    assert answer.code == 0 and "phase 0.1 works on all problems at once: one process on cpu 1" in answer.err
    assert (data / "phase0_1" / "metadata.json").is_file()


def test_a_slice_that_somebody_works_on_is_refused(here: Launch, data: Path) -> None:
    with span_lock(PhasePaths(data / "phase1_0").locks, Span(4, 7)):
        line = stopped(here(*TWO), 2)
    assert f"positions 4 to 7 are being worked on by process {os.getpid()}" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--start", 9, "--end", 3), "--start 9 comes after --end 3"),
        (("--gpus", "7777"), "cuda:7777 does not exist"),
        (("--devices=",), "--devices is empty"),
        (("--partition", "long"), "--partition: for --engine slurm only"),
        (("--engine", "slurm", *TWO), "--devices: for --engine local only"),
        (("--select", "correct=3"), "phase 1.0 chooses no coefficient"),
        (("--set", "seeed=1"), "did you mean 'seed'"),
        (("--worker",), "unrecognized arguments: --worker"),
        (("--devicess", "cpu"), "did you mean '--devices'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    here: Launch, data: Path, more: tuple[object, ...], said: str
) -> None:
    assert said in refusal(here(*more))
    assert not (data / "phase1_0").exists()


@pytest.mark.parametrize(
    ("phase", "said"),
    [("9", "phase '9' is unknown"), ("3.6", "phase 3.6 reads phase 3.5:"), ("2.5", "phase 2.5 reads phase 1.0")],
)
def test_a_phase_that_cannot_run_is_refused_in_one_line(here: Launch, phase: str, said: str) -> None:
    assert said in refusal(here(*TWO, phase=phase))


def test_older_numbers_of_phases_are_understood(here: Launch) -> None:
    for older, said in (
        ("1.2", "phase 3.5 reads phase 2.5"),
        ("2", "phase 2.5 reads phase 1.0"),
        ("3", "phase 3.8 reads"),
    ):
        assert said in refusal(here(*TWO, phase=older))


def test_results_of_other_settings_are_refused_by_the_process_that_opens(
    workspace: Workspace, here: Launch, data: Path
) -> None:
    done(quietly("phase", "1.0", *words(workspace, data)[2:], "--end", 3))
    line = stopped(here(*TWO, "--set", "max_new_tokens=5"), 2)
    assert "max_new_tokens: 24 → 5" in line and "use --fresh" in line
