"""A phase's directory, a note of an array in it, and Slurm's commands as scripts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from common.logging import ROOT
from common.runs.artifacts import PhasePaths
from launcher.slurm_array import ArrayNote, write_note
from tests.cli.conftest import left_as_found, steering_made, workspace  # noqa: F401
from tests.launcher.slurm_fakes import NAME, SLICES, FakeSlurm


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase1_0")


@pytest.fixture
def note(paths: PhasePaths) -> ArrayNote:
    logs = tuple(str(paths.worker_log(*span)) for span in SLICES)
    kept = ArrayNote(NAME, "7", SLICES, logs)
    write_note(paths, kept)
    return kept


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the project's log reach pytest's."""
    monkeypatch.setattr(logging.getLogger(ROOT), "propagate", True)
