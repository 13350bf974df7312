"""The launcher on a real Slurm of one node: what it makes is what one process makes, whatever happens to the array."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.runs.artifacts import PhasePaths
from common.runs.slices import Span
from launcher.engine import Ended, Work
from launcher.slurm import SlurmEngine
from launcher.slurm_options import SlurmOptions
from tests.cli.conftest import Workspace
from tests.cli.helpers import refusal, stopped
from tests.launcher.real_slurm import SLOWLY, Desk, alone, published
from tests.slurm_cluster import SlurmCluster, cluster


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with cluster() as started:
        yield started


@pytest.fixture(scope="module")
def slowly_alone(workspace: Workspace, slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The data files of phase 1.0 as one slow, undisturbed process makes them."""
    data = workspace.copy(tmp_path_factory.mktemp("alone") / "data")
    return alone(workspace.profile, data, "1.0", *SLOWLY)


@pytest.fixture
def desk(slurm: SlurmCluster, workspace: Workspace, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(slurm, workspace.profile, workspace.copy(tmp_path / "data"))
    yield made
    slurm.ask("scancel", "--user", getpass.getuser(), check=False)
    slurm.wait_for(lambda: not slurm.queue())


@pytest.mark.smoke
def test_an_array_of_two_makes_what_one_process_makes(desk: Desk, workspace: Workspace, tmp_path: Path) -> None:
    answer = desk.launch("1.0", "--slices", 2)
    assert answer.code == 0, answer
    assert re.search(r"submitted as Slurm array \d+, 2 tasks", answer.err)
    one = alone(workspace.profile, workspace.copy(tmp_path / "alone"), "1.0")
    assert published(desk.phase("1.0")) == one
    assert len(one) > 16
    assert not (desk.phase("1.0") / "slices" / "slurm.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["1.0", "3.5", "3.6", "4.8", "7.3"])
def test_an_array_of_four_makes_what_one_process_makes(
    slurm: SlurmCluster, steering_made: Path, tmp_path: Path, phase: str
) -> None:
    made = steering_made.parent / "data"
    for name in ("array", "alone"):
        shutil.copytree(made, tmp_path / name)
        shutil.rmtree(tmp_path / name / f"phase{phase.replace('.', '_')}", ignore_errors=True)
    desk = Desk(slurm, steering_made, tmp_path / "array")
    settings = ("--set", "phase3_5_temperatures=0", "--set", "phase4_8_controls=1")
    if phase == "3.6":  # its split holds six problems
        settings += ("--batch-size", "1")
    answer = desk.launch(phase, "--slices", 4, *settings)
    assert answer.code == 0, answer
    assert "4 tasks" in answer.err
    assert published(desk.phase(phase)) == alone(steering_made, tmp_path / "alone", phase, *settings)


@pytest.mark.slow
def test_a_lost_node_is_named_and_requeued_tasks_go_on_where_they_were(
    desk: Desk, slowly_alone: dict[str, str]
) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        desk.wait_until_stored(3, launcher)
        desk.cluster.node("down")
        launcher.wait(lambda: launcher.said().count("requeued by Slurm, restart 1") == 2)
        desk.wait_until_gone()
        before = desk.stored()
        desk.cluster.node("resume")
        desk.start_requeued_at_once()
        launcher.wait(lambda: len(desk.stored()) > len(before))
        assert before <= desk.stored()
        answer = launcher.answer()
    assert answer.code == 0, answer
    assert f"its node {desk.cluster.host} is down: test" in answer.err
    assert "what is stored is kept, it goes on by itself" in answer.err
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_a_lost_node_without_requeueing_is_a_failure_that_the_same_command_mends(
    desk: Desk, slowly_alone: dict[str, str]
) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        job = desk.wait_until_stored(3, launcher)
        for index in range(2):
            desk.cluster.ask("scontrol", "update", f"JobId={job}_{index}", "Requeue=0")
        desk.cluster.node("down")
        answer = launcher.answer()
    desk.cluster.node("resume")
    assert f"node failure on {desk.cluster.host}; its slice is computed by the same command again" in answer.err
    assert "the same command computes what is missing: python3 multi_gpu_launcher.py" in stopped(answer, 1)
    assert desk.launch("1.0", "--slices", 2, *SLOWLY).code == 0
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_a_warned_task_saves_is_requeued_and_goes_on(desk: Desk, slowly_alone: dict[str, str]) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        job = desk.wait_until_stored(3, launcher)
        desk.cluster.ask("scancel", "--signal=USR2", f"{job}_0")
        launcher.wait(lambda: any("BeginTime" in line for line in desk.cluster.queue()))
        log = next(path for path in desk.phase("1.0").glob("logs/worker_000000-*.log"))
        assert "stopped with" in log.read_text()
        desk.start_requeued_at_once()
        answer = launcher.answer()
    assert answer.code == 0, answer
    assert "restart 1" in log.read_text()
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_ctrl_c_leaves_the_array_alone_and_the_same_command_attaches_to_it(
    desk: Desk, slowly_alone: dict[str, str]
) -> None:
    before = desk.arrays()
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        job = desk.wait_until_stored(1, launcher)
        launcher.process.send_signal(signal.SIGINT)
        line = stopped(launcher.answer(), 130)
    assert f"Slurm array {job} goes on; the same command again attaches to it; `scancel {job}`" in line
    assert any(line.startswith(f"{job}_") for line in desk.cluster.queue())
    answer = desk.launch("1.0", "--slices", 2, *SLOWLY)
    assert answer.code == 0, answer
    assert f"attached to Slurm array {job}:" in answer.err
    assert "submitted" not in answer.err
    assert desk.arrays() - before == {job}
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_a_launcher_that_is_killed_before_it_knew_the_arrays_id_finds_it_by_name(desk: Desk) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        job = desk.wait_until_stored(1, launcher)
    note = desk.phase("1.0") / "slices" / "slurm.json"
    note.write_text(note.read_text().replace(f'"job": "{job}"', '"job": ""'))
    answer = desk.launch("1.0", "--slices", 2, *SLOWLY)
    assert (answer.code, f"attached to Slurm array {job}:" in answer.err) == (0, True), answer


@pytest.mark.slow
def test_a_cancelled_array_ends_the_waiting_launcher_and_is_completed_by_the_same_command(
    desk: Desk, slowly_alone: dict[str, str]
) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        job = desk.wait_until_stored(3, launcher)
        cancelled = desk.launch("1.0", "--cancel")
        assert cancelled.code == 0, cancelled
        assert cancelled.out.startswith(f"Slurm array {job} is cancelled; what was finished is kept")
        answer = launcher.answer()
    assert "cancelled" in answer.err
    assert "2 of 2 workers failed" in stopped(answer, 1)
    assert not desk.cluster.queue()
    kept = desk.stored()
    assert len(kept) >= 3
    with desk.launching("1.0", "--slices", 3, *SLOWLY) as launcher:
        desk.wait_until_stored(len(kept) + 1, launcher)
        assert kept < desk.stored()
        again = launcher.answer()
    assert again.code == 0, again
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_a_killed_worker_is_told_of_with_its_signal_and_its_log(desk: Desk, slowly_alone: dict[str, str]) -> None:
    with desk.launching("1.0", "--slices", 2, *SLOWLY) as launcher:
        record = desk.phase("1.0") / "slices" / "000008-000015.json"
        launcher.wait(lambda: record.exists() and json.loads(record.read_text())["done"] > 0)
        os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        answer = launcher.answer()
    line = next(line for line in answer.err.splitlines() if "positions 8 to 15 on task 1 ended" in line)
    assert f"signal 9 on {desk.cluster.host}, mostly for want of memory: raise --mem" in line
    assert "1 of 2 workers failed" in stopped(answer, 1)
    assert "worker_000008-000015.log" in answer.err
    assert desk.launch("1.0", "--slices", 2, *SLOWLY).code == 0
    assert published(desk.phase("1.0")) == slowly_alone


@pytest.mark.slow
def test_a_setup_that_fails_is_found_in_slurms_own_log(desk: Desk) -> None:
    answer = desk.launch("1.0", "--slices", 2, "--setup", "echo no such module >&2; exit 7")
    assert answer.code == 1
    logs = set(re.findall(r"exit 7 on \S+ \(Slurm's own log: (\S+\.out)\)", answer.err))
    assert len(logs) == 2
    assert all("no such module" in Path(log).read_text() for log in logs)


@pytest.mark.slow
def test_one_engine_runs_an_array_and_then_a_single_task(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    engine = SlurmEngine(SlurmOptions(minutes=5), PhasePaths(tmp_path), "4.5")
    for codes in ((0, 3), (0,), (5,)):
        programs = [
            Work(Span(n, n), ("sh", "-c", f"exit {code}"), tmp_path / "log", {}) for n, code in enumerate(codes)
        ]
        engine.start(programs)
        ended = all_ended(slurm, engine, len(codes))
        assert [one.reason.partition(" on ")[0] for one in ended] == [f"exit {code}" if code else "" for code in codes]
    assert engine.poll() == []


def all_ended(slurm: SlurmCluster, engine: SlurmEngine, many: int) -> list[Ended]:
    """Polls until `many` tasks have ended, and returns them in order."""
    ended: list[Ended] = []

    def enough() -> bool:
        ended.extend(engine.poll())
        return len(ended) >= many

    slurm.wait_for(enough)
    return sorted(ended)


@pytest.mark.slow
def test_what_slurm_refuses_is_refused_in_one_line(desk: Desk) -> None:
    answer = desk.launch("1.0", "--partition", "nowhere")
    assert "sbatch refused the array: invalid partition specified: nowhere" in stopped(answer, 2)
    assert "there is no" not in answer.err
    assert not (desk.phase("1.0") / "slices" / "slurm.json").exists()
    line = refusal(desk.launch("1.0", "--time", "soon"))
    assert line.startswith("error: --time soon: write minutes (90), HH:MM:SS")


@pytest.mark.slow
def test_every_task_sees_its_own_gpus(desk: Desk) -> None:
    answer = desk.launch(
        "1.0",
        "--slices",
        2,
        "--gpus-per-task",
        1,
        "--device",
        "cpu",
        "--setup",
        'echo "GPU=$CUDA_VISIBLE_DEVICES"; exit 3',
    )
    logs = sorted(re.findall(r"own log: (\S+\.out)\)", answer.err))
    assert sorted({re.search(r"GPU=(\d)", Path(log).read_text())[1] for log in logs}) == ["0", "1"]  # type: ignore[index]


@pytest.mark.slow
def test_the_script_submitted_by_hand_and_its_merge_make_what_one_process_makes(
    desk: Desk, workspace: Workspace, tmp_path: Path
) -> None:
    answer = desk.launch("1.0", "--slices", 3, "--script-only", "--array-parallelism", 2)
    assert answer.code == 0, answer
    script = desk.phase("1.0") / "slices" / "slurm_array.sh"
    assert f"submit it with: sbatch {script}" in answer.out
    assert not desk.cluster.queue()
    text = script.read_text()
    environment = desk.environment()
    subprocess.run(["sbatch", "--wait", script], env=environment, check=True, timeout=200, cwd=tmp_path)
    merge = next(line for line in text.splitlines() if line.startswith("#     cd "))
    done = subprocess.run(
        merge[1:], shell=True, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done
    one = alone(workspace.profile, workspace.copy(tmp_path / "alone"), "1.0")
    assert published(desk.phase("1.0")) == one
