"""Killed until done, through the command line: no partial file (C1), and the data of an undisturbed run (C2)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.conftest import Figure
from tests.faults.harness import Site, Trial, Undisturbed, assert_undisturbed, kill_until_done

TRIALS = 10
KILLS = 30
PHASES = (("building", "built"), ("sampling", "sampled"), ("steering", "steered_through"))


def disturbed(site: Site, expected: Undisturbed, seed: int, **limits: int) -> Trial:
    """Kills a site until it is done and asserts that nothing shows it; snapshots, once there, must never be missing."""
    seen: list[int] = []

    def look_at_snapshots() -> None:
        there = len(list((site.root / "snapshots").glob("*.parquet")))
        assert there > 0 or not any(seen), "every snapshot has gone"
        assert there <= 4  # the newest three, and for a moment the one that replaces the oldest
        seen.append(there)

    trial = kill_until_done(site, random.Random(seed), expected.seconds, look_at_snapshots, **limits)
    assert_undisturbed(site, expected)
    return trial


@pytest.mark.smoke
def test_phase_1_0_killed_at_two_random_moments_ends_as_if_undisturbed(
    building: Site, built: Undisturbed, tmp_path: Path
) -> None:
    trial = disturbed(building.copied(tmp_path / "data"), built._replace(seconds=0.6 * built.seconds), seed=1, most=2)
    assert trial.kills == 2


@pytest.mark.fault
@pytest.mark.parametrize(("site", "expected"), PHASES)
def test_a_phase_killed_until_done_ends_as_if_undisturbed(
    site: str, expected: str, request: pytest.FixtureRequest, tmp_path: Path, figure: Figure
) -> None:
    work, whole = request.getfixturevalue(site), request.getfixturevalue(expected)
    kills = trials = 0
    while trials < TRIALS or kills < KILLS:
        kills += disturbed(work.copied(tmp_path / f"data{trials}"), whole, seed=100 + trials).kills
        trials += 1
    figure(f"C1, C2: phase {work.phase}: {kills} kills in {trials} trials, {trials} of {trials} ended byte-identical")
