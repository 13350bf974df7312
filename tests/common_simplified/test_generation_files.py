from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.config import Config
from common.runs.artifacts import PhasePaths, task_activation, temperature_dataset
from common.runs.files import sha256_file
from common.runs.metadata import Extent, write_record
from common.runs.tables import EVALUATION_SCHEMA, generation_table, vectors_of
from common_simplified.generation_files import ArmTables, GenerationFiles
from common_simplified.generation_work import Arm
from tests.common.runs.helpers import evaluated, generated, generated_rows, problem
from tests.common_simplified.fixtures import D_MODEL

pytestmark = pytest.mark.unit

COLD, WARM = Arm("temp_0_0", 0.0, 1), Arm("temp_0_6", 0.6, 2)
VECTORS = {layer: np.random.default_rng(layer).standard_normal((4, D_MODEL)).astype(np.float32) for layer in (1, 2)}
LABELS = [True, False, None, True]


def tables() -> dict[str, ArmTables]:
    """Four problems greedily, the third given up, and two samples of each at 0.6, without vectors."""
    vectors = {layer: np.where([[True], [True], [False], [True]], matrix, np.nan) for layer, matrix in VECTORS.items()}
    cold = generation_table(generated_rows(range(4)), vectors)
    rows = [
        {**row, "temperature": 0.6, "sample": sample, "batch_seconds": 0.7}
        for row in generated_rows(range(4))
        for sample in range(2)
    ]
    labels = evaluated([row["position"] for row in rows], [True, False] * 4).to_pylist()
    judged = [{**label, "temperature": 0.6, "sample": row["sample"]} for label, row in zip(labels, rows, strict=True)]
    warm = ArmTables(generation_table(rows, {}), pa.Table.from_pylist(judged, schema=EVALUATION_SCHEMA))
    return {COLD.name: ArmTables(cold, evaluated(range(4), LABELS)), WARM.name: warm}


def files(tmp_path: Path) -> GenerationFiles:
    def activation(row: Mapping[str, Any], layer: int) -> str:
        return task_activation(row["task_id"], layer)

    def dataset(arm: Arm) -> str:
        return temperature_dataset(arm.temperature)

    paths = PhasePaths(Config(data_dir=str(tmp_path)).phase_dir("3.5"))
    return GenerationFiles(paths, [problem(10 + number) for number in range(4)], dataset, activation)


def test_every_file_is_entered_with_its_digest_and_rows(tmp_path: Path) -> None:
    kept = files(tmp_path)
    written = kept.write([COLD, WARM], tables())
    rows = {item.path: item.rows for item in written.outputs}
    assert rows == {
        "dataset_temp_0_0.parquet": 4,
        "dataset_temp_0_6.parquet": 8,
        "activations/index.parquet": 6,
        "timings.parquet": 12,
    }
    for item in written.outputs:
        assert item.sha256 == sha256_file(kept.paths.root / item.path)
    assert written.datasets["temp_0_6"]["test_passed"].to_pylist() == [True, False] * 4


def test_one_vector_file_a_problem_and_layer_and_none_for_an_excluded_one(tmp_path: Path) -> None:
    kept = files(tmp_path)
    written = kept.write([COLD, WARM], tables())
    expected = {f"task_activations/task_0{task}_layer_{layer}.npz" for task in (10, 11, 13) for layer in (1, 2)}
    assert written.activations == expected
    on_disk = {path.relative_to(kept.paths.activations).as_posix() for path in kept.paths.activations.rglob("*.npz")}
    assert on_disk == expected
    stored = np.load(kept.paths.activations / "task_activations" / "task_011_layer_2.npz")["arr_0"]
    assert (stored.shape, stored.dtype) == ((1, D_MODEL), np.float32)
    np.testing.assert_array_equal(stored[0], VECTORS[2][1])


def test_durations_stand_apart_from_the_data(tmp_path: Path) -> None:
    kept = files(tmp_path)
    written = kept.write([COLD, WARM], tables())
    assert all("seconds" not in name for table in written.datasets.values() for name in table.column_names)
    timings = pq.read_table(kept.paths.timings)
    assert timings["batch_seconds"].to_pylist() == [0.5] * 4 + [0.7] * 8


@pytest.mark.parametrize(("arm", "layers"), [(COLD, [1, 2]), (COLD, [2]), (WARM, [])])
def test_generated_rows_come_back_as_they_were(tmp_path: Path, arm: Arm, layers: list[int]) -> None:
    kept = files(tmp_path)
    written = kept.write([COLD, WARM], tables())
    names = {item.name: kept.dataset_name(item) for item in (COLD, WARM)}
    fields = {"inputs": [], "outputs": written.outputs, "wall_seconds": {}, "details": {"datasets": names}}
    write_record(kept.paths, phase="3.5", config=Config(), extent=Extent(4, 4, 1), **fields)
    before, after = tables()[arm.name].generated, kept.read(arm, layers, D_MODEL)
    plain = [name for name in before.column_names if not name.startswith("vector_")]
    assert after.select(plain).equals(before.select(plain))
    assert [name for name in after.column_names if name not in plain] == [f"vector_{layer}" for layer in layers]
    for layer in layers:
        np.testing.assert_array_equal(vectors_of(after, layer), vectors_of(before, layer))


def test_an_arm_without_vectors_writes_no_activations(tmp_path: Path) -> None:
    kept = files(tmp_path)
    written = kept.write([COLD], {COLD.name: ArmTables(generated(range(4)), evaluated(range(4), LABELS))})
    assert written.activations == set()
    assert not kept.paths.activations.exists()
