"""`trials.parquet`: every trial of the study once, sorted by feature (as text), condition, run and trial.

A feature's rows lie together inside one row group of about 16 MB, and the statistics of the row groups say which: to
read one feature is to read one row group, and to read features in their order is to read each row group once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import PipelineError
from common.runs.files import ensure_directory, sync_directory, temporary_path, writing

GROUP_BYTES = 16 << 20
MAX_LISTED = 200
_AGAIN = "run step 0 again"
OUTCOME_COLUMNS = ("feature", "condition", "run", "trial", "task_id", "outcome")
SCHEMA = pa.schema(
    [
        ("feature", pa.string()),
        ("condition", pa.string()),
        ("run", pa.string()),
        ("trial", pa.int32()),
        ("task_id", pa.int64()),
        ("outcome", pa.bool_()),
        ("response", pa.large_string()),
    ]
)


class WrittenTrials(NamedTuple):
    """What became of the trials: rows, copies left out, conflicts, and per feature the counts of each condition."""

    rows: int
    duplicates: int
    conflicts: int
    conflicts_listed: list[dict[str, Any]]
    counts: dict[str, list[int]]
    outcomes: dict[str, list[int]]


class TrialWriter:
    """Writes sorted parts and drops copies of a trial (the newest stays)."""

    def __init__(self, path: Path, conditions: Sequence[str], runs: Sequence[str]) -> None:
        self._path, self._conditions, self._runs = path, list(conditions), list(runs)
        self._written = WrittenTrials(0, 0, 0, [], {}, {name: [0, 0, 0] for name in conditions})

    def write(self, parts: Iterator[tuple[int, pa.Table]]) -> WrittenTrials:
        """Writes the table atomically and returns what was written."""
        path = self._path
        temporary = temporary_path(path)
        ensure_directory(path.parent)
        try:
            with writing(path), _open(temporary) as writer:
                for layer, part in parts:
                    for group in _groups(self._distinct(layer, part)):
                        self._write_group(writer, layer, group)
            with writing(path):
                _flush(temporary)
                os.replace(temporary, path)
                sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return self._written

    def _distinct(self, layer: int, part: pa.Table) -> pa.Table:
        """Returns a sorted part with the last of each trial's rows, and counts what it leaves out."""
        keys = [part.column(name).to_numpy() for name in ("feature_id", "condition", "run", "trial")]
        again = np.ones(max(len(part) - 1, 0), dtype=bool)
        for key in keys:
            again &= key[1:] == key[:-1]
        earlier = np.flatnonzero(again)
        differing = [row for row in earlier.tolist() if _differ(part, row)]
        listed = self._written.conflicts_listed
        listed += [self._conflict(layer, part, row) for row in differing[: MAX_LISTED - len(listed)]]
        self._written = self._written._replace(
            duplicates=self._written.duplicates + len(earlier) - len(differing),
            conflicts=self._written.conflicts + len(differing),
        )
        return part.filter(pa.array(~np.append(again, False))) if len(earlier) else part

    def _conflict(self, layer: int, part: pa.Table, row: int) -> dict[str, Any]:
        one = {name: part.column(name)[row].as_py() for name in ("feature_id", "condition", "run", "trial")}
        return {
            "feature": f"L{layer}-{one['feature_id']}",
            "condition": self._conditions[one["condition"]],
            "run": self._runs[one["run"]],
            "trial": one["trial"],
        }

    def _write_group(self, writer: pq.ParquetWriter, layer: int, group: pa.Table) -> None:
        ids = group.column("feature_id").to_numpy()
        starts = feature_starts(ids)
        names = [f"L{layer}-{feature_id}" for feature_id in ids[starts].tolist()]
        counts = np.diff(starts, append=len(ids))
        feature = np.repeat(np.arange(len(names)), counts)
        self._count(group, names, feature)
        columns = [
            _named(feature, names),
            _named(group.column("condition").to_numpy(), self._conditions),
            _named(group.column("run").to_numpy(), self._runs),
            *(group.column(name) for name in ("trial", "task_id", "outcome", "response")),
        ]
        writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=len(group))
        self._written = self._written._replace(rows=self._written.rows + len(group))

    def _count(self, group: pa.Table, names: list[str], feature: np.ndarray) -> None:
        condition = group.column("condition").to_numpy()
        n = len(self._conditions)
        table = np.bincount(feature * n + condition, minlength=len(names) * n).reshape(len(names), n)
        self._written.counts.update(zip(names, table.tolist(), strict=True))
        kinds = pc.fill_null(pc.cast(group.column("outcome"), pa.int8()), 2).to_numpy()  # 2: could not be parsed
        for place, name in enumerate(self._conditions):
            for kind, found in enumerate(np.bincount(kinds[condition == place], minlength=3).tolist()):
                self._written.outcomes[name][kind] += found


def outcome_columns(path: Path) -> Iterator[pa.Table]:
    """Yields, one row group at a time, what the contrasts need of every trial: OUTCOME_COLUMNS, whole features."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        for number in range(file.num_row_groups):
            # In this thread only: a reading thread of Arrow's that outlives the interpreter aborts the process.
            yield file.read_row_group(number, columns=list(OUTCOME_COLUMNS), use_threads=False)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; {_AGAIN}") from None
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(f"{path} is not a readable parquet file ({error}); {_AGAIN}") from None


def _open(path: Path) -> pq.ParquetWriter:
    texts: Any = ["feature", "condition", "run"]  # a list is allowed, though the annotation says otherwise
    return pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=texts, write_page_checksum=True)


def feature_starts(ids: np.ndarray) -> np.ndarray:
    """Returns where in sorted rows each feature begins."""
    return np.flatnonzero(np.diff(ids, prepend=-1))


def _flush(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def _named(places: np.ndarray, names: list[str]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(places))


def _differ(part: pa.Table, row: int) -> bool:
    """Returns whether a row and the one after it tell different things of one trial."""
    pairs = (part.column(name).slice(row, 2).to_pylist() for name in ("task_id", "outcome", "response"))
    return any(first != second for first, second in pairs)


def _groups(part: pa.Table) -> Iterator[pa.Table]:
    """Cuts a part into row groups of whole features, each of about GROUP_BYTES."""
    if not len(part):
        return
    n_groups = max(1, round(part.nbytes / GROUP_BYTES))
    starts = feature_starts(part.column("feature_id").to_numpy())
    wanted = np.arange(n_groups) * len(part) // n_groups
    cuts = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1]).tolist()
    for low, high in zip(cuts, [*cuts[1:], len(part)], strict=True):
        yield part.slice(low, high - low)
