"""Submitting an array through submitit to an sbatch of scripts, and the note by which it is found again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.errors import PipelineError, UsageError
from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from launcher.engine import Work
from launcher.slurm_array import ArrayNote, note_path, read_note, refusal, slurm_log, submit, write_note
from launcher.slurm_options import SlurmOptions
from launcher.slurm_queue import find_job
from tests.launcher.slurm_fakes import NAME, SLICES, FakeSlurm

pytestmark = pytest.mark.unit


def works(paths: PhasePaths, many: int = 2) -> list[Work]:
    return [Work(span, ("true",), paths.worker_log(*span), {}) for span in SLICES[:many]]


@pytest.fixture
def accepting(slurm: FakeSlurm) -> FakeSlurm:
    """A Slurm that takes what it is given, and keeps the script and the environment."""
    root = slurm.root
    slurm.script("sbatch", f'cp "$1" "{root}/script"; env > "{root}/environment"; echo "Submitted batch job 5"')
    slurm.says("scontrol", "ProctrackType           = proctrack/cgroup\n")
    return slurm


def test_an_array_is_submitted_with_its_options_and_noted(paths: PhasePaths, accepting: FakeSlurm) -> None:
    options = SlurmOptions(
        90, "gpu", None, "32G", "1", 8, 3, (("qos", "high"), ("exclusive", None)), ("module load x",)
    )
    note = submit(paths, "1.0", works(paths), options)
    assert (note.job, note.slices, read_note(paths)) == ("5", SLICES[:2], note)
    lines = (accepting.root / "script").read_text().splitlines()
    for option in (
        "array=0-1%2",
        "time=90",
        "partition=gpu",
        "mem=32G",
        "gpus-per-task=1",
        "cpus-per-task=8",
        "qos=high",
    ):
        assert f"#SBATCH --{option}" in lines
    for option in (
        "exclusive",
        "requeue",
        "signal=USR2@90",
        "ntasks=1",
        f"chdir={REPOSITORY}",
        f"job-name={note.name}",
    ):
        assert f"#SBATCH --{option}" in lines
    assert "module load x" in lines
    assert any(line.startswith("srun ") and " --cpus-per-task=8 " in line for line in lines)


def test_each_tasks_own_log_is_where_slurm_writes_it(paths: PhasePaths, accepting: FakeSlurm) -> None:
    note = submit(paths, "1.0", works(paths), SlurmOptions())
    output = next(line for line in (accepting.root / "script").read_text().splitlines() if "--output=" in line)
    written = output.partition("=")[2].replace("%A_%a", f"{note.job}_1")
    assert Path(written) == slurm_log(paths, note.job, 1, 2)
    submit(paths, "1.0", works(paths, 1), SlurmOptions())
    output = next(line for line in (accepting.root / "script").read_text().splitlines() if "--output=" in line)
    assert Path(output.partition("=")[2].replace("%j", "5")) == slurm_log(paths, "5", 0, 1)


def test_from_within_a_job_its_variables_are_hidden_from_sbatch(
    paths: PhasePaths, accepting: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CONF", "SBATCH_ACCOUNT"):
        monkeypatch.setenv(name, "7")
    submit(paths, "1.0", works(paths), SlurmOptions())
    names = {line.partition("=")[0] for line in (accepting.root / "environment").read_text().splitlines()}
    assert {"SLURM_CONF", "SBATCH_ACCOUNT"} <= names
    assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_CPU"} & names
    assert os.environ["SLURM_MEM_PER_CPU"] == "7"


def test_a_refused_array_leaves_no_note_and_is_told_in_one_line(
    paths: PhasePaths, accepting: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    accepting.complains("sbatch", "sbatch: error: Batch job submission failed: Invalid account")
    with pytest.raises(UsageError, match="^sbatch refused the array: Invalid account; see --help"):
        submit(paths, "1.0", works(paths), SlurmOptions())
    assert capfd.readouterr().err == ""
    assert not note_path(paths).exists()


def test_an_array_that_got_into_the_queue_before_an_interruption_stays_noted(
    paths: PhasePaths, accepting: FakeSlurm
) -> None:
    accepting.complains("sbatch", "interrupted")
    accepting.says("squeue", "5\n5\n")
    with pytest.raises(UsageError):
        submit(paths, "1.0", works(paths), SlurmOptions())
    note = read_note(paths)
    assert note is not None
    assert note.job == "5"


def test_a_refusal_of_sbatch_is_told_once_and_without_its_name_on_every_line() -> None:
    said = "sbatch: error: no such partition: gpuu\nsbatch: error: Batch job submission failed: Invalid partition"
    assert refusal(said) == "no such partition: gpuu; Invalid partition"
    assert refusal("") == "it does not say why"


def test_an_array_whose_id_was_never_written_is_found_by_its_name(
    paths: PhasePaths, note: ArrayNote, slurm: FakeSlurm
) -> None:
    write_note(paths, note._replace(job=""))
    slurm.says("squeue", "7\n7\n")
    found = read_note(paths)
    assert found is not None
    assert found.job == "7"
    assert f"--name={NAME}" in slurm.calls("squeue")[0]
    assert find_job(NAME) == "7"


def test_a_note_that_cannot_be_read_is_refused_by_name(paths: PhasePaths) -> None:
    write_json(note_path(paths), {"name": NAME})
    with pytest.raises(PipelineError, match="slurm.json is damaged; look for its jobs in squeue"):
        read_note(paths)


def test_a_note_comes_back_as_it_was_written(paths: PhasePaths, note: ArrayNote) -> None:
    assert read_note(paths) == note
    assert json.loads(note_path(paths).read_text())["job"] == "7"
