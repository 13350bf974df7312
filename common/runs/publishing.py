"""From segments to the files of a generating phase's contract, and to readable snapshots on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.errors import PipelineError
from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import (
    npz_bytes,
    read_npz,
    read_parquet,
    sync_all,
    temporary_path,
    write_bytes,
    write_json,
    write_parquet,
    writing,
)
from common.runs.metadata import OutputFile
from common.runs.slice_records import remove_slice_records
from common.runs.tables import dataset_table, layers_of, vectors_of

ActivationName = Callable[[Mapping[str, object], int], str]

INDEX_SCHEMA = pa.schema([("path", pa.string()), ("sha256", pa.string())])


class ActivationTree(NamedTuple):
    """The written activation files: the index's record entry, and every file's name."""

    index: OutputFile
    names: set[str]


def write_activations(
    paths: PhasePaths, generated: pa.Table, labels: Sequence[bool | None], name_of: ActivationName
) -> ActivationTree:
    """Writes one npz file a problem and layer (array `arr_0`, float32, shape (1, d_model)) and their index.

    The files are flushed to disk together, once. Rows without a vector (excluded problems) get no file.
    """
    rows = generated.select(["task_id", "temperature", "sample"]).to_pylist()
    hashes: dict[str, str] = {}
    for layer in layers_of(generated):
        matrix = vectors_of(generated, layer)
        for row, label, vector in zip(rows, labels, matrix, strict=True):
            if np.isnan(vector[0]):
                continue
            name = name_of({**row, "passed": label}, layer)
            if name not in hashes:
                data = npz_bytes(arr_0=vector.reshape(1, -1))
                hashes[name] = write_bytes(paths.activations / name, data, durable=False)
    sync_all()
    table = pa.table({"path": sorted(hashes), "sha256": [hashes[name] for name in sorted(hashes)]}, INDEX_SCHEMA)
    digest = write_parquet(paths.activation_index, table)
    index = OutputFile(str(paths.activation_index.relative_to(paths.root)), digest, table.num_rows)
    return ActivationTree(index, set(hashes))


def remove_stale_activations(paths: PhasePaths, names: set[str]) -> None:
    """Removes activation files that the current index does not name (a label changed, a layer was left out)."""
    for path in paths.activations.rglob("*.npz"):
        if path.relative_to(paths.activations).as_posix() not in names:
            path.unlink(missing_ok=True)


class ActivationReader:
    """Reads the activation files of a published phase, each checked against the index."""

    def __init__(self, output: PhaseOutput) -> None:
        self.root = output.paths.activations
        index = output.table("activations/index.parquet")
        self._hashes = dict(zip(index["path"].to_pylist(), index["sha256"].to_pylist(), strict=True))

    def matrix(self, names: Iterable[str], width: int) -> np.ndarray:
        """Returns the vectors of the named files, float32 (files, d_model)."""
        vectors = [self._vector(name, width) for name in names]
        return np.concatenate(vectors) if vectors else np.empty((0, width), dtype=np.float32)

    def _vector(self, name: str, width: int) -> np.ndarray:
        if name not in self._hashes:
            raise PipelineError(f"{self.root / name} is not in the index of activations; run its phase with --fresh")
        arrays = read_npz(self.root / name, sha256=self._hashes[name])
        vector = arrays.get("arr_0")
        if vector is None or vector.shape != (1, width):
            found = "no arr_0" if vector is None else f"shape {vector.shape}"
            raise PipelineError(f"{self.root / name} holds {found}, expected arr_0 of shape (1, {width})")
        return vector


class Snapshots:
    """Readable copies of the data set so far, the newest `kept` of them, written every `every` records."""

    def __init__(self, paths: PhasePaths, every: int, kept: int) -> None:
        self.paths, self.every, self.kept = paths, every, kept
        self._prune()  # a run that was killed between writing one and removing another left one too many
        self._last = max((_records(path) for path in self._existing()), default=0)

    def due(self, records: int) -> bool:
        """Whether another snapshot should be written now."""
        return records // self.every > self._last // self.every

    def write(self, problems: Sequence[Problem], generated: pa.Table, evaluated: pa.Table) -> Path:
        """Writes a snapshot of what both stages have, and verifies it before an older one is removed."""
        existing = self._existing()
        sequence = max((int(path.stem.split("_")[1]) for path in existing), default=0) + 1
        path = self.paths.snapshot(sequence, evaluated.num_rows)
        digest = write_parquet(path, dataset_table(problems, generated, evaluated))
        read_parquet(path, sha256=digest)
        self._prune()
        self._last = evaluated.num_rows
        return path

    def _prune(self) -> None:
        for old in self._existing()[: -self.kept]:
            old.unlink(missing_ok=True)

    def _existing(self) -> list[Path]:
        return sorted(self.paths.snapshots.glob("snapshot_*.parquet"))


def write_exclusions(paths: PhasePaths, rows: Sequence[Mapping[str, object]], expected: int) -> OutputFile | None:
    """Writes `excluded_tasks.json` where problems were given up (one row each); returns its record entry."""
    if not rows:
        paths.excluded.unlink(missing_ok=True)
        return None
    tasks = {row["task_id"] for row in rows}
    summary = {"excluded": rows, "n_excluded": len(tasks), "n_expected": expected, "share": len(tasks) / expected}
    return OutputFile(paths.excluded.name, write_json(paths.excluded, summary), len(rows))


def remove_segments(paths: PhasePaths) -> None:
    """Removes what only an unfinished run, or its workers, need, once everything is published.

    The segments go by one rename first: a process killed in between leaves all of them or none.
    """
    with writing(paths.segments):
        paths.partial.unlink(missing_ok=True)
        if paths.segments.is_dir():
            gone = temporary_path(paths.segments)
            paths.segments.rename(gone)
            shutil.rmtree(gone)
        remove_slice_records(paths)


def _records(path: Path) -> int:
    return int(path.stem.split("_")[2])
