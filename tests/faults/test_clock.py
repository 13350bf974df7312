"""The clock does not matter (C6): times of files shuffled, the time of day a day off or stepped, another time zone."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.helpers import command, start, wait_until
from tests.cli.steering_place import quietly
from tests.faults.conftest import Figure
from tests.faults.harness import Site, Undisturbed, assert_undisturbed, finished, kill_group, run_words

DAY = 86_400


class Shift:
    """A file that says by how many days the time of day is off, and the environment in which it is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {"SHIFTED_BY": str(path), "PYTHONPATH": str(Path(__file__).parent / "shifted_clock")}

    def by(self, days: int) -> dict[str, str]:
        """Sets the shift and returns the environment."""
        self.path.with_suffix(".next").write_text(str(days))
        self.path.with_suffix(".next").replace(self.path)
        return self.environment


@pytest.fixture
def shifted(tmp_path: Path) -> Shift:
    return Shift(tmp_path / "shift")


def shuffle_times(root: Path, seed: int) -> None:
    """Gives every file a random time within a hundred days to either side of now."""
    rng = random.Random(seed)
    for path in sorted(root.rglob("*")):
        moment = path.stat().st_mtime + rng.uniform(-100, 100) * DAY
        os.utime(path, (moment, moment))


def half_done(site: Site) -> None:
    """Runs a site until about half of its segments stand, then kills it."""
    child = start(*site.words())
    try:
        wait_until(lambda: len(list(site.root.glob("segments/evaluation/*/*.parquet"))) >= 3, child)
    finally:
        kill_group(child)


@pytest.mark.fault
def test_files_with_shuffled_times_are_gone_on_with_as_if_nothing_were(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    for seed in range(5):
        site = building.copied(tmp_path / f"data{seed}")
        half_done(site)
        shuffle_times(site.data, seed)
        answer = run_words(command(*site.words()), TZ="Pacific/Kiritimati" if seed % 2 else "Pacific/Niue")
        assert answer.code == 0, answer
        assert_undisturbed(site, built)
        shuffle_times(site.data, seed + 100)
        assert "nothing to do" in quietly(*site.words()).err
        assert "complete" in status_of(site)
    figure("C6: times of all files shuffled in 5 unfinished and 5 finished runs: all byte-identical")


def status_of(site: Site) -> str:
    lines = quietly("status", "--profile", site.profile, "--data-dir", site.data).out.splitlines()
    return next(line for line in lines if line.startswith(site.phase))


@pytest.mark.fault
@pytest.mark.parametrize("days", [-1, 1])
def test_a_run_whose_time_of_day_steps_by_a_day_midway_publishes_the_same(
    building: Site, built: Undisturbed, tmp_path: Path, shifted: Shift, days: int, figure: Figure
) -> None:
    site = building.copied(tmp_path / "data")
    half_done(site)
    child = start(*site.words(), **shifted.by(0))
    try:
        wait_until(lambda: len(list(site.root.glob("segments/evaluation/*/*.parquet"))) >= 5, child)
        shifted.by(days)
        answer = finished(child)
    finally:
        kill_group(child)
    assert answer.code == 0, answer
    assert_undisturbed(site, built)
    assert round((created(site) - datetime.now(UTC)).total_seconds() / DAY) == days
    figure(f"C6: time of day stepped by {days:+d} day in the middle of a run: byte-identical")


def created(site: Site) -> datetime:
    return datetime.fromisoformat(json.loads((site.root / "metadata.json").read_text())["created"])


@pytest.mark.fault
@pytest.mark.parametrize("days", [-1, 1])
def test_a_later_output_of_an_earlier_day_is_the_newer_one(
    building: Site, tmp_path: Path, shifted: Shift, days: int
) -> None:
    site = building.copied(tmp_path / "data")
    assert run_words(command(*site.words())).code == 0
    assert run_words(command(*site.words("--fresh")), **shifted.by(days)).code == 0
    record = json.loads((site.root / "metadata.json").read_text())
    before = json.loads((site.root / "superseded" / "0001" / "metadata.json").read_text())
    assert (before["generation"], record["generation"]) == (1, 2)
    assert (record["created"] < before["created"]) == (days < 0)
    assert "complete" in status_of(site)
    assert "nothing to do" in quietly(*site.words()).err
