"""Two runs at once in one directory (C5): the second is refused, disjoint ones go on, and no record is lost."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from common.profiles import REPOSITORY
from common_simplified.generation_files import GenerationFiles
from tests.cli.helpers import Answer, command, refusal, start, stopped
from tests.cli.steering_place import quietly
from tests.faults.conftest import Figure
from tests.faults.harness import Site, Undisturbed, assert_undisturbed, finished, kill_group, run_words, wait_for_lock

SLICES = (((), ()), (("--end", 9), ("--start", 4)), (("--end", 9), ()), (("--start", 2, "--end", 3), ()))
TIMES = 20


def both_at_once(site: Site, slices: tuple[tuple[object, ...], ...]) -> list[tuple[int, Answer]]:
    """Starts a run a slice and returns each one's process and answer."""
    children = [start(*site.words(*options)) for options in slices]
    try:
        return [(child.pid, finished(child)) for child in children]
    finally:
        for child in children:
            kill_group(child)


def assert_one_was_refused(answers: list[tuple[int, Answer]]) -> None:
    by_code = {answer.code: (pid, answer) for pid, answer in answers}
    assert sorted(by_code) == [0, 2], answers
    line = stopped(by_code[2][1], 2)
    assert f"are being worked on by process {by_code[0][0]} on host" in line


@pytest.mark.fault
def test_of_two_on_overlapping_slices_exactly_one_works_and_no_record_is_lost(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    for number in range(TIMES):
        site = building.copied(tmp_path / f"data{number}")
        assert_one_was_refused(both_at_once(site, SLICES[number % len(SLICES)]))
        assert run_words(command(*site.words())).code == 0
        assert_undisturbed(site, built)
    figure(f"C5: two at once on overlapping slices, {TIMES} times: one refused each time, 0 records lost")


@pytest.mark.fault
def test_disjoint_slices_at_once_lose_nothing_and_the_last_one_publishes_all(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    thirds = (("--end", 5), ("--start", 6, "--end", 11), ("--start", 12))
    for number in range(5):
        site = building.copied(tmp_path / f"data{number}")
        assert [answer.code for _, answer in both_at_once(site, thirds)] == [0, 0, 0]
        assert_undisturbed(site, built)
    figure("C5, C8: three disjoint slices at once, 5 times: all published, byte-identical to one run")


@pytest.mark.fault
def test_a_slice_run_again_beside_the_one_that_completes_the_phase_takes_nothing_away(
    building: Site, built: Undisturbed, tmp_path: Path
) -> None:
    for number in range(5):
        site = building.copied(tmp_path / f"data{number}")
        assert run_words(command(*site.words("--end", 7))).code == 0
        assert [answer.code for _, answer in both_at_once(site, (("--start", 8), ("--end", 7)))] == [0, 0]
        assert_undisturbed(site, built)


@pytest.mark.fault
def test_a_living_runs_slice_is_refused_soon_and_a_killed_ones_is_taken_over(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    site = building.copied(tmp_path / "data")
    child = start(*site.words("--set", "max_new_tokens=400"))
    try:
        wait_for_lock(site, child)
        child.send_signal(signal.SIGSTOP)  # it neither ends nor lets the lock go
        assert f"process {child.pid} on host" in stopped(run_words(command(*site.words("--end", 3))), 2)
        refused = run_words([sys.executable, "-c", REFUSED, site.root / "locks"], PYTHONPATH=str(REPOSITORY))
        assert "refused" in refused.out, refused
        seconds = json.loads(refused.out.split()[-1])
        assert seconds < 5  # the promise is one second, on a machine that is not busy
    finally:
        kill_group(child)
    (site.root / "partial.json").unlink(missing_ok=True)
    answer = run_words(command(*site.words("--fresh")))
    assert answer.code == 0, answer
    assert_undisturbed(site, built)
    figure(f"C5: a living run's slice is refused after {1000 * seconds:.0f} ms, a killed run's taken over at once")


REFUSED = (
    "import sys, time; from pathlib import Path; from common.errors import UsageError\n"
    "from common.runs.locks import span_lock; from common.runs.slices import Span\n"
    "began = time.monotonic()\n"
    "try:\n    with span_lock(Path(sys.argv[1]), Span(5, 9)): print('held')\n"
    "except UsageError: print('refused', time.monotonic() - began)"
)


@pytest.mark.fault
def test_what_is_refused_before_it_begins_leaves_a_running_phase_alone(building: Site, tmp_path: Path) -> None:
    site = building.copied(tmp_path / "data")
    child = start(*site.words("--set", "max_new_tokens=400"))
    try:
        wait_for_lock(site, child)
        child.send_signal(signal.SIGSTOP)
        before = {path.name for path in site.root.rglob("*")}
        refusal(run_words(command(*site.words("--end", -1))))
        assert {path.name for path in site.root.rglob("*")} == before
    finally:
        kill_group(child)


@pytest.mark.smoke
def test_what_another_slice_finishes_while_one_publishes_is_published_by_the_other(
    building: Site, built: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = building.copied(tmp_path / "data"), building.copied(tmp_path / "other")
    assert quietly(*other.words("--start", 8, "--worker")).code == 0
    write = GenerationFiles.write

    def slowly(files: GenerationFiles, *arguments: Any) -> Any:
        """Writes while what the other slice has stored meanwhile comes in."""
        monkeypatch.undo()
        shutil.copytree(other.root / "segments", site.root / "segments", dirs_exist_ok=True)
        return write(files, *arguments)

    monkeypatch.setattr(GenerationFiles, "write", slowly)
    assert quietly(*site.words("--end", 7)).code == 0
    record = json.loads((site.root / "metadata.json").read_text())
    assert (record["complete"], record["done"]) == (False, 8)
    assert quietly(*site.words("--start", 8)).code == 0
    assert_undisturbed(site, built)
