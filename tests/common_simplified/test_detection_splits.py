from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import UsageError
from common.runs.artifacts import PhasePaths
from common.runs.best_features import BestFeatures
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common_simplified.detection_splits import read_splits, refuse_missing_layers, split_rows
from tests.common.runs.helpers import publish_output

pytestmark = pytest.mark.unit

PROFILE: Any = SimpleNamespace(n_layers=4, sae=SimpleNamespace(width=512))


def solutions(*rows: tuple[int, bool | None]) -> pa.Table:
    return pa.table(
        {
            "task_id": [task for task, _ in rows],
            "test_passed": pa.array([label for _, label in rows], pa.bool_()),
            "n_prompt_tokens": pa.array([9] * len(rows), pa.int32()),
            "cyclomatic_complexity": [1] * len(rows),
        }
    )


def published(root: Path, phase: str, table: pa.Table, **fields: Any) -> PhaseOutput:
    config = Config(data_dir=str(root))
    record = publish_output(config, phase, table, name="greedy.parquet")
    return PhaseOutput(phase, PhasePaths(config.phase_dir(phase)), {**record, **fields})


def test_rows_without_a_label_are_left_out_of_a_split_and_counted() -> None:
    table = pa.table(
        {
            "task_id": [4, 5, 6],
            "test_passed": [True, None, False],
            "n_prompt_tokens": pa.array([9, None, 7], pa.int32()),
            "cyclomatic_complexity": [1, 2, 3],
        }
    )
    rows = split_rows(table)
    assert (rows.task_ids.tolist(), rows.passed.tolist(), rows.n_excluded) == ([4, 6], [True, False], 1)
    assert (rows.prompt_tokens.tolist(), rows.complexity.tolist()) == ([9.0, 7.0], [1, 3])


def test_each_split_is_read_from_its_own_phase(tmp_path: Path) -> None:
    datasets = {"temp_0_6": "other.parquet", "temp_0_0": "greedy.parquet"}
    built = published(tmp_path, "1.0", solutions((1, True), (2, False)), dataset="greedy.parquet")
    hyper = published(tmp_path, "3.6", solutions((3, True), (4, None)), datasets=datasets)
    instruct = published(tmp_path, "7.3", solutions((5, False)), datasets=datasets)
    splits = read_splits(built, hyper, instruct)
    assert [rows.task_ids.tolist() for rows in splits[:3]] == [[1, 2], [3], [5]]  # type: ignore[union-attr]
    assert [rows.n_excluded for rows in splits[:3]] == [0, 1, 0]  # type: ignore[union-attr]
    assert splits.sources == (built, hyper, instruct)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature(4, 0), "phase 7.6: layer 4 does not exist, the model has layers 0 to 3"),
        (
            Feature(2, 0),
            "layer 2 was not captured in .*phase7_3, only 1, 3; run: .* 7.3 .*capture_layers=all",
        ),
        (Feature(3, 512), "feature 3:512 does not exist: the SAE has 0 to 511"),
    ],
)
def test_a_feature_that_cannot_be_read_is_refused_with_the_cure(tmp_path: Path, feature: Feature, message: str) -> None:
    instruct = published(tmp_path, "7.3", solutions((5, False)), layers=[1, 3])
    config = Config(data_dir=str(tmp_path))
    refuse_missing_layers("7.6", config, PROFILE, BestFeatures(Feature(3, 511), Feature(1, 0)), instruct)
    with pytest.raises(UsageError, match=message):
        refuse_missing_layers("7.6", config, PROFILE, BestFeatures(Feature(1, 0), feature), instruct)
