"""Trials on their way from the logs to one sorted table, in memory that does not grow with the study.

The logs are in the order in which features were tested; step 4 reads all trials of one feature at a time. So trials go
to one temporary file a layer as they are read, and come back a part of a layer at a time: sorted by feature, condition,
run and trial, each trial once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.runs.files import ensure_directory, writing
from experiment_pathway_token_analysis.src.schema import TrialRecord

BUFFER_ROWS = 4096
BUFFER_CHARACTERS = 2 << 20
PART_CHARACTERS = 64 << 20
SPILLED = pa.schema(
    [
        ("feature_id", pa.int32()),
        ("condition", pa.int8()),
        ("trial", pa.int32()),
        ("task_id", pa.int64()),
        ("outcome", pa.bool_()),
        ("response", pa.large_string()),
        ("run", pa.int32()),
        ("order", pa.int64()),
    ]
)


class _Layer:
    """One layer's temporary file, and what waits to be written to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[tuple[Any, ...]] = []
        self.waiting = 0
        self.characters: dict[int, int] = {}
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SPILLED, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def add(self, row: tuple[Any, ...], characters: int) -> None:
        self.rows.append(row)
        self.waiting += characters
        self.characters[row[0]] = self.characters.get(row[0], 0) + characters + 64
        if len(self.rows) >= BUFFER_ROWS or self.waiting >= BUFFER_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        columns = [_column(values, field) for values, field in zip(zip(*self.rows, strict=True), SPILLED, strict=True)]
        with writing(self.path):
            self._writer.write_batch(pa.record_batch(columns, schema=SPILLED))
        self.rows, self.waiting = [], 0

    def close(self) -> None:
        with writing(self.path):
            self.flush()
            self._writer.close()
            self._sink.close()

    def parts(self) -> Iterator[pa.Table]:
        """Yields the layer's rows, ids in the order of their text, whole features, as many as memory may hold."""
        for ids_of_part in _parts(self.characters):
            batches = []
            with pa.OSFile(str(self.path), "rb") as source:
                for batch in pa.ipc.open_stream(source):
                    batches.append(batch.filter(pa.array(np.isin(batch.column("feature_id").to_numpy(), ids_of_part))))
            yield pa.Table.from_batches(batches, SPILLED).combine_chunks()


class TrialSpill:
    """Takes trials in any order and gives them back sorted; a context manager that leaves no file behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._layers: dict[int, _Layer] = {}
        self._dropped: list[range] = []
        self._order = 0

    def __enter__(self) -> TrialSpill:
        ensure_directory(self._directory)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, record: TrialRecord, run: int) -> None:
        """Takes one trial of the run numbered `run`; of equal trials the one added last is the newest."""
        layer = self._layers.get(record.layer)
        if layer is None:
            with writing(self._directory):
                layer = self._layers[record.layer] = _Layer(self._directory / f"layer-{record.layer}.arrow")
        layer.add((*record[1:], run, self._order), len(record.response))
        self._order += 1

    @property
    def taken(self) -> int:
        """How many trials were added so far."""
        return self._order

    def drop_since(self, taken: int) -> None:
        """Forgets the trials that were added after `taken` of them, such as those of a copied file."""
        self._dropped.append(range(taken, self._order))

    def sorted_parts(self) -> Iterator[tuple[int, pa.Table]]:
        """Yields (layer, rows), sorted as the features' names are, not yet freed of duplicates. Ends the taking."""
        for layer in self._layers.values():
            layer.close()
        for number, layer in sorted(self._layers.items(), key=lambda item: f"L{item[0]}-"):
            for part in map(self._without_dropped, layer.parts()):
                keys = [part.column(name).to_numpy() for name in ("order", "trial", "run", "condition")]
                keys.append(_as_text(part.column("feature_id").to_numpy()))
                yield number, part.take(pa.array(np.lexsort(keys)))
            layer.path.unlink()

    def _without_dropped(self, part: pa.Table) -> pa.Table:
        order = part.column("order").to_numpy()
        dropped = np.zeros(len(order), dtype=bool)
        for added in self._dropped:
            dropped |= (added.start <= order) & (order < added.stop)
        return part.filter(pa.array(~dropped)) if dropped.any() else part


def _column(values: Sequence[Any], field: pa.Field) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        return pa.array([text.encode("utf-8", "replace").decode("utf-8") for text in values], field.type)


def _parts(characters: dict[int, int]) -> list[list[int]]:
    """Returns the ids in parts, as their text sorts, each part of at most PART_CHARACTERS or of one feature."""
    parts: list[list[int]] = []
    held = 0
    for feature_id in sorted(characters, key=str):
        if not parts or held + characters[feature_id] > PART_CHARACTERS:
            parts.append([])
            held = 0
        parts[-1].append(feature_id)
        held += characters[feature_id]
    return parts


def _as_text(ids: np.ndarray) -> np.ndarray:
    """Returns each id's place in the order of their text, so that rows sort as their features' names do."""
    distinct, position = np.unique(ids, return_inverse=True)
    place = np.empty(len(distinct), dtype=np.int64)
    place[sorted(range(len(distinct)), key=lambda index: str(distinct[index]))] = np.arange(len(distinct))
    return place[position]
