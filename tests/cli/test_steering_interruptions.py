"""Steering killed and stopped midway: nothing that was finished is lost, and the data end the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from common.runs.records import StageStore
from phase4_5.side_run import SideRun
from tests.cli.helpers import finish, start, stopped, wait_until
from tests.cli.steering_place import Place, done, make_place, quietly

pytestmark = pytest.mark.smoke
LONG = ("--batch-size", 4, "--set", "phase4_5_max_new_tokens=60")
HALF = ("--end", 11, *LONG)


@pytest.fixture(scope="module")
def slow_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place whose steered solutions are long and whose batches are small, with phase 4.8 done undisturbed."""
    profile = make_place(tmp_path_factory.mktemp("slow"))
    root = profile.parent
    place = Place(profile, root / "data", quietly)  # type: ignore[arg-type]
    done(place.phase("4.5", "--fresh", *LONG))
    shutil.copytree(root / "data", root / "undisturbed")
    undisturbed = place._replace(data=root / "undisturbed")
    done(undisturbed.phase("4.8", *HALF))
    return profile


@pytest.fixture
def place(slow_place: Path, tmp_path: Path) -> Place:
    shutil.copytree(slow_place.parent / "data", tmp_path / "data")
    return Place(slow_place, tmp_path / "data", quietly)  # type: ignore[arg-type]


def kill(child: subprocess.Popen[str]) -> None:
    """Ends a child that still runs, and all that it started, at once."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def finished(place: Place, stage: str) -> int:
    """Returns how many batches of all arms a stage has stored."""
    arms = place.directory("4.8") / "segments" / stage
    return sum(len(list(StageStore(path).spans())) for path in arms.glob("*"))


def test_phase_4_8_killed_twice_ends_with_the_rows_of_an_undisturbed_run(place: Place, slow_place: Path) -> None:
    for wanted in (2, 8):
        child = start(*place.words("4.8", *HALF))
        try:
            wait_until(lambda wanted=wanted: finished(place, "generation") >= wanted, child)
        finally:
            kill(child)
        assert not (place.directory("4.8") / "metadata.json").exists()
    assert finished(place, "generation") >= 8
    said = done(place.phase("4.8", *HALF))
    assert "12 of 24 problems" in said
    undisturbed = place._replace(data=slow_place.parent / "undisturbed")
    assert place.results() == undisturbed.results()
    analysis = "steering_effect_analysis.json"
    assert (place.directory("4.8") / analysis).read_bytes() == (undisturbed.directory("4.8") / analysis).read_bytes()


def test_a_polite_stop_ends_with_130_and_says_how_to_go_on(place: Place) -> None:
    child = start(*place.words("4.8", *HALF))
    try:
        wait_until(lambda: finished(place, "generation") >= 2, child)
        child.send_signal(signal.SIGTERM)
        line = stopped(finish(child), 130)
    finally:
        kill(child)
    assert "stopped with" in line and "to go on: python3 run.py phase 4.8 --profile" in line
    assert "run.py phase 4.8" in json.loads((place.directory("4.8") / "partial.json").read_text())["to_go_on"]
    assert finished(place, "generation") == finished(place, "evaluation") >= 2
    status = quietly("status", "--profile", place.profile, "--data-dir", place.data).out
    assert "unfinished; to go on: python3 run.py phase 4.8" in status


def test_the_choice_survives_a_kill_during_its_final_evaluation(place: Place) -> None:
    """The grid stands, the earlier choice is still the one that later phases read."""
    before = place.selected()
    child = start(*place.words("4.5", *LONG, "--select", "correct=9"))
    final = place.directory("4.5") / "final_evaluation"
    try:
        wait_until(lambda: any("segments" in path.parts for path in final.rglob("*.parquet")), child)
    finally:
        kill(child)
    assert place.selected() == before
    done(place.phase("4.8", *LONG, "--dry-run"))
    done(place.phase("4.5", *LONG, "--select", "correct=9"))
    assert place.selected()["correct"]["coefficient"] == 9


def test_a_choice_that_was_broken_off_leaves_no_record_of_files_that_have_gone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the earlier final evaluation was put aside; then the phase is run again without the choice."""

    def stop(self: SideRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SideRun, "publish_files", stop)
    assert place.phase("4.5", *LONG, "--select", "correct=9").code == 130
    monkeypatch.undo()
    done(place.phase("4.5", *LONG))
    root = place.directory("4.5")
    assert [item["path"] for item in place.record("4.5")["outputs"] if not (root / item["path"]).is_file()] == []
