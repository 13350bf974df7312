"""The command line on the bundled tiny model: slices, resuming, the fit gate, and what is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.profiles import REPOSITORY, load_profile, resolve_local
from tests.organism_runs.conftest import SIZES, Detected, Sliced, done, refused

PROFILE = load_profile("organism")


def dataset(data: Path) -> dict[str, list]:
    record = json.loads((data / "phase1_0" / "metadata.json").read_text())
    return pq.read_table(data / "phase1_0" / record["dataset"]).to_pydict()


@pytest.mark.smoke
def test_ten_problems_are_ten_and_asking_again_does_nothing(sliced: Sliced) -> None:
    assert "10 of 489 problems" in sliced.ten
    assert "nothing to do" in sliced.again and "loading" not in sliced.again


@pytest.mark.smoke
def test_ranking_refuses_a_partial_input_in_one_line_that_names_the_cure(sliced: Sliced) -> None:
    assert "10 of 489 problems" in sliced.refusal and "run.py phase 1.0 --profile organism" in sliced.refusal


@pytest.mark.smoke
def test_the_rest_is_computed_and_only_the_rest(sliced: Sliced) -> None:
    data = sliced.data
    timings = pq.read_table(data / "phase1_0" / "timings.parquet").to_pydict()
    assert timings["position"] == list(range(489))
    assert timings["batch_rows"][:10] == [10] * 10 and timings["batch_rows"][10:64] == [54] * 54
    assert not (data / "phase1_0" / "segments").exists() and "489 of 489 problems" in sliced.rest


@pytest.mark.smoke
def test_between_35_and_65_percent_of_the_solutions_pass(sliced: Sliced) -> None:
    data = sliced.data
    labels = dataset(data)["test_passed"]
    assert len(labels) == 489 and 0.35 <= sum(labels) / len(labels) <= 0.65


@pytest.mark.smoke
def test_every_problem_has_one_file_a_layer_where_its_label_says(sliced: Sliced) -> None:
    data = sliced.data
    table = dataset(data)
    expected = {
        f"{'correct' if passed else 'incorrect'}/{task_id}_layer_{layer}.npz"
        for task_id, passed in zip(table["task_id"], table["test_passed"], strict=True)
        for layer in range(PROFILE.n_layers)
    }
    root = data / "phase1_0" / "activations"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.npz")} == expected


@pytest.mark.smoke
def test_the_best_features_beat_every_shuffle_and_follow_the_hidden_carelessness(detected: Detected) -> None:
    for phase, score in (("2_5", "separation_score"), ("2_10", "t_statistic")):
        top = json.loads((detected.data / f"phase{phase}" / "top_20_features.json").read_text())
        for items in top.values():
            assert len(items) == 20 and items[0]["p_max_permutation"] <= 0.01
            assert all(item["general_text_frequency"] < 0.02 for item in items)
            scores = [item[score] for item in items]
            assert scores == sorted(scores, reverse=True)
    from common.config import resolve_config
    from organism.known_answers import known_answers

    answers = known_answers(resolve_config({"profile": "organism", "data_dir": str(detected.data)}, {}).config)
    for direction, sign in (("correct", -1), ("incorrect", 1)):
        held_out = answers["detection"]["features"][direction]
        assert sign * held_out["spearman_with_carelessness"] > 0.4
        assert held_out["reaches_0_9_of_ceiling"], held_out
        assert held_out["ahead_of_random_directions"]["low"] > 0, held_out
        assert held_out["ahead_of_matched_features"]["low"] > 0, held_out
        assert sign * answers["features"][direction]["spearman_with_carelessness"] > 0.4


@pytest.mark.slow
def test_deleting_the_truth_changes_no_output_of_a_phase(answered: Path, tmp_path: Path) -> None:
    """The phases run on a copy of the instance that has no truth, and give the same data, byte for byte."""
    profile = copy_of_instance(tmp_path, "copy", with_instruct=True)
    assert not list(tmp_path.rglob("truth*"))
    options = ("--profile", profile, "--data-dir", tmp_path / "data", *SIZES)
    done("pipeline", *options)
    for name in (
        *("phase2_5/feature_scores.parquet", "phase2_10/feature_scores.parquet", "phase3_8/scores.parquet"),
        "phase4_5/coefficient_results.parquet",
        *("phase4_8/steering_results.parquet", "phase7_6/steering_results.parquet"),
    ):
        assert (tmp_path / "data" / name).read_bytes() == (answered / name).read_bytes(), name


@pytest.mark.parametrize(
    ("shift", "misread"), [pytest.param(-1, "0", marks=pytest.mark.smoke), pytest.param(1, "2", marks=pytest.mark.slow)]
)
def test_the_fit_gate_stops_where_an_sae_names_a_neighbouring_block(
    sliced: Sliced, tmp_path: Path, shift: int, misread: str
) -> None:
    """SAE 1's metadata name the block before or after its own: ranking stops, naming layer, site and figures."""
    profile = copy_of_instance(tmp_path, "shifted", shift=shift)
    options = ("--profile", profile, "--data-dir", tmp_path / "data", "--set", "activation_layers=1")
    done("phase", "1.0", *options, "--end", 31, "--inputs-from", sliced.data)
    told = refused("phase", "2.5", *options, "--allow-partial")
    assert f"layer 1 at blocks.{misread}.hook_resid_post" in told and "blocks.1.hook_resid_post" in told


@pytest.mark.slow
def test_an_explicit_site_only_warns_and_marks_the_result(sliced: Sliced, tmp_path: Path) -> None:
    data = sliced.data
    options = ("--profile", "organism", "--data-dir", tmp_path, "--inputs-from", data, "--site", "resid_pre")
    done("phase", "1.0", *options, "--end", 31)
    told = done("phase", "2.5", "--profile", "organism", "--data-dir", tmp_path, "--allow-partial")
    record = json.loads((tmp_path / "phase2_5" / "metadata.json").read_text())
    assert "WARNING" in told and record["site_misfits"] and not record["complete"]


def copy_of_instance(root: Path, name: str, shift: int = 0, *, with_instruct: bool = False) -> Path:
    """Writes a profile of a copy of the shipped instance without its truth; SAEs may name a block `shift` away."""
    source = resolve_local(PROFILE.dataset.name).parent
    copy = root / name
    left_out = ("truth*",) if with_instruct else ("truth*", "instruct")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*left_out))
    for layer in range(PROFILE.n_layers):
        config = copy / "saes" / f"layer_{layer}" / "cfg.json"
        text = config.read_text()
        named = min(max(layer + shift, 0), PROFILE.n_layers - 1)
        config.write_text(text.replace(f"blocks.{layer}.hook_resid_post", f"blocks.{named}.hook_resid_post"))
    text = (REPOSITORY / "profiles" / "organism.toml").read_text()
    dropped = ("closing_step",) if with_instruct else ("closing_step", "instruct_model")
    lines = [line for line in text.splitlines() if not line.startswith(dropped)]
    path = root / f"{name}.toml"
    path.write_text("\n".join(lines).replace("organism/instance", str(copy)) + "\n")
    return path
