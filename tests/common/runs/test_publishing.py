from __future__ import annotations

import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError
from common.runs import publishing
from common.runs.artifacts import PhasePaths, labelled_activation
from common.runs.discovery import PhaseOutput
from common.runs.files import TEMPORARY_PREFIX, read_json, read_parquet, sha256_file, sweep_temporaries
from common.runs.metadata import Extent, write_record
from common.runs.publishing import (
    ActivationReader,
    Snapshots,
    remove_segments,
    remove_stale_activations,
    write_activations,
    write_exclusions,
)
from common.runs.records import StageStore
from common.runs.slices import Span
from tests.common.runs.helpers import evaluated, generated, problem

pytestmark = pytest.mark.unit

LABELS = [True, False, None]
MATRIX = {0: np.float32([[1, 2], [3, 4], [np.nan, np.nan]]), 3: np.float32([[5, 6], [7, 8], [np.nan, np.nan]])}


def name_of(row: Mapping[str, object], layer: int) -> str:
    return labelled_activation(int(str(row["task_id"])), layer, bool(row["passed"]))


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase1_0")


def published(paths: PhasePaths) -> PhaseOutput:
    tree = write_activations(paths, generated(range(3), MATRIX), LABELS, name_of)
    record = write_record(
        paths,
        phase="1.0",
        config=Config(),
        extent=Extent(3, 3, 1),
        inputs=[],
        outputs=[tree.index],
        wall_seconds={},
        details={},
    )
    return PhaseOutput("1.0", paths, record)


def tree_of(paths: PhasePaths) -> set[str]:
    return {path.relative_to(paths.activations).as_posix() for path in paths.activations.rglob("*.npz")}


# --- activation files


def test_one_npz_file_a_problem_and_layer_stands_under_its_label(paths: PhasePaths) -> None:
    published(paths)
    assert tree_of(paths) == {
        "correct/10_layer_0.npz",
        "correct/10_layer_3.npz",
        "incorrect/11_layer_0.npz",
        "incorrect/11_layer_3.npz",
    }
    with np.load(paths.activations / "incorrect/11_layer_3.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0"]
        assert archive["arr_0"].dtype == np.float32
        np.testing.assert_array_equal(archive["arr_0"], [[7.0, 8.0]])


def test_the_index_holds_the_digest_of_every_file(paths: PhasePaths) -> None:
    output = published(paths)
    index = read_parquet(paths.activation_index, sha256=output.entry("activations/index.parquet")["sha256"])
    assert index.to_pylist() == [
        {"path": name, "sha256": sha256_file(paths.activations / name)} for name in sorted(tree_of(paths))
    ]
    assert output.entry("activations/index.parquet")["rows"] == 4


def test_writing_the_same_activations_again_gives_the_same_bytes(paths: PhasePaths, tmp_path: Path) -> None:
    published(paths)
    again = PhasePaths(tmp_path / "again")
    published(again)
    for name in [*tree_of(paths), "index.parquet"]:
        assert (paths.activations / name).read_bytes() == (again.activations / name).read_bytes()


def test_a_file_whose_label_changed_is_removed_with_the_new_index(paths: PhasePaths) -> None:
    published(paths)
    tree = write_activations(paths, generated(range(3), MATRIX), [True, True, None], name_of)
    assert "incorrect/11_layer_0.npz" in tree_of(paths)
    remove_stale_activations(paths, tree.names)
    assert (
        tree_of(paths) == tree.names == {f"correct/{task}_layer_{layer}.npz" for task in (10, 11) for layer in (0, 3)}
    )


def test_vectors_are_read_back_in_the_order_asked_for(paths: PhasePaths) -> None:
    reader = ActivationReader(published(paths))
    matrix = reader.matrix(["incorrect/11_layer_0.npz", "correct/10_layer_0.npz"], 2)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [[3, 4], [1, 2]])
    assert reader.matrix([], 2).shape == (0, 2)


def test_an_activation_file_of_another_width_or_without_its_array_is_refused_by_name(paths: PhasePaths) -> None:
    reader = ActivationReader(published(paths))
    with pytest.raises(PipelineError, match=r"10_layer_0\.npz holds shape \(1, 2\), expected arr_0 of shape \(1, 3\)"):
        reader.matrix(["correct/10_layer_0.npz"], 3)
    with pytest.raises(PipelineError, match=r"12_layer_0\.npz is not in the index of activations"):
        reader.matrix(["correct/12_layer_0.npz"], 2)


def test_every_damage_of_an_activation_file_is_found_by_name(paths: PhasePaths) -> None:
    reader = ActivationReader(published(paths))
    path = paths.activations / "correct/10_layer_0.npz"
    data, rng = path.read_bytes(), random.Random(5)
    for trial in range(300):
        copy = bytearray(data)
        copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(copy) if trial % 2 else data[: rng.randrange(len(data))])
        with pytest.raises(PipelineError, match=r"10_layer_0\.npz is damaged"):
            reader.matrix(["correct/10_layer_0.npz"], 2)
    path.unlink()
    with pytest.raises(PipelineError, match=r"10_layer_0\.npz is missing"):
        reader.matrix(["correct/10_layer_0.npz"], 2)


def test_an_activation_file_that_was_replaced_by_a_valid_one_is_found(paths: PhasePaths) -> None:
    reader = ActivationReader(published(paths))
    other = paths.activations / "incorrect/11_layer_0.npz"
    (paths.activations / "correct/10_layer_0.npz").write_bytes(other.read_bytes())
    assert zipfile.is_zipfile(paths.activations / "correct/10_layer_0.npz")
    with pytest.raises(PipelineError, match="is damaged"):
        reader.matrix(["correct/10_layer_0.npz"], 2)


def test_a_label_is_demanded_for_each_vector(paths: PhasePaths) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_activations(paths, generated(range(3), MATRIX), [True], name_of)


# --- snapshots


def records(n: int) -> tuple[pa.Table, pa.Table]:
    return generated(range(n)), evaluated(range(n), [True] * n)


PROBLEMS = [problem(10 + number) for number in range(40)]


def test_snapshots_are_due_once_every_so_many_records(paths: PhasePaths) -> None:
    snapshots = Snapshots(paths, every=10, kept=3)
    written = []
    for n in range(4, 41, 4):
        if snapshots.due(n):
            snapshots.write(PROBLEMS, *records(n))
            written.append(n)
    assert written == [12, 20, 32, 40]


def test_the_newest_three_snapshots_are_kept_and_readable(paths: PhasePaths) -> None:
    for n in (10, 20, 30):
        Snapshots(paths, every=10, kept=3).write(PROBLEMS, *records(n))
    path = Snapshots(paths, every=10, kept=3).write(PROBLEMS, *records(40))
    names = sorted(item.name for item in paths.snapshots.iterdir())
    assert names == [f"snapshot_00000{k}_0000{n}.parquet" for k, n in ((2, 20), (3, 30), (4, 40))]
    table = read_parquet(path)
    assert table["task_id"].to_pylist() == list(range(10, 50))
    assert table["test_passed"].to_pylist() == [True] * 40


def test_a_snapshot_too_many_that_a_killed_run_left_is_removed(paths: PhasePaths) -> None:
    for n in (10, 20, 30, 40):
        Snapshots(paths, every=10, kept=4).write(PROBLEMS, *records(n))
    Snapshots(paths, every=10, kept=3)
    assert sorted(item.name[-12:-8] for item in paths.snapshots.iterdir()) == ["0020", "0030", "0040"]


def test_a_run_that_goes_on_counts_from_the_newest_snapshot(paths: PhasePaths) -> None:
    Snapshots(paths, every=10, kept=3).write(PROBLEMS, *records(20))
    again = Snapshots(paths, every=10, kept=3)
    assert not again.due(29)
    assert again.due(30)


def test_a_snapshot_that_cannot_be_written_leaves_the_older_ones(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(paths, every=10, kept=1)
    first = snapshots.write(PROBLEMS, *records(10))

    def refuse(*arguments: object) -> str:
        raise PipelineError("cannot write: No space left on device")

    monkeypatch.setattr(publishing, "write_parquet", refuse)
    with pytest.raises(PipelineError, match="No space left"):
        snapshots.write(PROBLEMS, *records(20))
    assert list(paths.snapshots.iterdir()) == [first]


# --- exclusions, segments


def test_excluded_problems_are_named_with_reason_and_tries(paths: PhasePaths) -> None:
    row = {"task_id": 13, "temperature": 0.0, "sample": 0, "excluded_reason": "OutOfMemoryError: 2 GB", "tries": 4}
    entry = write_exclusions(paths, [row], 20)
    assert entry is not None
    assert (entry.path, entry.rows, entry.sha256) == ("excluded_tasks.json", 1, sha256_file(paths.excluded))
    expected = {"excluded": [row], "n_excluded": 1, "n_expected": 20, "share": 0.05}
    assert read_json(paths.excluded) == expected


def test_without_exclusions_there_is_no_file_of_them(paths: PhasePaths) -> None:
    write_exclusions(paths, [{"task_id": 10, "excluded_reason": "x", "tries": 1}], 2)
    assert write_exclusions(paths, [], 2) is None
    assert not paths.excluded.exists()


def test_segments_go_at_once_so_that_a_kill_in_between_leaves_all_or_none(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(paths.stage("generation", "greedy"))
    store.open({})
    store.write(Span(0, 3), generated(range(4)))
    paths.partial.write_text("{}")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_segments(paths)
    monkeypatch.undo()
    assert not paths.segments.exists()
    assert not paths.partial.exists()
    assert [path.name.startswith(TEMPORARY_PREFIX) for path in paths.root.iterdir()] == [True]
    assert sweep_temporaries(paths.root) == 1
    assert list(paths.root.iterdir()) == []
    remove_segments(paths)
