"""All trials of one feature, from the table that the audit leaves beside its report.

The statistics of the table's row groups say which features lie in each: one feature costs the row group that holds it,
and the last ones read stay in memory for the next feature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import PipelineError

COLUMNS = ("condition", "task_id", "response")
MAX_KEPT = 2


class FeatureTrials(NamedTuple):
    """The trials of one feature, one entry each: canonical condition, problem (None where there is none), response."""

    conditions: list[str]
    task_ids: list[int | None]
    responses: list[str]


class TrialTable:
    """Reads trials by feature; `in_order` tells in which order of features that costs least."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        except FileNotFoundError:
            raise PipelineError(f"{path} is missing; run step 0 (data audit) again") from None
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        self._groups = _features_of_groups(self._file)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def in_order(self, features: Iterable[str]) -> list[str]:
        """Returns `features` in the order of the row groups that hold them."""
        last = len(self._groups)
        return sorted(features, key=lambda feature: (next(iter(self._groups_of(feature)), last), feature))

    def of(self, feature: str) -> FeatureTrials:
        """Returns the trials of `feature`, none where it has none."""
        parts = [self._rows(group, feature) for group in self._groups_of(feature)]
        if not parts:
            return FeatureTrials([], [], [])
        table = pa.concat_tables(parts)
        return FeatureTrials(*(table[name].to_pylist() for name in COLUMNS))

    def _groups_of(self, feature: str) -> list[int]:
        return [group for group, (low, high) in enumerate(self._groups) if low <= feature <= high]

    def _rows(self, group: int, feature: str) -> pa.Table:
        if group not in self._kept:
            while len(self._kept) >= MAX_KEPT:
                self._kept.popitem(last=False)
            self._kept[group] = self._read(group)
        self._kept.move_to_end(group)
        return self._kept[group].filter(pc.field("feature") == feature)

    def _read(self, group: int) -> pa.Table:
        try:
            # In this thread only: a reading thread of Arrow's that outlives the interpreter aborts the process.
            return self._file.read_row_group(group, columns=["feature", *COLUMNS], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> PipelineError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return PipelineError(f"{self._path} is not a readable parquet file ({reason}); run step 0 (data audit) again")


def _features_of_groups(file: pq.ParquetFile) -> list[tuple[str, str]]:
    """Returns the first and last feature, as text sorts, of every row group."""
    place = file.schema_arrow.get_field_index("feature")
    found = []
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            found.append(("", "\U0010ffff"))
        else:
            found.append((str(statistics.min), str(statistics.max)))
    return found
