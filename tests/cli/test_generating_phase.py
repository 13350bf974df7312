from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from common.runs.artifacts import PhasePaths
from common.runs.publishing import Snapshots
from tests.cli.helpers import (
    SAE_PROBLEMS,
    Directory,
    activations,
    assert_same_data,
    dataset,
    finish,
    loads_the_model,
    record,
    refusal,
    segments,
    start,
    stopped,
    tree,
)

# --- a small slice first, then the rest


@pytest.mark.smoke
def test_a_small_slice_never_becomes_an_input_unnoticed_and_the_rest_computes_only_what_is_missing(
    untouched: Directory, whole: Path
) -> None:
    data = untouched.data
    first = untouched.phase("1.0", "--end", 4)
    assert first.code == 0
    assert "5 of 16 problems" in first.err
    entry = record(data)
    assert (entry["complete"], entry["expected"], entry["done"], entry["slices"]) == (False, SAE_PROBLEMS, 5, [[0, 4]])
    assert dataset(data).num_rows == 5
    assert len(activations(data)) == 5 * 3
    assert not PhasePaths(data / "phase1_0").partial.exists()

    before = tree(data / "phase1_0")
    again = untouched.phase("1.0", "--end", 4)
    assert again.code == 0
    assert "nothing to do, positions 0 to 4 are done" in again.err
    assert not loads_the_model(again)
    assert tree(data / "phase1_0") == before

    said = refusal(untouched.phase("2.5"))
    assert "phase 2.5 reads phase 1.0, which is partial" in said
    assert "5 of 16 problems; run: python3 run.py phase 1.0 --profile" in said
    assert "partial 5/16" in untouched.here("status", *untouched.options).out
    assert "run (partial, 5 of 16 done)" in untouched.here("plan", *untouched.options).out

    stored = {path.name: path.read_bytes() for path in (data / "phase1_0" / "segments").rglob("*.parquet")}
    assert {(0, 3), (4, 4)} == set(segments(data))
    rest = untouched.phase("1.0")
    assert rest.code == 0
    assert "16 of 16 problems" in rest.err
    assert record(data)["complete"]
    assert record(data)["generation"] == 2
    assert not (data / "phase1_0" / "segments").exists()
    assert len(stored) >= 4
    times = pq.read_table(data / "phase1_0" / "timings.parquet")
    assert times["batch_rows"].to_pylist() == [4] * 4 + [1] + [3] * 3 + [4] * 8
    same = ("task_id", "prompt", "generated_text", "generated_code", "test_passed", "outcome", "stop_reason")
    assert dataset(data).select(same).equals(dataset(whole).select(same))


@pytest.mark.smoke
def test_a_whole_run_publishes_the_files_of_its_contract(whole: Path) -> None:
    root = whole / "phase1_0"
    entry = record(whole)
    assert {item["path"] for item in entry["outputs"]} == {
        entry["dataset"],
        entry["dataset"].replace(".parquet", "_metadata.json"),
        "activations/index.parquet",
        "timings.parquet",
        *("sae_fit.json", "sae_fit.png", "sae_fit.svg"),
    }
    assert entry["dataset"].startswith("dataset_sae_")
    table = dataset(whole)
    assert table.column_names[:6] == [
        *("task_id", "text", "code", "test_list", "test_setup_code", "cyclomatic_complexity"),
    ]
    ids = pq.read_table(whole / "phase0_1" / "sae_mbpp.parquet")["task_id"].to_pylist()
    assert table["task_id"].to_pylist() == ids
    assert set(activations(whole)) == {
        f"{'correct' if passed else 'incorrect'}/{task}_layer_{layer}.npz"
        for task, passed in zip(ids, table["test_passed"].to_pylist(), strict=True)
        for layer in range(3)
    }
    with np.load(root / "activations" / f"incorrect/{ids[0]}_layer_2.npz", allow_pickle=False) as archive:
        assert (archive["arr_0"].dtype, archive["arr_0"].shape) == (np.float32, (1, 16))
    assert not (root / "segments").exists()
    assert not (root / "partial.json").exists()
    assert [item["layer"] for item in json.loads((root / "sae_fit.json").read_text())["layers"]] == [0, 1, 2]


@pytest.mark.smoke
def test_a_complete_phase_has_nothing_to_do_and_is_skipped_by_pipeline(finished: Directory) -> None:
    before = tree(finished.data)
    answer = finished.phase("1.0")
    assert "nothing to do" in answer.err
    assert not loads_the_model(answer)
    assert "be skipped (complete)" in finished.here("plan", *finished.options).out
    skipped = finished.here("pipeline", *finished.options, "--to", "1.0")
    assert skipped.err.count("complete and current") == 3
    assert tree(finished.data) == before


# --- settings


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("max_new_tokens=25", "max_new_tokens: 24 → 25"),
        ("batch_size=8", "batch_size: 4 → 8"),
        ("prompt_format=signature", "prompt_format: solution_marker → signature"),
        ("site=resid_pre", "points: "),
        ("activation_layers=0,1", "points: "),
        ("dtype=bfloat16", "dtype: float32 → bfloat16"),
    ],
)
def test_a_setting_that_changes_results_is_refused_naming_it(finished: Directory, setting: str, said: str) -> None:
    before = tree(finished.data)
    line = stopped(finished.phase("1.0", "--set", setting), 2)
    assert f"({said}" in line
    assert "use --fresh" in line
    assert tree(finished.data) == before


@pytest.mark.smoke
@pytest.mark.parametrize("setting", ["evaluation_workers=2", "snapshot_every=7", "max_retries=1", "seed=3"])
def test_a_setting_that_changes_no_result_finds_nothing_to_do(finished: Directory, setting: str) -> None:
    assert "nothing to do" in finished.phase("1.0", "--set", setting).err


@pytest.mark.smoke
def test_another_timeout_labels_again_without_generating(finished: Directory, whole: Path) -> None:
    answer = finished.phase("1.0", "--set", "evaluation_timeout_seconds=3")
    assert answer.code == 0
    assert "labels are made again without generating (timeout_seconds: 5.0 → 3.0)" in answer.err
    assert not loads_the_model(answer)
    assert record(finished.data)["fingerprints"]["evaluation"]["timeout_seconds"] == 3.0
    assert_same_data(finished.data, whole)
    old, new = (pq.read_table(data / "phase1_0" / "timings.parquet") for data in (whole, finished.data))
    assert new["batch_seconds"].equals(old["batch_seconds"])
    assert "nothing to do" in finished.phase("1.0", "--set", "evaluation_timeout_seconds=3").err


# --- damage


@pytest.mark.smoke
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_published_file_is_refused_by_name(finished: Directory, damage: str) -> None:
    for path in (finished.data / "phase1_0" / record(finished.data)["dataset"],):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content) if damage == "flip" else bytes(content)[:-9])
        assert f"{path.name} is damaged" in refusal(finished.phase("2.5"))


@pytest.mark.smoke
def test_a_model_or_saes_that_are_not_there_are_refused(untouched: Directory) -> None:
    line = refusal(untouched.phase("1.0", "--model", "./nowhere"))
    assert "model directory ./nowhere does not exist" in line
    line = refusal(untouched.phase("1.0", "--set", "activation_layers=0,7"))
    assert "layer 7 does not exist, the model has layers 0 to 2" in line
    assert not (untouched.data / "phase1_0").exists()


@pytest.mark.smoke
def test_positions_past_the_split_are_refused_and_an_end_past_it_is_clipped(untouched: Directory) -> None:
    line = refusal(untouched.phase("1.0", "--start", 16))
    assert "the split has 0 to 15" in line
    answer = untouched.phase("1.0", "--start", 15, "--end", 99)
    assert answer.code == 0
    assert "working to 15, its last position" in answer.err
    assert record(untouched.data)["slices"] == [[15, 15]]


@pytest.mark.slow
def test_a_damaged_segment_is_put_aside_and_computed_again(untouched: Directory, whole: Path) -> None:
    assert untouched.phase("1.0", "--end", 7).code == 0
    path = next((untouched.data / "phase1_0" / "segments" / "generation" / "greedy").glob("000004-*.parquet"))
    path.write_bytes(path.read_bytes()[:-3])
    answer = untouched.phase("1.0")
    assert answer.code == 0
    assert "is damaged: put aside; its 4 positions are computed again" in answer.err
    assert_same_data(untouched.data, whole)


# --- slices


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [(0, 8), (0, 4, 12), (8, 0)])
def test_slices_on_the_grid_end_with_the_data_of_a_whole_run(
    untouched: Directory, whole: Path, cuts: tuple[int, ...]
) -> None:
    edges = [*sorted(cuts), SAE_PROBLEMS]
    for start_at in cuts:
        end_at = edges[edges.index(start_at) + 1] - 1
        assert untouched.phase("1.0", "--start", start_at, "--end", end_at).code == 0
    assert record(untouched.data)["complete"]
    assert_same_data(untouched.data, whole)
    fits = [(data / "phase1_0" / "sae_fit.json").read_text() for data in (untouched.data, whole)]
    assert fits[0] == fits[1]


@pytest.mark.slow
def test_two_slices_at_once_end_with_the_data_of_a_whole_run(untouched: Directory, whole: Path) -> None:
    slices = (("--end", 7), ("--start", 8))
    children = [start("phase", "1.0", *untouched.options, *part) for part in slices]
    answers = [finish(child) for child in children]
    assert [answer.code for answer in answers] == [0, 0], answers
    assert record(untouched.data)["complete"]
    assert_same_data(untouched.data, whole)


@pytest.mark.slow
def test_fresh_puts_everything_aside_and_ends_with_the_same_data(finished: Directory, whole: Path) -> None:
    before = tree(finished.data / "phase1_0")
    assert finished.phase("1.0", "--fresh").code == 0
    assert tree(finished.data / "phase1_0" / "superseded" / "0001") == before
    assert record(finished.data)["generation"] == 2
    assert_same_data(finished.data, whole)


@pytest.mark.slow
def test_snapshots_are_written_on_the_way_and_the_newest_are_kept(untouched: Directory) -> None:
    settings = ("--set", "snapshot_every=4", "--set", "snapshots_kept=2")
    assert untouched.phase("1.0", "--end", 14, *settings).code == 0
    paths = PhasePaths(untouched.data / "phase1_0")
    names = sorted(path.name for path in paths.snapshots.iterdir())
    assert len(names) == 2
    newest = pq.read_table(paths.snapshots / names[-1])
    assert newest.num_rows >= 12
    assert newest.equals(dataset(untouched.data).slice(0, newest.num_rows))
    assert Snapshots(paths, 4, 2).due(16)
