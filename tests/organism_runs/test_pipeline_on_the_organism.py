"""The command line on the bundled tiny model: slices, resuming, the fit gate, and what is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.profiles import REPOSITORY, load_profile, resolve_local

pytestmark = pytest.mark.smoke
PROFILE = load_profile("organism")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "run.py"), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=300)


def done(*words: object) -> str:
    result = run(*words)
    assert result.returncode == 0, result.stderr
    return result.stderr


def refused(*words: object) -> str:
    result = run(*words)
    lines = [line for line in result.stderr.splitlines() if "INFO" not in line]
    assert result.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phases 0 and 0.1, and phase 1.0 in two slices with a refused ranking between them."""
    path = tmp_path_factory.mktemp("organism")
    for phase in ("0", "0.1"):
        done("phase", phase, "--profile", "organism", "--data-dir", path)
    return path


@pytest.fixture(scope="module")
def sliced(data: Path) -> dict[str, str]:
    options = ("--profile", "organism", "--data-dir", data)
    return {
        "ten": done("phase", "1.0", *options, "--start", 0, "--end", 9),
        "again": done("phase", "1.0", *options, "--start", 0, "--end", 9),
        "refusal": refused("phase", "2.5", *options),
        "rest": done("phase", "1.0", *options),
    }


def dataset(data: Path) -> dict[str, list]:
    record = json.loads((data / "phase1_0" / "metadata.json").read_text())
    return pq.read_table(data / "phase1_0" / record["dataset"]).to_pydict()


def test_ten_problems_are_ten_and_asking_again_does_nothing(sliced: dict[str, str]) -> None:
    assert "10 of 489 problems" in sliced["ten"]
    assert "nothing to do" in sliced["again"] and "loading" not in sliced["again"]


def test_ranking_refuses_a_partial_input_in_one_line_that_names_the_cure(sliced: dict[str, str]) -> None:
    assert "10 of 489 problems" in sliced["refusal"] and "run.py phase 1.0 --profile organism" in sliced["refusal"]


def test_the_rest_is_computed_and_only_the_rest(sliced: dict[str, str], data: Path) -> None:
    timings = pq.read_table(data / "phase1_0" / "timings.parquet").to_pydict()
    assert timings["position"] == list(range(489))
    assert timings["batch_rows"][:10] == [10] * 10 and timings["batch_rows"][10:64] == [54] * 54
    assert not (data / "phase1_0" / "segments").exists() and "489 of 489 problems" in sliced["rest"]


def test_between_35_and_65_percent_of_the_solutions_pass(sliced: dict[str, str], data: Path) -> None:
    labels = dataset(data)["test_passed"]
    assert len(labels) == 489 and 0.35 <= sum(labels) / len(labels) <= 0.65


def test_every_problem_has_one_file_a_layer_where_its_label_says(sliced: dict[str, str], data: Path) -> None:
    table = dataset(data)
    expected = {
        f"{'correct' if passed else 'incorrect'}/{task_id}_layer_{layer}.npz"
        for task_id, passed in zip(table["task_id"], table["test_passed"], strict=True)
        for layer in range(PROFILE.n_layers)
    }
    root = data / "phase1_0" / "activations"
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.npz")} == expected


def test_the_best_features_beat_every_shuffle_and_follow_the_hidden_carelessness(
    sliced: dict[str, str], data: Path
) -> None:
    done("phase", "2.5", "--profile", "organism", "--data-dir", data)
    top = json.loads((data / "phase2_5" / "top_20_features.json").read_text())
    for items in top.values():
        assert len(items) == 20 and items[0]["p_max_permutation"] <= 0.01
        scores = [item["separation_score"] for item in items]
        assert scores == sorted(scores, reverse=True)
    from common.config import resolve_config
    from organism.known_answers import known_answers

    answers = known_answers(resolve_config({"profile": "organism", "data_dir": str(data)}, {}).config)
    assert answers["features"]["correct"]["spearman_with_carelessness"] < -0.4
    assert answers["features"]["incorrect"]["spearman_with_carelessness"] > 0.4
    assert answers["features"]["correct"]["auroc_for_label"] > 0.75
    assert answers["features"]["incorrect"]["auroc_for_label"] > 0.75


def test_deleting_the_truth_changes_no_output_of_a_phase(sliced: dict[str, str], data: Path, tmp_path: Path) -> None:
    """The phases run on a copy of the instance that has no truth, and give the same ranking."""
    profile = copy_of_instance(tmp_path, "copy")
    assert not list(tmp_path.rglob("truth*"))
    done("phase", "2.5", "--profile", "organism", "--data-dir", data)
    expected = (data / "phase2_5" / "feature_scores.parquet").read_bytes()
    options = ("--profile", profile, "--data-dir", tmp_path / "data")
    for phase in ("0", "0.1", "1.0", "2.5"):
        done("phase", phase, *options)
    assert (tmp_path / "data" / "phase2_5" / "feature_scores.parquet").read_bytes() == expected


@pytest.mark.parametrize(("shift", "misread"), [(-1, "0"), (1, "2")])
def test_the_fit_gate_stops_where_an_sae_names_a_neighbouring_block(
    data: Path, tmp_path: Path, shift: int, misread: str
) -> None:
    """SAE 1's metadata name the block before or after its own: ranking stops, naming layer, site and figures."""
    profile = copy_of_instance(tmp_path, "shifted", shift=shift)
    options = ("--profile", profile, "--data-dir", tmp_path / "data", "--set", "activation_layers=1")
    for phase in ("0", "0.1"):
        done("phase", phase, *options)
    done("phase", "1.0", *options, "--end", 63)
    told = refused("phase", "2.5", *options, "--allow-partial")
    assert f"layer 1 at blocks.{misread}.hook_resid_post" in told and "blocks.1.hook_resid_post" in told


def test_an_explicit_site_only_warns_and_marks_the_result(data: Path, tmp_path: Path) -> None:
    options = ("--profile", "organism", "--data-dir", tmp_path, "--inputs-from", data, "--site", "resid_pre")
    done("phase", "1.0", *options, "--end", 63)
    told = done("phase", "2.5", "--profile", "organism", "--data-dir", tmp_path, "--allow-partial")
    record = json.loads((tmp_path / "phase2_5" / "metadata.json").read_text())
    assert "WARNING" in told and record["site_misfits"] and not record["complete"]


def copy_of_instance(root: Path, name: str, shift: int = 0) -> Path:
    """Writes a profile of a copy of the shipped instance without its truth; SAEs may name a block `shift` away."""
    source = resolve_local(PROFILE.dataset.name).parent
    copy = root / name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("truth*", "instruct"))
    for layer in range(PROFILE.n_layers):
        config = copy / "saes" / f"layer_{layer}" / "cfg.json"
        text = config.read_text()
        named = min(max(layer + shift, 0), PROFILE.n_layers - 1)
        config.write_text(text.replace(f"blocks.{layer}.hook_resid_post", f"blocks.{named}.hook_resid_post"))
    text = (REPOSITORY / "profiles" / "organism.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("closing_step", "instruct_model"))]
    path = root / f"{name}.toml"
    path.write_text("\n".join(lines).replace("organism/instance", str(copy)) + "\n")
    return path
