from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from common.errors import PipelineError, UsageError
from common.profiles import REPOSITORY
from common.results import PhaseResults, list_phases, load_phase
from common.runs.artifacts import PhasePaths
from common.runs.files import npz_bytes, write_json, write_parquet
from common.runs.metadata import sealed
from tests.common.made_runs import STAMP, MadeRun, copied, whole_run

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return whole_run(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def run(made: MadeRun, tmp_path: Path) -> MadeRun:
    return copied(made, tmp_path / "data")


def one_line(call: Callable[[], Any], kind: type[PipelineError] = UsageError) -> str:
    with pytest.raises(PipelineError) as caught:
        call()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- finding


def test_importing_loads_none_of_the_heavy_packages() -> None:
    program = "import sys, common.results; print(sorted({'pandas', 'pyarrow', 'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.strip() == "[]"


def test_a_phase_is_known_by_its_id_its_place_and_its_record(run: MadeRun) -> None:
    found = load_phase("3.6", data_dir=run.data)
    assert (found.phase, found.root, found.complete) == ("3.6", run.data / "phase3_6", True)
    assert found.files == ["dataset_temp_0_0.parquet", "activations/index.parquet"]
    assert found.metadata["model"]["name"] == "tiny"
    assert load_phase("1", run.data).phase == "1.0" and load_phase("1.2", str(run.data)).phase == "3.5"


def test_the_record_that_is_handed_out_can_be_changed_without_harm(run: MadeRun) -> None:
    found = load_phase("3.6", run.data)
    found.metadata["model"]["name"] = "mine"
    assert found.metadata["model"]["name"] == "tiny"


def test_nothing_is_read_until_it_is_asked_for(run: MadeRun) -> None:
    (run.root("3.6") / "metadata.json").write_text("{")
    found = load_phase("3.6", run.data)
    assert "metadata.json is damaged" in one_line(lambda: found.metadata, PipelineError)


def test_an_output_that_was_put_aside_is_found_by_its_directory(run: MadeRun) -> None:
    aside = run.root("3.6") / "superseded" / "0001"
    shutil.copytree(run.root("3.6"), aside)
    assert len(load_phase("3.6", directory=aside).solutions()) == 4
    said = one_line(lambda: load_phase("3.5", directory=aside).files)
    assert said == f"{aside} holds the output of phase 3.6, not of phase 3.5"


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("2.1", "phase '2.1' is unknown (phases: 0, 0.1, 1.0"),
        ("2.1", "did you mean '2.10'?"),
        (3.6, "load_phase(3.6): phase ids are text, since 2.10 is not 2.1"),
        ("0.1", "phase 0.1 has published nothing in "),
        ("0.1", "published in {data}: 0, 1.0, 2.5, 2.10, 3.5, 3.6, 3.8, 4.5, 4.8, 7.3; see: python3 run.py status"),
        ("pathway", "phase pathway has published nothing in "),
    ],
)
def test_a_phase_that_is_not_there_is_refused_with_what_there_is(run: MadeRun, phase: Any, said: str) -> None:
    assert said.format(data=run.data) in one_line(lambda: load_phase(phase, run.data))


def test_a_directory_that_is_not_there_is_refused_with_the_nearest(run: MadeRun, tmp_path: Path) -> None:
    assert "dta does not exist; did you mean 'data'?" in one_line(lambda: load_phase("3.6", tmp_path / "dta"))
    assert "dta does not exist; did you mean 'data'?" in one_line(lambda: list_phases(tmp_path / "dta"))
    (tmp_path / "file").write_text("")
    assert "file is no directory" in one_line(lambda: load_phase("3.6", tmp_path / "file"))
    (tmp_path / "none").mkdir()
    assert "no phase is published there" in one_line(lambda: load_phase("3.6", tmp_path / "none"))


def test_an_unfinished_phase_is_told_from_one_that_never_ran(run: MadeRun) -> None:
    segments = PhasePaths(run.root("2.2")).stage("generation", "greedy")
    table = pa.table({"position": [0, 1]})
    segments.mkdir(parents=True)
    write_parquet(segments / "000000-000001.0123456789abcdef.parquet", table)
    assert "phase 2.2 has published nothing" in one_line(lambda: load_phase("2.2", run.data))
    assert "(2 positions done so far)" in one_line(lambda: load_phase("2.2", run.data))


# --- tables


def test_columns_have_the_types_of_their_schema_whatever_they_hold(run: MadeRun) -> None:
    table = load_phase("3.6", run.data).table("dataset_temp_0_0.parquet")
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert kinds["test_passed"] == kinds["opaque"] == "boolean"
    assert (kinds["task_id"], kinds["tests_passed"], kinds["temperature"]) == ("Int64", "Int32", "float64")
    assert table["test_passed"].tolist() == [True, pd.NA, False, True]
    assert int(table["test_passed"].sum()) == 2 and table["test_passed"].mean() == pytest.approx(2 / 3)
    assert table["test_list"].tolist() == [["assert f() == 1", 'assert f() != "a,b"']] * 4
    assert table["error_message"].isna().all() and table["excluded_reason"].tolist()[1] == "out of memory"
    assert list(table.columns) == run.solution_table(0.0, {1: [True]}).column_names


def test_a_table_without_rows_has_the_same_types(run: MadeRun) -> None:
    from common.result_frames import frame_of

    full, empty = run.solution_table(0.0, {1: [True]}), run.solution_table(0.0, {})
    assert frame_of(empty).dtypes.to_dict() == frame_of(full).dtypes.to_dict()


def test_every_value_of_a_table_comes_through(run: MadeRun) -> None:
    table = run.solution_table(0.0, {1: [True, None], 2: [False]})
    from common.result_frames import frame_of

    frame = frame_of(table)
    for name in table.column_names:
        values = [None if not isinstance(value, list) and pd.isna(value) else value for value in frame[name].tolist()]
        assert values == table.column(name).to_pylist(), name


@pytest.mark.parametrize("name", [f"dataset_sae_{STAMP}.parquet", f"dataset_sae_{STAMP}", "dataset_sae"])
def test_a_name_may_leave_out_the_time_stamp_and_the_suffix(run: MadeRun, name: str) -> None:
    assert load_phase("1.0", run.data).table(name)["task_id"].tolist() == [1, 2, 3, 4]


def test_a_name_that_means_no_file_or_several_is_refused_with_what_there_is(run: MadeRun) -> None:
    found = load_phase("3.5", run.data)
    said = one_line(lambda: found.table("dataset_tmp_0_0"))
    assert "has no file 'dataset_tmp_0_0' (.parquet or .csv); it has dataset_temp_0_0.parquet" in said
    assert said.endswith("; did you mean 'dataset_temp_0_0'?")
    assert "has no file 'x' (.json); it has none of this kind" in one_line(lambda: found.json("x"))
    run.publish("2.2", {"a/same.parquet": pa.table({"x": [1]}), "b/same.parquet": pa.table({"x": [2]})})
    said = one_line(lambda: load_phase("2.2", run.data).table("same"))
    assert "several files 'same'" in said and "a/same.parquet, b/same.parquet" in said
    assert load_phase("2.2", run.data).table("b/same")["x"].tolist() == [2]


def test_json_and_arrays_are_read_by_name(run: MadeRun) -> None:
    assert load_phase("2.5", run.data).json("sae_analysis_results") == {"n_ranked": 50}
    run.publish("2.2", {"feature_frequencies.npz": npz_bytes(layer_1=np.array([0.25, 0.5]))})
    assert load_phase("2.2", run.data).arrays("feature_frequencies")["layer_1"].tolist() == [0.25, 0.5]
    one = load_phase("3.5", run.data).arrays("activations/task_activations/task_101_layer_2.npz")
    assert one["arr_0"].tolist() == [[2.0, 101.0, 0.5]]
    assert load_phase("3.5", run.data).arrays("task_101_layer_2")["arr_0"].shape == (1, 3)


def test_pickled_arrays_are_refused(run: MadeRun) -> None:
    import io

    sink = io.BytesIO()
    np.savez(sink, a=np.array([{}], dtype=object))
    run.publish("2.2", {"feature_frequencies.npz": sink.getvalue()})
    said = one_line(lambda: load_phase("2.2", run.data).arrays("feature_frequencies"), PipelineError)
    assert "not a readable npz file" in said


# --- what is reached for first


def test_solutions_of_all_temperatures_follow_each_other(run: MadeRun) -> None:
    found = load_phase("3.5", run.data).solutions()
    assert len(found) == 12 + 24 and found.index.tolist() == list(range(36))
    rates = found.groupby("temperature")["test_passed"].mean()
    assert rates.to_dict() == pytest.approx({0.0: 8 / 12, 0.3: 16 / 24})


def test_solutions_under_steering_carry_their_condition(run: MadeRun) -> None:
    found = load_phase("4.8", run.data).solutions()
    assert found["condition"].nunique() == 7 and len(found) == 84


def test_features_of_both_directions_come_in_rank_order(run: MadeRun) -> None:
    found = load_phase("2.5", run.data).features()
    assert found[["direction", "rank", "layer", "feature_idx"]].values.tolist() == [
        ["correct", 1, 2, 5],
        ["correct", 2, 1, 3],
        ["incorrect", 1, 1, 4],
    ]
    assert found["separation_score"].tolist() == pytest.approx([0.9, 0.8, 0.9])


def test_a_ranking_without_a_feature_is_an_empty_frame(run: MadeRun) -> None:
    run.ranking("2.5", {"correct": [], "incorrect": []})
    assert load_phase("2.5", run.data).features().empty


def test_activations_come_with_their_task_ids_in_order(run: MadeRun) -> None:
    for phase, tasks in (("3.5", range(100, 112)), ("1.0", range(1, 5))):
        found = load_phase(phase, run.data).activations(2)
        assert found.task_ids.tolist() == list(tasks)
        assert found.vectors.dtype == np.float32
        assert found.vectors.tolist() == [[2.0, float(task), 0.5] for task in tasks]


def test_conditions_are_counted_on_the_problems_that_enter_rates(run: MadeRun) -> None:
    run.steering("4.8", "kkbBffwwkxbw", "kbbbwwwwkkBW")
    found = load_phase("4.8", run.data).conditions().set_index("condition")
    up = found.loc["correct_9"]
    assert (up["n"], up["fixes"], up["breaks"], up["net"], up["left_out"]) == (11, 2, 3, -1, 1)
    assert up["correction"] == pytest.approx(2 / 5) and up["corruption"] == pytest.approx(3 / 6)
    assert up["correction_low"] < up["correction"] < up["correction_high"]
    assert found.loc["zero", "net"] == 0 and str(found["draw"].dtype) == "Int64"


def test_detection_has_a_row_a_score_and_group(run: MadeRun) -> None:
    found = load_phase("3.8", run.data).detection()
    recorded = load_phase("3.8", run.data).json("evaluation_results")["directions"]["correct"]["validation"]
    own = found[(found["score"] == "feature") & (found["by"] == "all")].set_index("direction")
    assert own.loc["correct", "auroc"] == recorded["auroc"]["value"]
    assert own.loc["correct", "f1_all_positive"] == recorded["classification"]["f1_all_positive"]
    assert set(found["by"]) == {"all", "difficulty", "temperature"}
    random = found[found["score"] == "random directions"]
    assert random["auroc"].tolist() == [0.6, 0.6] and random["auroc_low"].isna().all()
    assert random["auroc_max"].tolist() == [0.8, 0.8] and random["ahead_by"].tolist() == [0.2, 0.2]


def test_what_a_phase_does_not_have_is_refused_with_who_does(run: MadeRun) -> None:
    found = load_phase("0", run.data)
    assert "has no solutions; 1.0, 3.5, 3.6" in one_line(found.solutions)
    assert "has no ranked features; 2.5 and 2.10 rank them" in one_line(found.features)
    assert "has no detection figures; 3.8 makes them" in one_line(found.detection)
    assert "has no steering conditions; 4.5, 4.8 and 7.6 steer" in one_line(found.conditions)
    assert "has no activations of layer 1; no layer is" in one_line(lambda: found.activations(1))
    said = one_line(lambda: load_phase("3.5", run.data).activations(9))
    assert "has no activations of layer 9; layers 1, 2 are there" in said


# --- the list of phases


def test_the_list_has_a_row_a_phase_and_one_for_the_pathway_analysis(run: MadeRun) -> None:
    run.solutions("3.6", {0.0: {5: [True]}}, done=1, expected=4)
    found = list_phases(run.data).set_index("phase")
    assert found.index.tolist()[:3] == ["0", "0.1", "1.0"] and found.index[-1] == "pathway"
    assert found.loc["0", ["state", "done", "expected", "model"]].tolist() == ["complete", 4, 4, "tiny"]
    assert found.loc["3.6", ["state", "done", "expected"]].tolist() == ["partial", 1, 4]
    assert found.loc["3.5", "state"] == "stale" and "has been run since" in found.loc["3.5", "why"]
    assert found.loc["0.1", "state"] == "missing" and pd.isna(found.loc["0.1", "done"])
    assert found.loc["pathway", "state"] == "missing"


def test_the_list_says_which_record_is_damaged(run: MadeRun) -> None:
    path = run.root("3.6") / "metadata.json"
    path.write_text(path.read_text().replace('"done": 4', '"done": 5'))
    found = list_phases(run.data).set_index("phase").loc["3.6"]
    assert found["state"] == "unreadable" and "metadata.json is damaged" in found["why"]


def test_the_list_of_a_directory_without_phases_has_them_all_missing(tmp_path: Path) -> None:
    assert set(list_phases(tmp_path)["state"]) == {"missing"}


# --- damage


def damaged(results: PhaseResults, name: str, call: Callable[[], Any]) -> None:
    said = one_line(call, PipelineError)
    assert name in said and "is damaged: its SHA-256 is not the recorded" in said and "--fresh" in said


def test_a_table_that_was_cut_off_is_refused(run: MadeRun) -> None:
    path = run.root("3.6") / "dataset_temp_0_0.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    found = load_phase("3.6", run.data)
    damaged(found, path.name, lambda: found.table("dataset_temp_0_0"))
    damaged(found, path.name, found.solutions)


def test_json_that_was_edited_is_refused(run: MadeRun) -> None:
    path = run.root("2.5") / "top_20_features.json"
    path.write_text(path.read_text().replace('"layer": 2', '"layer": 3'))
    found = load_phase("2.5", run.data)
    damaged(found, path.name, lambda: found.json("top_20_features"))
    damaged(found, path.name, found.features)


def test_an_activation_file_that_is_another_is_refused(run: MadeRun) -> None:
    root = run.root("3.5") / "activations" / "task_activations"
    shutil.copy(root / "task_101_layer_2.npz", root / "task_100_layer_2.npz")
    damaged(load_phase("3.5", run.data), "task_100_layer_2.npz", lambda: load_phase("3.5", run.data).activations(2))


def test_a_record_that_was_edited_or_taken_away_is_refused(run: MadeRun) -> None:
    path = run.root("3.6") / "metadata.json"
    found = load_phase("3.6", run.data)
    path.write_text(path.read_text().replace('"done": 4', '"done": 5'))
    assert "metadata.json is damaged" in one_line(lambda: found.complete, PipelineError)
    path.unlink()
    assert "metadata.json is missing; run phase 3.6 again" in one_line(lambda: found.complete)


def test_a_file_that_was_taken_away_is_refused(run: MadeRun) -> None:
    (run.root("3.6") / "dataset_temp_0_0.parquet").unlink()
    said = one_line(load_phase("3.6", run.data).solutions, PipelineError)
    assert "is missing although its record names it" in said


@pytest.mark.parametrize("closed", ["", "phase3_6"])
def test_a_place_that_may_not_be_read_is_one_line(run: MadeRun, tmp_path: Path, closed: str) -> None:
    program = (
        "import os, sys\nfrom common.results import list_phases, load_phase\nfrom common.errors import PipelineError\n"
        "import pandas\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "for call in (lambda: load_phase('3.6', sys.argv[1]).solutions(), lambda: list_phases(sys.argv[1])):\n"
        "    try: call()\n    except PipelineError as error: print(error)\n"
    )
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        if os.geteuid() == 0 and parent.owner() == "root" and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (run.data / closed).chmod(0)
    try:
        command = [sys.executable, "-c", program, str(run.data)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    finally:
        (run.data / closed).chmod(0o755)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("cannot be read: Permission denied; check its permissions" in line for line in lines), lines


def test_a_record_of_another_schema_is_refused(run: MadeRun) -> None:
    path = run.root("3.6") / "metadata.json"
    write_json(path, sealed({**json.loads(path.read_text()), "schema_version": 99}))
    said = one_line(lambda: load_phase("3.6", run.data).files, PipelineError)
    assert "schema version 99" in said
