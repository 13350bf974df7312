"""Phases that can be sliced: one process, several workers, and workers of which one is killed give the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from common.runs.artifacts import SELECTED_COEFFICIENTS, PhasePaths
from common.runs.slice_records import SliceRecord
from tests.cli.steering_place import SIZES, done, publish_ranking, quietly
from tests.cli.test_steering_screening import CANDIDATES, MORE
from tests.launcher.launched import assert_same_results, begin, ended, launch, wait_for

pytestmark = pytest.mark.slow
SMALL = ("--batch-size", 2)
# How much of its slice the second of three workers has stored when it is killed: of short ones, nothing yet.
KILLED_AFTER = {"1.0": 2, "2.2": 0, "3.5": 1, "3.6": 0, "4.8": 1, "7.3": 1}


class Place:
    """A data directory in which everything but one phase is done, and the commands on it."""

    def __init__(self, profile: Path, data: Path, phase: str) -> None:
        self.phase, self.root = phase, data / f"phase{phase.replace('.', '_')}"
        shutil.copytree(profile.parent / "data", data)
        shutil.rmtree(self.root, ignore_errors=True)
        self.options = ("--profile", profile, "--data-dir", data, *SIZES, *SMALL)

    def single(self, *more: object) -> None:
        """Runs the phase as one process."""
        done(quietly("phase", self.phase, *self.options, *more))

    def launched(self, workers: int, *more: object) -> list[object]:
        """Returns the launcher's command line."""
        devices = ",".join(["cpu"] * workers)
        return ["--phase", self.phase, *self.options, "--devices", devices, *more]


def is_at_work(records: list[SliceRecord], stored: int) -> bool:
    """Says whether the second of three workers has begun and stored so much."""
    return len(records) == 3 and bool(records[1].fingerprint) and records[1].done >= stored


@pytest.mark.parametrize("phase", KILLED_AFTER)
def test_the_results_do_not_depend_on_how_many_work_on_them_or_die(
    steering_made: Path, tmp_path: Path, phase: str
) -> None:
    single, double, killed = (Place(steering_made, tmp_path / name, phase) for name in ("one", "two", "three"))
    single.single()
    answer = launch(*double.launched(2))
    assert answer.code == 0, answer
    assert_same_results(double.root, single.root)

    launcher = begin(*killed.launched(3))
    try:
        seen = wait_for(launcher, PhasePaths(killed.root), lambda found: is_at_work(found, KILLED_AFTER[phase]))
        assert seen[1].state == "running", seen
        os.kill(seen[1].pid, signal.SIGKILL)
    finally:
        answer = ended(launcher, 300)
    assert answer.code == 1 and "signal 9" in answer.err, answer
    assert "error: 1 of 3 workers failed" in answer.err and "Traceback" not in answer.err
    assert not (killed.root / "metadata.json").exists()
    answer = launch(*killed.launched(2))
    assert answer.code == 0, answer
    assert_same_results(killed.root, single.root)


def test_one_worker_screens_for_all_and_the_choice_is_made_in_the_merge(steering_made: Path, tmp_path: Path) -> None:
    single, sliced = (Place(steering_made, tmp_path / name, "4.5") for name in ("one", "three"))
    top = {
        name: [{"layer": layer, "feature_idx": index, "separation_score": 0.5} for layer, index in items]
        for name, items in CANDIDATES.items()
    }
    for place in (single, sliced):
        publish_ranking(steering_made, place.root.parent, top)
    single.single(*MORE)
    answer = launch(*sliced.launched(3, *MORE))
    assert answer.code == 0, answer
    logs = [path.read_text() for path in sorted((sliced.root / "logs").glob("worker_*"))]
    assert len(logs) == 3 and sum("waiting for the worker that steers for all" in log for log in logs) == 2
    for place in (single, sliced):
        (place.root / SELECTED_COEFFICIENTS).unlink()  # it names the moment
    assert_same_results(sliced.root, single.root)
