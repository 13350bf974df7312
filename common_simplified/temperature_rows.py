"""Labels at several temperatures against one score a problem, since the last prompt token depends on no temperature."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.statistics.detection_report import report_by_group
from common.statistics.permutation import Direction


class TemperatureRows(NamedTuple):
    """Labelled solutions at every temperature, one row a sample, and how many of each temperature have no label."""

    task_ids: np.ndarray
    passed: np.ndarray
    temperature: np.ndarray
    unlabelled: Mapping[float, int] = MappingProxyType({})


def temperature_rows(datasets: list[pa.Table]) -> TemperatureRows:
    """Returns the labelled rows of every temperature's data set together."""
    unlabelled: dict[float, int] = {}
    for table in datasets:
        pairs = zip(table["temperature"].to_pylist(), table["test_passed"].to_pylist(), strict=True)
        for temperature, label in pairs:
            unlabelled[temperature] = unlabelled.get(temperature, 0) + (label is None)
    tables = [table.filter(table["test_passed"].is_valid()) for table in datasets]
    whole = pa.concat_tables([table.select(["task_id", "test_passed", "temperature"]) for table in tables])
    return TemperatureRows(
        whole["task_id"].to_numpy(),
        whole["test_passed"].to_numpy(zero_copy_only=False).astype(bool),
        whole["temperature"].to_numpy(),
        unlabelled,
    )


def positive_rows(passed: np.ndarray, direction: Direction) -> np.ndarray:
    """Returns what the direction's feature is to detect: solutions that passed, or those that failed."""
    return passed if direction == "correct" else ~passed


def temperature_report(
    direction: Direction,
    scores: np.ndarray,
    task_ids: np.ndarray,
    rows: TemperatureRows,
    threshold: float | None,
    seed: int,
    n_draws: int,
) -> list[dict[str, Any]]:
    """Returns one report a temperature; a problem's score is the same at each, its labels are the samples'.

    `n_excluded` counts the rows without a label and those of problems without a score.
    """
    place = {int(task_id): row for row, task_id in enumerate(task_ids)}
    known = np.array([int(task_id) in place for task_id in rows.task_ids], dtype=bool)
    of_row = scores[np.array([place[int(task_id)] for task_id in rows.task_ids[known]], dtype=np.int64)]
    names = sorted({*rows.unlabelled, *rows.temperature.tolist()})
    reports = report_by_group(
        *(of_row, positive_rows(rows.passed[known], direction), rows.task_ids[known], rows.temperature[known]),
        *(names, threshold, seed, n_draws),
    )
    left_out = [rows.unlabelled.get(name, 0) + int((rows.temperature[~known] == name).sum()) for name in names]
    return [{**report, "n_excluded": count} for report, count in zip(reports, left_out, strict=True)]
