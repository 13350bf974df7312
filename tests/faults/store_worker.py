"""A phase in miniature on the record store, without a model: what a killed process does and what it must find again.

`python -m tests.faults.store_worker run DIR POSITIONS` works a directory off once; `… trials DIR POSITIONS SEED TRIALS
KILLS` forks such a worker again and again from this process, which has everything loaded, kills it at random moments
until one comes through, damages what it left in a third of the trials, and says as JSON what came of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.files import sweep_temporaries, write_parquet
from common.runs.locks import directory_lock, span_lock
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.publishing import Snapshots, remove_segments, write_activations
from common.runs.records import StageStore
from common.runs.slices import Span, missing_cells
from common.runs.tables import dataset_table, timing_table
from tests.common.runs.helpers import evaluated, generated, problem

CELL, EVERY, KEPT = 4, 8, 3
FINGERPRINT = {"model": "sha256:0", "batch_size": CELL, "seed": None}


def work(root: Path, positions: int) -> None:
    """Works off what is missing of positions 0 to `positions` - 1 and publishes it."""
    paths, whole = PhasePaths(root), Span(0, positions - 1)
    sweep_temporaries(root)
    with span_lock(paths.locks, whole):
        if paths.metadata.is_file() and not paths.segments.exists():
            return
        stores = (StageStore(paths.stage("generation", "greedy")), StageStore(paths.stage("evaluation", "greedy")))
        for store in stores:
            store.open(FINGERPRINT)
            store.verify()
        _generate(paths, stores, whole)
        with directory_lock(paths.locks):
            _publish(paths, stores, positions)


def _generate(paths: PhasePaths, stores: tuple[StageStore, StageStore], whole: Span) -> None:
    snapshots = Snapshots(paths, EVERY, KEPT)
    for cell in missing_cells(whole, stores[0].spans(), CELL):
        stores[0].write(cell, _generated(cell))
    for cell in missing_cells(whole, stores[1].spans(), CELL):
        stores[1].write(cell, _evaluated(cell))
        records = sum(len(span) for span in stores[1].spans())
        if snapshots.due(records):
            snapshots.write(_problems(len(whole)), *_tables(stores))


def _tables(stores: tuple[StageStore, StageStore]) -> tuple[pa.Table, pa.Table]:
    both = sorted(set(stores[0].spans()) & set(stores[1].spans()))
    one, other = (pa.concat_tables([store.read(span) for span in both]).combine_chunks() for store in stores)
    return one, other


def _publish(paths: PhasePaths, stores: tuple[StageStore, StageStore], positions: int) -> None:
    tables = _tables(stores)
    dataset = dataset_table(_problems(positions), *tables)
    outputs = [OutputFile("dataset.parquet", write_parquet(paths.root / "dataset.parquet", dataset), positions)]
    tree = write_activations(
        paths, tables[0], dataset["test_passed"].to_pylist(), lambda row, layer: f"{row['task_id']}_{layer}.npz"
    )
    digest = write_parquet(paths.timings, timing_table(*tables))
    outputs += [tree.index, OutputFile(paths.timings.name, digest, positions)]
    write_record(
        paths,
        phase="1.0",
        config=Config(),
        extent=Extent(positions, positions, 0, ((0, positions - 1),)),
        inputs=[],
        outputs=outputs,
        wall_seconds={},
        details={},
    )
    remove_segments(paths)


def _problems(positions: int) -> list:
    return [problem(position) for position in range(positions)]


def _generated(cell: Span) -> pa.Table:
    positions = range(cell.start, cell.end + 1)
    vectors = np.stack([np.random.default_rng(position).standard_normal(16) for position in positions])
    return generated(positions, {3: vectors.astype(np.float32)})


def _evaluated(cell: Span) -> pa.Table:
    positions = range(cell.start, cell.end + 1)
    return evaluated(positions, [position % 3 == 0 for position in positions])


def published(root: Path) -> dict[str, bytes]:
    """Returns the bytes of every published file, the record's and the locks' excepted."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "metadata.json" and not {"locks", "snapshots"} & set(path.parts)
    }


def trials(place: Path, positions: int, seed: int, count: int, kills: int) -> Counter[str]:
    """Makes at least `count` trials and `kills` kills; returns what happened, and how many trials ended otherwise."""
    from tests.faults.harness import assert_whole

    rng, found = random.Random(seed), Counter[str]()
    work(place / "undisturbed", positions)
    expected = published(place / "undisturbed")
    seconds = min(_forked(place / f"timed{number}", positions, None) for number in range(3))
    while found["trials"] < count or found["kills"] < kills:
        root, seen, damages = place / f"trial{found['trials']}", 0, rng.random() < 1 / 3
        damaged: set[Path] = set()
        while _forked(root, positions, rng.uniform(0, 0.6 * seconds)) < 0:
            found["kills"] += 1
            found["temporaries"] += len(list(root.rglob(".writing-*")))
            assert_whole(root, damaged)
            there = len(list((root / "snapshots").glob("*.parquet")))
            found["snapshots lost"] += bool(seen and not there)
            seen = there
            if damages:
                damaged |= _damage(root, rng)
        found["trials"] += 1
        found["damaged"] += len(damaged)
        found["ended otherwise"] += published(root) != expected
        found["snapshots not three"] += len(list((root / "snapshots").glob("*.parquet"))) != KEPT
        found["temporaries left"] += len(list(root.rglob(".writing-*")))
        shutil.rmtree(root)
    return found


def _forked(root: Path, positions: int, kill_after: float | None) -> float:
    """Runs a worker in a child; returns its seconds, or -1 where it was killed before it came through."""
    started, child = time.monotonic(), os.fork()
    if child == 0:
        code = 1
        try:
            work(root, positions)
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        while time.monotonic() - started < kill_after:
            time.sleep(0.0002)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the worker ended with status {status}"
    return -1.0 if status else time.monotonic() - started


def _damage(root: Path, rng: random.Random) -> set[Path]:
    """Flips a bit of, or cuts, one stored segment or snapshot; returns the file it damaged, if any is stored."""
    stored = sorted([*root.glob("segments/*/*/*.parquet"), *root.glob("snapshots/*.parquet")])
    if not stored:
        return set()
    path = rng.choice(stored)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)
    return {path}


if __name__ == "__main__":
    if sys.argv[1] == "run":
        work(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        counts = trials(Path(sys.argv[2]), *map(int, sys.argv[3:]))
        sys.stdout.write(json.dumps(counts) + "\n")
