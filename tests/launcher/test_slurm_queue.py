"""What Slurm's answers mean."""

from __future__ import annotations

import pytest

from common.errors import PipelineError
from launcher.slurm_queue import Task, indices, node_trouble, parse_accounting, parse_jobs, read_array, worded
from tests.launcher.slurm_fakes import JOBS, NAME, FakeSlurm

pytestmark = pytest.mark.unit


def test_indices_are_read_in_each_form_of_slurms() -> None:
    assert indices("3") == [3]
    assert indices("0-3%2") == [0, 1, 2, 3]
    assert indices("1,4-5") == [1, 4, 5]
    assert indices("0-9:3") == [0, 3, 6, 9]
    assert indices("(null)") == []


def test_an_answer_of_scontrol_becomes_one_state_a_task() -> None:
    waiting = Task("PENDING", "Resources")
    assert parse_jobs(JOBS, NAME) == {
        0: Task("COMPLETED", node="gpu07"),
        1: Task("FAILED", "NonZeroExitCode", 137, 0, "gpu07"),
        2: Task("PENDING", "BeginTime", restarts=1),
        **{3: waiting, 4: waiting},
    }


def test_a_job_of_another_name_is_none_of_ours() -> None:
    assert parse_jobs(JOBS, "phase1.0-ffffffff") == {}


def test_a_single_job_is_task_zero() -> None:
    assert parse_jobs(f"JobId=5 JobName={NAME} JobState=RUNNING Reason=None NodeList=n1", NAME) == {
        0: Task("RUNNING", node="n1")
    }


def test_an_answer_of_sacct_becomes_one_state_a_task() -> None:
    text = "7_0|COMPLETED|0:0|n1\n7_1|CANCELLED by 1000|0:15|n1\n7_2|OUT_OF_MEMORY|0:125|n2\n7_[3-4]|PENDING|0:0|\n"
    assert parse_accounting(text) == {
        0: Task("COMPLETED", node="n1"),
        1: Task("CANCELLED", "", 0, 15, "n1"),
        2: Task("OUT_OF_MEMORY", "", 0, 125, "n2"),
    }


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        (Task("FAILED", code=3, node="n1"), "exit 3 on n1"),
        (Task("FAILED", code=137), "signal 9, mostly for want of memory: raise --mem"),
        (Task("FAILED", signal=11), "signal 11"),
        (Task("OUT_OF_MEMORY", signal=125), "out of memory; raise --mem"),
        (Task("TIMEOUT"), "its time limit; raise --time"),
        (Task("CANCELLED", signal=15), "cancelled"),
        (Task("NODE_FAIL", node="n1"), "node failure on n1; its slice is computed by the same command again"),
        (Task("LAUNCH_FAILED", node="n1"), "launch failed on n1"),
    ],
)
def test_the_cause_of_a_bad_end_says_what_to_do(task: Task, cause: str) -> None:
    assert task.ended
    assert task.cause() == cause


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "CONFIGURING", "NEW"])
def test_a_state_that_is_not_known_to_be_an_end_is_none(state: str) -> None:
    assert not Task(state).ended


def test_an_array_is_worded_with_the_reasons_for_waiting() -> None:
    tasks = parse_jobs(JOBS, NAME).values()
    waiting = "1 pending (BeginTime: Slurm lets a requeued task wait about two minutes), 2 pending (Resources)"
    assert worded("7", tasks) == f"{waiting}, 1 done, 1 failed"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("JobHeldUser", "held: scontrol release 7"),
        ("launch_failed_requeued_held", "when the node is well: scontrol release 7"),
        ("PartitionTimeLimit", "a shorter --time"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved", "Nodes required for job are DOWN: see sinfo -R"),
        ("QOSMaxGRESPerUser", "limit of your quality of service"),
    ],
)
def test_a_reason_for_which_something_can_be_done_says_what(reason: str, words: str) -> None:
    assert words in worded("7", [Task("PENDING", reason)])


def test_a_silent_slurm_is_an_error_and_an_unknown_job_is_none(slurm: FakeSlurm) -> None:
    slurm.complains("scontrol", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(PipelineError, match="Unable to contact slurm controller"):
        read_array("7", NAME)
    slurm.complains("scontrol", "slurm_load_jobs error: Invalid job id specified")
    assert read_array("7", NAME) == {}


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("down|Not responding\n", "down: Not responding"),
        ("mixed*|none\n", "mixed*: none"),
        ("drained|broken fan\n", "drained: broken fan"),
        ("idle|none\n", ""),
        ("", ""),
    ],
)
def test_the_trouble_of_a_node_is_told_with_its_reason(slurm: FakeSlurm, text: str, trouble: str) -> None:
    slurm.says("sinfo", text)
    assert node_trouble("gpu07") == trouble
