"""One run of the pipeline on the bundled tiny model, in slices, shared by the tests that look at what it found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from common.profiles import REPOSITORY
from tests.organism_runs.sizes import SIZES
from tests.organism_runs.steering_runs import chosen, effects

__all__ = ["SIZES", "chosen", "effects"]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "run.py"), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=1800)


def done(*words: object) -> str:
    """Runs a command that must succeed; returns what it logged."""
    result = run(*words)
    assert result.returncode == 0, result.stderr
    return result.stderr


def refused(*words: object) -> str:
    """Runs a command that must be refused in one line; returns the line."""
    result = run(*words)
    lines = [line for line in result.stderr.splitlines() if "INFO" not in line]
    assert result.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


class Sliced(NamedTuple):
    """Where phases 0 to 1.0 lie, and what each command said."""

    data: Path
    ten: str
    again: str
    refusal: str
    rest: str


class Detected(NamedTuple):
    """Where phases 0 to 3.8 lie, and what each command said."""

    data: Path
    refusal: str
    evaluation: str


@pytest.fixture(scope="session")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Sliced:
    """Phases 0 and 0.1, and phase 1.0 in two slices with a refused ranking between them."""
    data = tmp_path_factory.mktemp("organism")
    options = ("--profile", "organism", "--data-dir", data)
    for phase in ("0", "0.1"):
        done("phase", phase, *options)
    return Sliced(
        data,
        ten=done("phase", "1.0", *options, "--start", 0, "--end", 9),
        again=done("phase", "1.0", *options, "--start", 0, "--end", 9),
        refusal=refused("phase", "2.5", *options),
        rest=done("phase", "1.0", *options),
    )


@pytest.fixture(scope="session")
def detected(sliced: Sliced) -> Detected:
    """The rest of the pipeline, phase 3.6 in two slices with a refused evaluation between them."""
    options = ("--profile", "organism", "--data-dir", sliced.data, *SIZES)
    done("pipeline", "--from", "2.2", "--to", "3.5", *options)
    done("phase", "3.6", *options, "--start", 0, "--end", 9)
    refusal = refused("phase", "3.8", *options)
    done("phase", "3.6", *options)
    return Detected(sliced.data, refusal, done("phase", "3.8", *options))


@pytest.fixture(scope="session")
def answered(detected: Detected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole pipeline with the profile's own steering, and the known answers that close it (minutes)."""
    data = tmp_path_factory.mktemp("answered") / "data"
    shutil.copytree(detected.data, data)
    done("pipeline", "--profile", "organism", "--data-dir", data, *SIZES)
    return data
