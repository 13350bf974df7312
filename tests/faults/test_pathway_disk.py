"""The pathway analysis on a disk that is full or that may not be written to: one line, nothing lost, then finished."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.helpers import command, stopped
from tests.cli.steering_place import done, quietly
from tests.experiment_pathway_token_analysis.llama_place import LlamaPlace, make_llama_place
from tests.experiment_pathway_token_analysis.producer_place import ProducerPlace, make_producer_place
from tests.faults.conftest import Figure
from tests.faults.harness import assert_whole, leave_free, run_words, temporaries

pytestmark = pytest.mark.fault
STEPS = range(6)
LEVELS = (0, 4, 24, 64, 130, 250)
SMALL = {"controls_per_layer_pair": 4, "bootstrap_draws": 50, "sign_flips": 100, "max_chains": 2}
# What tells times, memory or the moment, and what an earlier run left aside.
OTHER_EACH_TIME = ("logs", "locks", "superseded", "steps")
OTHER_NAMES = ("single_feature_test.json", "timings.json")
WRITES = ("results/audit", "data", "results/prototype", "results/pathways", "results/tokens", "results/integrated")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LlamaPlace:
    """A place in which every step has run."""
    place = make_llama_place(tmp_path_factory.mktemp("whole"), **SMALL)
    done(quietly(*place.words()))
    return place


def contents(data: Path) -> dict[str, str]:
    """Returns the digest of every file of the analysis that must not depend on how often it was disturbed."""
    root = data / "pathway"
    places = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in places
        if not set(OTHER_EACH_TIME) & set(path.relative_to(root).parts) and path.name not in OTHER_NAMES
    }


def copied(place: LlamaPlace, disk: Path) -> LlamaPlace:
    shutil.copytree(place.data, disk / "data")
    return place._replace(data=disk / "data")


def one_step(place: LlamaPlace, step: int) -> tuple[object, ...]:
    return place.words("--from", step, "--to", step, "--fresh")


def assert_finished(place: LlamaPlace, expected: dict[str, str]) -> None:
    """Asserts that nothing half done stands, and that the same command ends with what an undisturbed run wrote."""
    assert_whole(place.data / "pathway")
    done(quietly(*place.words()))
    assert contents(place.data) == expected
    assert temporaries(place.data) == []


@pytest.mark.parametrize("disk", [8], indirect=True)
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up_in_any_step_is_named_and_nothing_is_lost(
    whole: LlamaPlace, disk: Path, step: int, figure: Figure
) -> None:
    expected, full = contents(whole.data), []
    for kilobytes in LEVELS:
        place = copied(whole, disk)
        ballast = leave_free(disk, kilobytes)
        answer = quietly(*one_step(place, step))
        if answer.code:
            full.append(kilobytes)
            assert "No space left on device; free some space and run the same command again" in stopped(answer, 1)
            others = {name for name in contents(place.data) if name not in expected}
            assert others == set()
        ballast.unlink()
        assert_finished(place, expected)
        shutil.rmtree(place.data)
    figure(
        f"C3: pathway step {step} with {', '.join(map(str, full))} kB left: exit 1 naming it, finished after freeing"
    )
    assert len(full) >= 2


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Lets nothing be written below a directory, whoever asks."""
    for words in (["--bind"], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *words, str(directory), str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("disk", [8], indirect=True)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_whose_directory_is_read_only_is_refused_in_one_line_and_nothing_is_lost(
    whole: LlamaPlace, disk: Path, step: int
) -> None:
    expected, place = contents(whole.data), copied(whole, disk)
    for name in (WRITES[step], "steps", "locks"):
        with read_only(place.data / "pathway" / name):
            line = stopped(quietly(*one_step(place, step)), 1)
        assert f"cannot write {place.data / 'pathway' / name}" in line
        assert "Read-only file system; the file system is read-only: choose another place with --data-dir" in line
        assert_finished(place, expected)


@pytest.mark.parametrize("step", [0, 3, 4, 5])
def test_a_limit_of_file_sizes_is_named_in_any_step_and_nothing_is_lost(
    whole: LlamaPlace, tmp_path: Path, step: int
) -> None:
    expected, place = contents(whole.data), copied(whole, tmp_path)
    limited = ["bash", "-c", 'ulimit -S -f 6; exec "$@"', "limited", *command(*one_step(place, step))]
    line = stopped(run_words(limited), 1)
    assert "cannot write" in line and "File too large" in line
    assert_finished(place, expected)


@pytest.fixture(scope="module")
def producing(tmp_path_factory: pytest.TempPathFactory) -> ProducerPlace:
    """What the producer reads, and (in `made`) the study that it makes of it."""
    place = make_producer_place(tmp_path_factory.mktemp("producing"))
    shutil.copytree(place.data, place.data.with_name("made"))
    done(quietly(*place._replace(data=place.data.with_name("made")).words("--only-produce")))
    return place


@pytest.mark.parametrize("disk", [8], indirect=True)
def test_a_disk_that_fills_up_under_the_producer_is_named_and_nothing_is_lost(
    producing: ProducerPlace, disk: Path, figure: Figure
) -> None:
    expected, full = contents(producing.data.with_name("made")), []
    for kilobytes in (0, 8, 16, 24, 48, 250):
        place = producing._replace(data=disk / "data")
        shutil.copytree(producing.data, place.data)
        ballast = leave_free(disk, kilobytes)
        answer = quietly(*place.words("--only-produce"))
        if answer.code:
            full.append(kilobytes)
            assert "No space left on device; free some space and run the same command again" in stopped(answer, 1)
            assert_whole(place.data / "pathway")
        ballast.unlink()
        done(quietly(*place.words("--only-produce")))
        assert contents(place.data) == expected and temporaries(place.data) == []
        shutil.rmtree(place.data)
    figure(f"C3: producer with {', '.join(map(str, full))} kB left: exit 1 naming it, finished after freeing")
    assert len(full) >= 3
