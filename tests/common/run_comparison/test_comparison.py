from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from common.errors import UsageError
from common.run_comparison.comparison import Comparison, compare_runs
from common.run_comparison.rows import Row
from common.run_comparison.sides import Draws
from common.runs.artifacts import TOP_FEATURES
from tests.common.made_runs import MadeRun, copied, whole_run

pytestmark = pytest.mark.unit

DRAWS = Draws(seed=42, n_draws=400)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return whole_run(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def a(made: MadeRun, tmp_path: Path) -> MadeRun:
    return copied(made, tmp_path / "a")


@pytest.fixture
def b(made: MadeRun, tmp_path: Path) -> MadeRun:
    return copied(made, tmp_path / "b")


def compared(a: MadeRun, b: MadeRun) -> Comparison:
    return compare_runs(a.data, b.data, DRAWS)


def rows_of(found: Comparison, phase: str) -> dict[str, Row]:
    return {row.figure: row for row in found.rows if row.phase == phase}


def one_line(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what was solved


def outcomes(tasks: Sequence[int], failing: Sequence[int]) -> dict[int, list[bool | None]]:
    return {task: [task not in failing] for task in tasks}


def test_pass_rates_stand_side_by_side_with_their_difference(a: MadeRun, b: MadeRun) -> None:
    tasks = range(100, 112)
    b.solutions("3.5", {0.0: outcomes(tasks, (100, 103)), 0.6: outcomes(tasks, ())})
    row = rows_of(compared(a, b), "3.5")
    assert list(row) == ["validation, temperature 0"]  # the only temperature that both have
    found = row["validation, temperature 0"]
    assert (found.a, found.b, found.n_a, found.n_b) == (pytest.approx(8 / 12), pytest.approx(10 / 12), 12, 12)
    assert found.difference == pytest.approx(2 / 12)
    assert found.low is not None and found.high is not None and found.low < 2 / 12 < found.high
    assert (found.method, found.n_shared) == ("paired bootstrap", 12)


def test_problems_without_a_verdict_are_not_counted(a: MadeRun, b: MadeRun) -> None:
    b.solutions("3.6", {0.0: {5: [True], 6: [False], 7: [False], 8: [True]}})
    found = rows_of(compared(a, b), "3.6")["hyperparams, temperature 0"]
    assert (found.a, found.n_a) == (pytest.approx(2 / 3), 3)  # problem 6 was excluded there
    assert (found.b, found.n_b) == (0.5, 4)
    assert (found.method, found.n_shared) == ("bootstrap, problems partly shared", 3)


def test_problems_of_another_data_set_are_not_paired_though_their_numbers_are_the_same(
    a: MadeRun, tmp_path: Path
) -> None:
    other = whole_run(tmp_path / "b", wording="Another")
    found = rows_of(compared(a, other), "3.5")["validation, temperature 0"]
    assert (found.method, found.n_shared) == ("unpaired, Newcombe", 0)
    assert found.low is not None and found.low < 0


def test_wordings_are_found_where_there_is_no_phase_0(a: MadeRun, b: MadeRun) -> None:
    for phase in ("0", "2.5", "2.10", "4.5", "4.8", "1.0", "3.6"):
        shutil.rmtree(b.root(phase))
    found = rows_of(compared(a, b), "3.5")["validation, temperature 0"]
    assert found.n_shared == 12
    assert rows_of(compared(a, b), "3.8")["F1, correct predictor"].n_shared == 12


def test_problems_whose_wording_nobody_knows_are_not_paired(a: MadeRun, b: MadeRun) -> None:
    for run in (a, b):
        for phase in ("0", "1.0", "3.5", "3.6", "7.3"):
            shutil.rmtree(run.root(phase))
    assert {row.n_shared for row in compared(a, b).rows if row.method} == {0}


# --- features, coefficients


def test_best_features_and_their_overlap_stand_beside_chance(a: MadeRun, b: MadeRun) -> None:
    b.ranking("2.5", {"correct": [(1, 3), (2, 9)], "incorrect": [(1, 4)]}, n_ranked=40)
    row = rows_of(compared(a, b), "2.5")
    best = row["best correct-preferring feature"]
    assert (best.a, best.b, best.reason) == ("layer 2 feature 5", "layer 1 feature 3", "different")
    common = row["correct: the best, in common"]
    assert common.detail == {"in_common": 1, "expected_by_chance": 2 * 2 / 50, "n_ranked": 50}
    assert common.reason == "1 in common; 0.08 expected by chance among 50" and common.low is None
    assert row["its separation score"].reason == "no interval: scored on the problems it was chosen on"


def test_features_of_other_saes_are_not_taken_for_the_same(a: MadeRun, b: MadeRun) -> None:
    saes = [{"sae_layer": n, "release": "other", "sae_id": f"layer_{n}", "revision": None} for n in (1, 2)]
    b.ranking("2.5", {"correct": [(2, 5)], "incorrect": [(1, 4)]}, saes=saes)
    row = rows_of(compared(a, b), "2.5")
    said = "other SAEs: a feature's number means another feature"
    assert row["correct: the best, in common"].reason == row["best correct-preferring feature"].remark == said
    assert row["correct: the best, in common"].detail is None


def test_a_run_that_ranked_no_feature_has_none(a: MadeRun, b: MadeRun) -> None:
    b.ranking("2.5", {"correct": [], "incorrect": [(1, 4)]})
    row = rows_of(compared(a, b), "2.5")
    assert row["best correct-preferring feature"].b is None
    assert rows_of(compared(b, a), "2.5")["correct: the best, in common"].n_a == 0


def test_coefficients_are_compared_without_an_interval(a: MadeRun, b: MadeRun) -> None:
    b.coefficients({"correct": (2, 20, 12.0), "incorrect": (1, 11, 5.0)})
    row = rows_of(compared(a, b), "4.5")
    assert (row["correct: coefficient"].a, row["correct: coefficient"].b) == (9.0, 12.0)
    assert row["correct: coefficient"].difference == 3.0 and row["correct: coefficient"].low is None
    assert row["correct: in norms of the residual stream"].difference == pytest.approx(3 / 40)
    said = "layer 1 feature 10, suggested and layer 1 feature 11, suggested"
    assert row["incorrect: coefficient"].remark == said


# --- detection, steering


def test_detection_is_compared_beside_what_it_has_to_beat(a: MadeRun, b: MadeRun) -> None:
    tasks = range(100, 112)
    passed = {task: task % 3 > 0 for task in tasks}
    b.detection({task: 10.0 * passed[task] + task % 2 for task in tasks}, passed, 5.0)
    row = rows_of(compared(a, b), "3.8")
    area = row["AUROC, correct predictor (2:5)"]
    assert area.a == pytest.approx(0.5625) and area.b == 1.0 and area.difference == pytest.approx(1 - 0.5625)
    assert area.low is not None and area.low > 0
    assert area.remark == "median of random directions: 0.600 and 0.600"
    f1 = row["F1, incorrect predictor"]
    assert f1.b == 1.0 and f1.detail == {"beside": "F1 of calling everything positive", "a": 0.5, "b": 0.5}


def test_the_figures_are_the_ones_that_phase_3_8_reported(a: MadeRun, b: MadeRun) -> None:
    row = rows_of(compared(a, b), "3.8")
    path = a.root("3.8") / "evaluation_results.json"
    for direction, report in json.loads(path.read_text())["directions"].items():
        validation = report["validation"]
        assert row[f"AUROC, {direction} predictor (2:5)"].a == pytest.approx(validation["auroc"]["value"])
        assert row[f"F1, {direction} predictor"].a == pytest.approx(validation["classification"]["f1"])


def test_without_a_threshold_there_is_no_f1_and_it_says_why(a: MadeRun, b: MadeRun) -> None:
    tasks = range(100, 112)
    b.detection({task: 1.0 for task in tasks}, {task: task > 105 for task in tasks}, None)
    f1 = rows_of(compared(a, b), "3.8")["F1, correct predictor"]
    assert (f1.b, f1.difference, f1.reason) == (None, None, "B: no positive row among 4")


def test_effects_of_steering_are_counted_on_pairs_beside_the_controls(a: MadeRun, b: MadeRun) -> None:
    b.steering("4.8", "kkkkffffkkkf", "bbbbwwwwkkBw", ["kkbbwwwwkkkw", "kkkkfwwwkkkw"])
    row = rows_of(compared(a, b), "4.8")
    net = row["correct: net change in solved problems"]
    assert (net.a, net.b) == (pytest.approx((2 - 3) / 12), pytest.approx(5 / 12))
    assert net.difference == pytest.approx(6 / 12) and net.method == "paired bootstrap"
    assert net.remark.startswith("fixes minus breaks among controls: p 0.667 (1 of 2 do as well) and p 0.333 (0 of 2")
    broken = row["incorrect: broken, still parsing, of passing"]
    assert (broken.a, broken.b, broken.n_a, broken.n_b) == (pytest.approx(3 / 7), pytest.approx(4 / 7), 7, 7)
    assert row["incorrect: broken, of passing"].b == pytest.approx(5 / 7)
    assert row["correct: fixed, of failing"].b == 1.0


def test_problems_that_were_left_out_of_one_run_are_not_paired(a: MadeRun, b: MadeRun) -> None:
    b.steering("4.8", "xkbBffwwkkbw", "kbbbwwwwkkBW")
    net = rows_of(compared(a, b), "4.8")["correct: net change in solved problems"]
    assert (net.n_a, net.n_b, net.n_shared) == (12, 11, 11)


def test_what_transferred_is_compared_through_the_intervals_that_are_kept(a: MadeRun, b: MadeRun) -> None:
    for run, value, transferred in ((a, 0.9, True), (b, 0.7, None)):
        auroc = {"value": value, "low": value - 0.03, "high": value + 0.04, "n": 12}
        detection = {"correct": {"transferred": transferred, "instruct": {"auroc": auroc}}}
        run.steering("7.6", "kkbBffwwkkbw", "kbbbwwwwkkBW")
        directions = json.loads((run.root("7.6") / "steering_effect_analysis.json").read_text())
        table = (run.root("7.6") / "steering_results.parquet").read_bytes()
        comparison = {"detection": detection, "steering": {"incorrect": {"transferred": False}}}
        files = {"steering_results.parquet": table, "steering_effect_analysis.json": directions}
        run.publish("7.6", {**files, "cross_model_comparison.json": comparison})
    row = {row.figure: row for row in compared(a, b).rows if row.group == "transfer"}
    assert (row["correct predictor"].a, row["correct predictor"].b) == ("transferred", "cannot be told")
    assert row["incorrect direction"].reason == "the same in both"
    area = row["AUROC of the correct predictor on the instruct model"]
    assert area.difference == pytest.approx(-0.2) and area.method == "unpaired, from both intervals"
    assert area.low == pytest.approx(-0.2 - (0.03**2 + 0.04**2) ** 0.5)
    assert len(rows_of(compared(a, b), "7.6")) == 8 + 3


# --- how they were made


def test_what_was_made_differently_is_named_with_its_phases(a: MadeRun, tmp_path: Path) -> None:
    other = whole_run(tmp_path / "b", seed=7, phase3_5_samples=3, phase4_8_examples=2)
    model = {"name": "other", "role": "base", "revision": "1", "digest": "xyz", "dtype": "bfloat16"}
    other.solutions("1.0", {0.0: {1: [True]}}, model=model, points={"1": "blocks.1.hook_resid_pre"}, batch_size=8)
    found = {one.what: one for one in compared(a, other).different}
    assert (found["setting seed"].a, found["setting seed"].b) == (42, 7)
    assert found["setting phase3_5_samples"].phases == ("3.5",)
    assert "setting phase4_8_examples" in found and "setting data_dir" not in found
    assert (found["model name"].a, found["model name"].b, found["model name"].phases) == ("tiny", "other", ("1.0",))
    assert (found["site"].a, found["site"].b) == ("resid_post", "resid_pre")
    assert (found["batch size"].a, found["batch size"].b) == ("not recorded", 8)
    assert found["model device type"].b is None


def test_runs_that_were_made_alike_differ_in_nothing(a: MadeRun, b: MadeRun) -> None:
    assert compared(a, b).different == []


def test_another_sae_is_named_by_its_layer(a: MadeRun, b: MadeRun) -> None:
    saes = [{"sae_layer": 1, "release": "saes", "sae_id": "layer_1", "revision": None, "digest": "new"}]
    b.solutions("1.0", {0.0: {1: [True]}}, saes=saes)
    found = {one.what: one for one in compared(a, b).different}
    assert found["SAE of layer 1"].b["digest"] == "new" and found["SAE of layer 2"].b == "not recorded"
    assert "SAE release" not in found


# --- order, copies, unfinished runs, damage


def test_exchanging_the_directories_changes_the_signs_and_nothing_else(a: MadeRun, b: MadeRun) -> None:
    tasks = range(100, 112)
    b.solutions("3.5", {0.0: outcomes(tasks, (100, 103))})
    b.steering("4.8", "xkkkffffkkkf", "bbbbwwwwkkBw")
    b.solutions("3.6", {0.0: {5: [False], 6: [False], 7: [True], 9: [True]}})
    for there, back in zip(compared(a, b).rows, compared(b, a).rows, strict=True):
        assert (there.figure, there.method, there.n_shared) == (back.figure, back.method, back.n_shared)
        assert (there.a, there.b, there.n_a, there.n_b) == (back.b, back.a, back.n_b, back.n_a)
        if there.difference is not None:
            assert back.difference == pytest.approx(-there.difference)
        if there.low is not None and there.high is not None:
            assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))


def test_the_same_comparison_gives_the_same_rows(a: MadeRun, b: MadeRun) -> None:
    b.solutions("3.5", {0.0: outcomes(range(100, 112), (100, 103))})
    assert compared(a, b).as_dict() == compared(a, b).as_dict()


def test_a_copy_is_called_one(a: MadeRun, b: MadeRun) -> None:
    b.coefficients({"correct": (2, 20, 9.0), "incorrect": (1, 10, 5.0)})
    found = compared(a, b)
    assert found.same_outputs == ["0", "1.0", "2.5", "2.10", "3.5", "3.6", "3.8", "4.8", "7.3"]
    assert {row.difference for row in found.rows if row.kind != "words"} == {0.0}
    assert all(row.low is None and row.reason for row in found.rows)


def test_how_far_either_run_is_is_said(a: MadeRun, b: MadeRun) -> None:
    b.solutions("3.6", {0.0: {5: [True], 7: [False]}}, done=2, expected=4)
    shutil.rmtree(b.root("4.5"))
    found = {one["phase"]: one for one in compared(a, b).progress}
    assert (found["3.6"]["a"], found["3.6"]["b"]) == ("complete", "partial (2 of 4)")
    assert (found["4.5"]["b"], found["0.1"]["a"]) == ("missing", "missing")
    assert found["4.8"]["a"].startswith("stale: ")
    row = rows_of(compared(a, b), "3.6")["hyperparams, temperature 0"]
    assert (row.n_a, row.n_b, row.n_shared) == (3, 2, 2)
    assert "take care: phase 3.6 is partial in B (2 of 4 problems)" in row.remark
    assert rows_of(compared(a, b), "4.5") == {}


def test_a_damaged_file_is_a_row_that_says_so_and_the_rest_is_compared(a: MadeRun, b: MadeRun) -> None:
    path = b.root("2.5") / TOP_FEATURES
    path.write_text(path.read_text().replace('"layer": 2', '"layer": 1'))
    (b.root("3.8") / "scores.parquet").write_bytes(b"PAR1")
    (b.root("4.5") / "metadata.json").write_text("{")
    found = compared(a, b)
    for phase, name in (("2.5", TOP_FEATURES), ("3.8", "scores.parquet"), ("4.5", "metadata.json")):
        (row,) = rows_of(found, phase).values()
        assert row.reason is not None and row.reason.startswith("not compared: ") and name in row.reason
        assert row.difference is None
    assert rows_of(found, "3.5")["validation, temperature 0"].difference == 0.0
    assert {one["phase"]: one["b"] for one in found.progress}["4.5"].startswith("unreadable: ")


def test_damaged_wordings_leave_the_figures_and_the_pairing_by_other_files(a: MadeRun, b: MadeRun) -> None:
    (next(b.root("0").glob("*.parquet"))).write_bytes(b"PAR1")
    assert rows_of(compared(a, b), "3.5")["validation, temperature 0"].n_shared == 12


def test_two_runs_that_cannot_be_compared_are_refused_in_one_line(a: MadeRun, b: MadeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    only = MadeRun(tmp_path / "only")
    only.publish("2.2", {})
    link = tmp_path / "link"
    link.symlink_to(a.data)
    refused = {
        (a.data, tmp_path / "aa"): "aa does not exist; did you mean 'a'?",
        (tmp_path / "bb", a.data): "bb does not exist",
        (a.data, a.data): "are the same directory; give two runs",
        (a.data, link): "are the same directory; give two runs",
        (a.data, tmp_path / "empty"): "empty holds no output of any phase; give the data directory of a run",
        (a.root("3.5"), b.data): "holds no output of any phase; give the directory above it",
        (only.data, b.data): "no phase is published in both: ",
    }
    for (one, other), said in refused.items():
        assert said in one_line(lambda one=one, other=other: compare_runs(one, other))


def test_everything_is_ready_for_json(a: MadeRun, b: MadeRun) -> None:
    found = json.loads(json.dumps(compared(a, b).as_dict(), allow_nan=False))
    assert (found["seed"], found["bootstrap_draws"], found["confidence"]) == (42, 400, 0.95)
    assert {"group", "figure", "a", "b", "difference", "low", "high", "method", "reason"} <= set(found["figures"][0])
