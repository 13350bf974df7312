"""Driving the real `run.py`, in a child process or in this one."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cli.main import main
from common.config import ENVIRONMENT_PREFIX
from common.logging import ROOT
from common.profiles import REPOSITORY
from common.runs.records import StageStore

PROFILE = """
model = "{root}/model"
model_local = true
n_layers = 3
d_model = 16
data_dir = "{root}/data"
[sae]
release = "{root}/saes"
id_pattern = "layer_{{layer}}"
format = "sae_lens"
site = "resid_post"
width = 24
local = true
[dataset]
name = "{root}/problems.jsonl"
local = true
[corpus]
name = "{root}/problems.jsonl"
local = true
[settings]
max_new_tokens = 24
batch_size = 4
evaluation_workers = 1
"""


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@contextmanager
def logging_left_as_found() -> Iterator[None]:
    """Gives back the log and the signal handler that a command sets up for its own process."""
    root = logging.getLogger(ROOT)
    before = (list(root.handlers), root.level, root.propagate, signal.getsignal(signal.SIGTERM))
    try:
        yield
    finally:
        root.handlers[:], root.level, root.propagate = before[:3]
        signal.signal(signal.SIGTERM, before[3])


def environment(**more: str) -> dict[str, str]:
    """Returns an environment without settings of the person who runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    return {**inherited, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **more}


def run(*arguments: object, cwd: Path | None = None, **more: str) -> Answer:
    """Runs `run.py` in a child process."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd or REPOSITORY,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def start(*arguments: object, **more: str) -> subprocess.Popen[str]:
    """Starts `run.py` in a child process of its own group."""
    return subprocess.Popen(
        command(*arguments),
        cwd=REPOSITORY,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def command(*arguments: object) -> list[str]:
    """Returns the command line of `run.py`."""
    return [sys.executable, str(REPOSITORY / "run.py"), *map(str, arguments)]


def finish(child: subprocess.Popen[str]) -> Answer:
    """Waits for a child and returns its answer."""
    out, err = child.communicate(timeout=60)
    return Answer(child.returncode, out, err)


def wait_until(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Waits until `condition` holds while `child` runs."""
    for _ in range(6000):
        if condition():
            return
        assert child.poll() is None, f"the command ended too early: {child.communicate()}"
        time.sleep(0.01)
    raise AssertionError("the condition never came true")


class Here:
    """Runs commands in this process, which has torch loaded already."""

    def __init__(self, read: Callable[[], tuple[str, str]]) -> None:
        self._read = read

    def __call__(self, *arguments: object) -> Answer:
        self._read()
        code = main([str(argument) for argument in arguments])
        out, err = self._read()
        return Answer(code, out, err)


def refusal(answer: Answer, code: int = 2) -> str:
    """Asserts that a command was refused in exactly one line, and returns that line."""
    assert "Traceback" not in answer.err + answer.out
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer
    assert lines[0].startswith("error: ")
    assert answer.code == code, answer
    assert answer.out == ""
    return lines[0]


def stopped(answer: Answer, code: int) -> str:
    """Asserts that a command that had begun to work ended with one error line, and returns that line."""
    assert "Traceback" not in answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, answer
    assert answer.err.splitlines()[-1] == lines[0]
    assert answer.code == code, answer
    return lines[0]


def tree(directory: Path) -> dict[str, str]:
    """Returns the digest of every file under `directory` but logs and locks."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not {"logs", "locks"} & set(path.relative_to(directory).parts)
    }


SAE_PROBLEMS = 16


def record(data: Path) -> dict[str, Any]:
    """Returns the record of phase 1.0."""
    return json.loads((data / "phase1_0" / "metadata.json").read_text())


def dataset(data: Path) -> pa.Table:
    """Returns the published data set of phase 1.0."""
    return pq.read_table(data / "phase1_0" / record(data)["dataset"])


def activations(data: Path) -> dict[str, bytes]:
    """Returns the bytes of every activation file."""
    root = data / "phase1_0" / "activations"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.npz")}


def segments(data: Path, stage: str = "generation") -> list[tuple[int, int]]:
    """Returns the spans that a stage has stored."""
    return [tuple(span) for span in StageStore(data / "phase1_0" / "segments" / stage / "greedy").spans()]


def loads_the_model(answer: Answer) -> bool:
    """Says whether a command loaded the model."""
    return " loading " in answer.err


class Directory:
    """A data directory of its own, and the commands on it."""

    def __init__(self, profile: Path, data: Path, here: Here) -> None:
        self.data, self.here = data, here
        self.options = ("--profile", profile, "--data-dir", data)

    def phase(self, number: str, *more: object) -> Answer:
        """Runs one phase in this process."""
        return self.here("phase", number, *self.options, *more)


def assert_same_data(one: Path, other: Path) -> None:
    """Asserts that two data directories hold the same data set and the same vectors."""
    assert dataset(one).equals(dataset(other))
    assert activations(one) == activations(other)
