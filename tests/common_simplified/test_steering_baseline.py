from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.config import Config
from common.errors import UsageError
from common.runs.artifacts import PhasePaths, task_activation
from common.runs.discovery import PhaseOutput
from common.runs.files import write_parquet
from common.runs.metadata import Extent, OutputFile, output_file, write_record
from common.runs.publishing import write_activations
from common_simplified.steering_baseline import TOO_LONG, BaselineRow, mean_residual_norm, read_baseline
from tests.common.runs.helpers import generated
from tests.common_simplified.steered_rows import CODE, problem

pytestmark = pytest.mark.unit
N = 5
PROBLEMS = [problem(position) for position in range(N)]
STORED = [
    {"task_id": 14, "prompt": "p4", "test_passed": True, "generated_code": CODE, "n_new_tokens": 9, "stop_reason": "e"},
    {"task_id": 10, "prompt": "p0", "test_passed": False, "generated_code": "", "n_new_tokens": 30, "stop_reason": "e"},
    {"task_id": 12, "prompt": "p2", "test_passed": None, "generated_code": None, "n_new_tokens": None},
]
SCHEMA = pa.schema(
    [
        *(("task_id", pa.int64()), ("prompt", pa.string()), ("test_passed", pa.bool_())),
        *(("generated_code", pa.string()), ("n_new_tokens", pa.int32()), ("stop_reason", pa.string())),
    ]
)


def output(tmp_path: Path, rows: list[dict[str, Any]], activations: dict[int, np.ndarray] | None = None) -> PhaseOutput:
    paths = PhasePaths(Config(data_dir=str(tmp_path)).phase_dir("3.6"))
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    outputs = [OutputFile("data.parquet", write_parquet(paths.root / "data.parquet", table), table.num_rows)]
    if activations is not None:
        made = generated(range(N), activations)
        outputs.append(
            write_activations(paths, made, [True] * N, lambda row, layer: task_activation(row["task_id"], layer)).index
        )
    fields: dict[str, Any] = {"inputs": [], "outputs": outputs, "wall_seconds": {}, "details": {}}
    record = write_record(paths, phase="3.6", config=Config(), extent=Extent(N, N), **fields)
    return PhaseOutput("3.6", paths, record)


def test_solutions_come_in_the_splits_order_and_absent_ones_count_as_not_generated(tmp_path: Path) -> None:
    rows = read_baseline(output(tmp_path, STORED), "data.parquet", PROBLEMS)
    assert [row.task_id for row in rows] == [10, 11, 12, 13, 14]
    assert rows[0] == BaselineRow(10, "p0", False, "", 30) and rows[4] == BaselineRow(14, "p4", True, CODE, 9)
    assert rows[1] == BaselineRow(11, None, None, None, None)
    assert rows[2] == BaselineRow(12, "p2", None, None, None)


def test_solutions_of_other_problems_are_refused_in_one_line(tmp_path: Path) -> None:
    stranger = {**STORED[0], "task_id": 99}
    with pytest.raises(UsageError) as caught:
        read_baseline(output(tmp_path, [*STORED, stranger]), "data.parquet", PROBLEMS)
    message = str(caught.value)
    assert "holds problem 99, which is not in the split" in message and "phase 3.6 again with --fresh" in message
    assert "\n" not in message


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    found = output(tmp_path, STORED)
    write_parquet(found.paths.root / "data.parquet", pa.Table.from_pylist(STORED[:1], schema=SCHEMA))
    with pytest.raises(Exception, match="data.parquet"):
        read_baseline(found, "data.parquet", PROBLEMS)


@pytest.mark.parametrize(("tokens", "limit", "why"), [(120, 120, None), (121, 120, TOO_LONG), (1, 120, None)])
def test_a_solution_longer_than_the_limit_enters_no_rate(tokens: int, limit: int, why: str | None) -> None:
    assert BaselineRow(1, "p", True, CODE, tokens).left_out(limit) == why
    assert BaselineRow(1, "p", False, CODE, tokens).left_out(limit) == why


def test_a_solution_that_was_not_generated_enters_no_rate() -> None:
    assert BaselineRow(1, None, None, None, None).left_out(10) == "the baseline's generation failed"


def test_the_mean_norm_is_that_of_labelled_problems_at_the_asked_layer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = {layer: (10**layer * rng.standard_normal((N, 16))).astype(np.float32) for layer in (0, 2)}
    found = output(tmp_path, STORED, vectors)
    assert output_file(found.paths, "data.parquet").sha256 == found.entry("data.parquet")["sha256"]
    rows = read_baseline(found, "data.parquet", PROBLEMS)
    for layer in (0, 2):  # problems 10 and 14 have labels: positions 0 and 4
        expected = np.mean([np.sqrt((vectors[layer][place].astype(float) ** 2).sum()) for place in (0, 4)])
        assert mean_residual_norm(found, rows, layer, 16) == pytest.approx(expected, rel=1e-6)
