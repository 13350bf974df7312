"""Disturbing the real command line, and looking at what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from common.runs.artifacts import PhasePaths
from common.runs.files import TEMPORARY_PREFIX, read_json, read_npz, read_parquet, sha256_file
from common.runs.metadata import read_record
from common.runs.records import list_segments
from tests.cli.helpers import Answer, environment, start
from tests.cli.steering_place import SIZES

STAMP = re.compile(r"\d{8}_\d{6}")
NOT_DATA = ("timings.parquet",)
SAME_IN_RECORD = ("complete", "expected", "done", "excluded", "slices", "results", "fingerprints", "arm_settings")


class Site(NamedTuple):
    """A profile, a data directory to work in, and the phase that is disturbed there with its options."""

    profile: Path
    data: Path
    phase: str
    options: tuple[object, ...]

    @property
    def root(self) -> Path:
        """The phase's directory."""
        return self.data / f"phase{self.phase.replace('.', '_')}"

    def words(self, *more: object) -> list[object]:
        """The arguments of `run.py`; later options win."""
        return ["phase", self.phase, "--profile", self.profile, "--data-dir", self.data, *SIZES, *self.options, *more]

    def copied(self, target: Path) -> Site:
        """Returns the same work on a copy of the data directory."""
        shutil.copytree(self.data, target, symlinks=True)
        return self._replace(data=target)


class Undisturbed(NamedTuple):
    """What a run that nothing disturbed published, and how many seconds it worked after it had taken its lock."""

    data: dict[str, str]
    record: dict[str, Any]
    seconds: float


class Trial(NamedTuple):
    """How often a run was killed until one of its starts came through."""

    kills: int
    starts: int


def published_data(root: Path) -> dict[str, str]:
    """Returns the SHA-256 of every published data file, by its name without the moment in it."""
    record = read_record(PhasePaths(root))
    assert record is not None, f"{root} has no record"
    names = [entry["path"] for entry in record["outputs"]]
    names += [path.relative_to(root).as_posix() for path in sorted((root / "activations").rglob("*.npz"))]
    return {STAMP.sub("<timestamp>", name): sha256_file(root / name) for name in names if name not in NOT_DATA}


def same_record(root: Path) -> dict[str, Any]:
    """Returns what of the record must not depend on disturbances."""
    record = read_record(PhasePaths(root))
    assert record is not None, f"{root} has no record"
    return {name: record[name] for name in SAME_IN_RECORD if name in record}


def assert_undisturbed(site: Site, expected: Undisturbed) -> None:
    """Asserts that a phase's directory holds what an undisturbed run publishes, and nothing half done."""
    assert published_data(site.root) == expected.data
    assert same_record(site.root) == expected.record
    assert temporaries(site.root) == []
    assert not (site.root / "segments").exists() or not expected.record["complete"]
    assert_whole(site.root)


def leave_free(disk: Path, kilobytes: int) -> Path:
    """Fills the disk but for so much; returns the file that takes the room."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    with open(ballast, "wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, max(1, state.f_bavail * state.f_frsize - kilobytes * 1024))
    return ballast


def temporaries(root: Path) -> list[str]:
    """Returns the names of temporary files under a directory."""
    return sorted(path.name for path in root.rglob(f"{TEMPORARY_PREFIX}*"))


def assert_whole(root: Path, besides: Collection[Path] = ()) -> None:
    """Asserts that every file with a final name is whole, and that a record, where there is one, tells the truth.

    Files of `besides`, which the test itself has damaged, and those put aside as damaged are not looked at.
    """
    for path in root.rglob("*"):
        inside = path.relative_to(root).parts
        is_final = not any(part.startswith(TEMPORARY_PREFIX) or part == "aside" for part in inside)
        if path.is_file() and is_final and path not in besides:
            _assert_readable(path)
    for directory in {path.parent for path in root.glob("segments/*/*/*.parquet")}:
        for segment in list_segments(directory):
            assert segment.path in besides or sha256_file(segment.path).startswith(segment.sha16), segment.path
    record = read_record(PhasePaths(root))
    for entry in [] if record is None else record["outputs"]:
        assert sha256_file(root / entry["path"]) == entry["sha256"], entry["path"]
    index = root / "activations" / "index.parquet"
    if record is not None and index.is_file():
        rows = pq.read_table(index).to_pylist()
        assert [row["path"] for row in rows if sha256_file(index.parent / row["path"]) != row["sha256"]] == []


def _assert_readable(path: Path) -> None:
    if path.suffix == ".parquet":
        read_parquet(path)
    elif path.suffix == ".npz":
        read_npz(path)
    elif path.suffix in (".json", ".seen"):
        read_json(path)
    elif path.suffix == ".png":
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), path


def run_undisturbed(site: Site) -> Undisturbed:
    """Runs a site through in a child process."""
    child, began = start(*site.words()), time.monotonic()
    began = wait_for_lock(site, child)
    answer = finished(child)
    assert answer.code == 0, answer
    return Undisturbed(published_data(site.root), same_record(site.root), time.monotonic() - began)


def wait_for_lock(site: Site, child: subprocess.Popen[str]) -> float:
    """Waits until a child has taken its lock, or ended; returns the moment by the monotonic clock."""
    while child.poll() is None and not list(site.root.glob("locks/0*.lock")):
        time.sleep(0.005)
    return time.monotonic()


def finished(child: subprocess.Popen[str], seconds: float = 300) -> Answer:
    """Waits for a child to end and returns its answer; kills its group where it takes too long."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill_group(child)
        raise
    return Answer(child.returncode, out, err)


def kill_group(child: subprocess.Popen[str]) -> None:
    """Sends SIGKILL to a child's whole process group and waits for it."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def remove_locks(site: Site) -> None:
    """Removes the locks of killed runs, so that the next run's own can be waited for."""
    for path in site.root.glob("locks/0*.lock"):
        path.unlink()


def kill_until_done(
    site: Site, rng: random.Random, seconds: float, look: Callable[[], None] = lambda: None, most: int = 40
) -> Trial:
    """Runs a site again and again, each time killed at a random moment of `seconds`, until one run comes through.

    After each kill every file with a final name must be whole; `look` looks besides. After `most` kills a run is let
    through.
    """
    for kills in range(most + 1):
        remove_locks(site)
        child = start(*site.words())
        try:
            wait_for_lock(site, child)
            if kills < most:
                wait_at_most(rng.uniform(0, seconds), child)
            if kills == most or child.poll() is not None:
                answer = finished(child)
                assert answer.code == 0, answer
                return Trial(kills, kills + 1)
        finally:
            kill_group(child)
        assert_whole(site.root)
        look()
    raise AssertionError("unreachable")


def wait_at_most(seconds: float, child: subprocess.Popen[str]) -> None:
    """Waits for a child to end, at most so long."""
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return


def run_words(words: Iterable[object], **more: str) -> Answer:
    """Runs any command line in a child process of its own group."""
    child = subprocess.Popen(
        [str(word) for word in words],
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return finished(child)


def digest_of(paths: Iterable[Path]) -> str:
    """Returns one digest of files and their names."""
    parts = [f"{path.name} {sha256_file(path)}" for path in sorted(paths)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
