"""The Slurm engine beside Slurm's commands as scripts: attaching, watching, cancelling."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pytest

from common.errors import PipelineError, UsageError
from common.runs.artifacts import PhasePaths
from launcher.engine import Ended, Place
from launcher.slurm import SlurmEngine, build, cancel_array
from launcher.slurm_array import ArrayNote, note_path
from launcher.slurm_options import SlurmOptions, add_slurm_options
from launcher.slurm_queue import Task
from launcher.slurm_watch import ask_for_all
from tests.launcher.slurm_fakes import JOBS, NAME, SLICES, FakeSlurm, polled, write_record

pytestmark = pytest.mark.unit


def test_what_slurm_has_forgotten_is_asked_of_the_accounting(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    slurm.says("scontrol", JOBS.splitlines()[0])
    slurm.says("sacct", "7_0|COMPLETED|0:0|n1\n7_1|OUT_OF_MEMORY|0:125|n1\n7_2|NODE_FAIL|0:0|n2\n")
    tasks = ask_for_all(paths, note, {})
    assert [tasks[index].state for index in range(5)] == [
        *("COMPLETED", "OUT_OF_MEMORY", "NODE_FAIL"),
        *("PENDING", "PENDING"),
    ]


def test_without_accounting_the_slice_records_judge_what_slurm_has_forgotten(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    slurm.complains("scontrol", "slurm_load_jobs error: Invalid job id specified")
    for span, state in ((SLICES[0], "done"), (SLICES[1], "failed")):
        write_record(paths, span, state)
    tasks = ask_for_all(paths, note, {3: Task("TIMEOUT")})
    assert [tasks[index].state for index in range(5)] == ["COMPLETED", "FORGOTTEN", "FORGOTTEN", "TIMEOUT", "FORGOTTEN"]
    assert "no longer knows how" in tasks[1].cause()


def engine_of(paths: PhasePaths) -> SlurmEngine:
    return SlurmEngine(SlurmOptions(), paths, "1.0")


def test_a_live_array_is_attached_to_and_reported_task_by_task(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    slurm.says("scontrol", JOBS)
    engine = engine_of(paths)
    assert engine.attach() == SLICES
    assert engine.describe().startswith("Slurm array 7: 1 pending (BeginTime")
    ended = polled(engine)
    log = paths.slices / "slurm" / "7_1_0_log.out"
    assert ended == [
        Ended(SLICES[0], True, ""),
        Ended(
            SLICES[1],
            False,
            f"signal 9 on gpu07, mostly for want of memory: raise --mem (Slurm's own log: {log})",
        ),
    ]
    assert "scancel 7" in engine.leave()
    assert note_path(paths).exists()


def test_an_array_that_has_ended_is_not_attached_to_and_its_failures_are_told(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm, caplog: pytest.LogCaptureFixture, loud: None
) -> None:
    slurm.says("scontrol", "\n".join(JOBS.splitlines()[2:]))
    assert engine_of(paths).attach() == ()
    assert "the last array, 7: positions 4 to 7: signal 9 on gpu07" in caplog.text
    assert not note_path(paths).exists()


def test_without_a_note_there_is_nothing_to_attach_to(paths: PhasePaths, slurm: FakeSlurm) -> None:
    assert engine_of(paths).attach() == ()
    assert slurm.calls("scontrol") == []


def test_a_silent_slurm_is_no_reason_to_submit_a_second_time(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    slurm.complains("scontrol", "Unable to contact slurm controller")
    with pytest.raises(PipelineError, match="run the same command again when Slurm answers"):
        engine_of(paths).attach()
    assert note_path(paths).exists()


def test_while_slurm_is_silent_nothing_ends_and_the_description_says_so(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    slurm.says("scontrol", JOBS.splitlines()[0])
    engine = engine_of(paths)
    engine.attach()
    slurm.complains("scontrol", "Unable to contact slurm controller")
    for _ in range(100):
        assert engine.poll() == []
        if "does not answer" in engine.describe():
            break
        time.sleep(0.05)
    assert "2 pending (Resources)" in engine.describe()
    assert "Unable to contact slurm controller" in engine.describe()


def test_a_requeued_task_is_told_of_with_the_node_that_was_lost(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm, caplog: pytest.LogCaptureFixture, loud: None
) -> None:
    line = f"JobId=9 ArrayJobId=7 ArrayTaskId=2 JobName={NAME} JobState=RUNNING Reason=None Restarts=0 NodeList=gpu07\n"
    slurm.says("scontrol", line)
    slurm.says("sinfo", "down*|Not responding\n")
    engine = engine_of(paths)
    engine.attach()
    slurm.says("scontrol", line.replace("Restarts=0", "Restarts=1").replace("gpu07", "(null)"))
    polled(engine)
    assert "positions 8 to 11: requeued by Slurm, restart 1 (its node gpu07 is down*: Not responding)" in caplog.text


def test_when_every_task_is_done_the_note_and_what_slurm_wrote_are_gone(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    folder = paths.slices / "slurm"
    folder.mkdir()
    slurm.says("scontrol", JOBS.splitlines()[0])
    engine = engine_of(paths)
    engine.attach()
    done = [f"JobId=1 ArrayJobId=7 ArrayTaskId={index} JobName={NAME} JobState=COMPLETED" for index in range(5)]
    slurm.says("scontrol", "\n".join(done))
    assert [one.ok for one in polled(engine)] == [True] * 5
    assert not note_path(paths).exists()
    assert not folder.exists()
    assert engine.poll() == []


def test_cancelling_names_the_array_and_forgets_it(paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm) -> None:
    slurm.script("scancel", f'sed -i "s/PENDING/CANCELLED/" "{slurm.root}/scontrol.text"')
    slurm.says("scontrol", JOBS)
    assert cancel_array(paths).startswith("Slurm array 7 is cancelled")
    assert slurm.calls("scancel") == ["7"]
    assert not note_path(paths).exists()


def test_there_is_nothing_to_cancel_without_an_array(paths: PhasePaths, slurm: FakeSlurm) -> None:
    with pytest.raises(UsageError, match="no array of this phase is in the queue"):
        cancel_array(paths)


def test_without_slurm_the_engine_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch is not to be found: no Slurm here; start from a login node"):
        build(no_options(), Place("1.0", tmp_path, []))


def no_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_slurm_options(parser)
    return parser.parse_args([])
