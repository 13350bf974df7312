"""The script of `--script-only`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from common.runs.artifacts import PhasePaths
from launcher.engine import Work
from launcher.slurm_options import SlurmOptions
from launcher.slurm_script import script_text, write_script
from tests.launcher.slurm_fakes import SLICES, FakeSlurm

pytestmark = pytest.mark.unit


WORKS = [
    Work(
        span,
        ("python3", "run.py", "phase", "7.3", "--start", str(span.start), "--note", "a'b"),
        Path("w.log"),
        {"X": "1 2"},
    )
    for span in SLICES[:2]
]


def test_the_script_holds_the_options_the_workers_and_the_merge(tmp_path: Path) -> None:
    options = SlurmOptions(
        minutes=90, partition="gpu", array_parallelism=1, setup=("module load cuda",), cpus_per_task=2
    )
    text = script_text(tmp_path / "s.sh", "7.3", WORKS, options, "python3 run.py phase 7.3", tmp_path / "%A_%a.log")
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in ("--array=0-1%1", "--time=90", "--partition=gpu", "--cpus-per-task=2", "--signal=TERM@90", "--requeue"):
        assert f"#SBATCH {line}" in lines
    assert f"#SBATCH --output={tmp_path}/%A_%a.log" in lines
    assert "module load cuda" in lines
    assert any(line.startswith("#") and line.endswith("python3 run.py phase 7.3") for line in lines)
    assert lines.index("module load cuda") > max(n for n, line in enumerate(lines) if line.startswith("#SBATCH"))


@pytest.mark.parametrize(("index", "first"), [("0", "0"), ("1", "4")])
def test_the_script_runs_the_worker_of_its_index(tmp_path: Path, slurm: FakeSlurm, index: str, first: str) -> None:
    paths = PhasePaths(tmp_path / "phase7_3")
    path = write_script(paths, "7.3", WORKS, SlurmOptions(), "merge")
    slurm.script("srun", 'echo "$X"; for word in "$@"; do echo "$word"; done')
    done = subprocess.run(
        [path], env={**os.environ, "SLURM_ARRAY_TASK_ID": index}, capture_output=True, text=True, check=False
    )
    words = done.stdout.splitlines()
    assert words[0] == "1 2"
    assert words[words.index("python3") :] == list(WORKS[int(index)].command)
    assert first in words


def test_the_script_refuses_an_index_that_it_does_not_know(tmp_path: Path, slurm: FakeSlurm) -> None:
    path = write_script(PhasePaths(tmp_path / "phase7_3"), "7.3", WORKS, SlurmOptions(), "merge")
    done = subprocess.run(
        [path], env={**os.environ, "SLURM_ARRAY_TASK_ID": "7"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "this array has tasks 0 to 1\n")
    assert slurm.calls("srun") == []
