"""A disk that is full, limited or read-only (C3): named in one line, nothing lost, done after it was mended."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.helpers import command, refusal, stopped
from tests.cli.steering_place import quietly
from tests.faults.conftest import Figure
from tests.faults.harness import Site, Undisturbed, assert_undisturbed, assert_whole, leave_free, run_words

LEVELS = (0, 4, 12, 24, 40, 60, 90, 130, 180, 240, 300)


def filled_and_freed(site: Site, disk: Path, kilobytes: int, expected: Undisturbed) -> bool:
    """Runs a site on a disk with so much room, then with enough; returns whether there was too little at first."""
    work = site.copied(disk / "data")
    before = quietly("status", "--profile", site.profile, "--data-dir", work.data).out.splitlines()
    ballast = leave_free(disk, kilobytes)
    answer = run_words(command(*work.words()))
    if answer.code:
        line = stopped(answer, 1)
        assert "No space left on device; free some space and run the same command again" in line
        assert_whole(work.root)
        assert not (work.root / "metadata.json").exists()
        after = quietly("status", "--profile", site.profile, "--data-dir", work.data).out.splitlines()
        assert after[:3] == before[:3]
    ballast.unlink()
    assert run_words(command(*work.words())).code == 0
    assert_undisturbed(work, expected)
    shutil.rmtree(work.data)
    return bool(answer.code)


@pytest.mark.smoke
def test_a_disk_that_fills_up_is_named_and_the_run_ends_after_space_is_freed(
    building: Site, built: Undisturbed, disk: Path
) -> None:
    assert filled_and_freed(building, disk, 90, built)


@pytest.mark.fault
def test_a_disk_that_fills_up_at_any_stage_loses_nothing(
    building: Site, built: Undisturbed, disk: Path, figure: Figure
) -> None:
    full = [kilobytes for kilobytes in LEVELS if filled_and_freed(building, disk, kilobytes, built)]
    figure(f"C3: disk of 3 MB with {', '.join(map(str, full))} kB left: exit 1 naming it, all finished after freeing")
    assert len(full) >= 8


@pytest.mark.fault
@pytest.mark.parametrize("kilobytes", [1, 4, 8])
def test_a_limit_of_file_sizes_is_named_and_nothing_is_lost(
    building: Site, built: Undisturbed, tmp_path: Path, kilobytes: int
) -> None:
    site = building.copied(tmp_path / "data")
    limited = ["bash", "-c", f'ulimit -S -f {kilobytes}; exec "$@"', "limited", *command(*site.words())]
    line = stopped(run_words(limited), 1)
    assert "cannot write" in line and "File too large" in line
    assert_whole(site.root)
    assert run_words(command(*site.words())).code == 0
    assert_undisturbed(site, built)


@pytest.mark.fault
def test_a_read_only_disk_is_refused_in_one_line(building: Site, built: Undisturbed, disk: Path) -> None:
    site = building.copied(disk / "data")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    answer = run_words(command(*site.words()))
    assert "Read-only file system; the file system is read-only: choose another" in refusal(answer, 1)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert run_words(command(*site.words())).code == 0
    assert_undisturbed(site, built)


@pytest.mark.fault
def test_a_directory_that_may_not_be_written_to_is_refused_in_one_line(building: Site, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    site = building.copied(tmp_path / "data")
    site.data.chmod(0o555)
    try:
        assert "Permission denied; make it writable or choose another" in refusal(run_words(command(*site.words())), 1)
    finally:
        site.data.chmod(0o755)
