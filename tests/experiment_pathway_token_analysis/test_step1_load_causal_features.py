"""The features that go on: by the study's flag or by what the trials say, ranked, never padded."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from common.errors import PipelineError
from common.runs.files import read_json, read_parquet, sha256_file
from experiment_pathway_token_analysis.src.contrasts import FISHER, MCNEMAR
from experiment_pathway_token_analysis.src.step1_load_causal_features import class_of, run_step
from experiment_pathway_token_analysis.synthetic_study import SMALL, Plan
from tests.experiment_pathway_token_analysis.studies import LLAMA, OURS, audited, run_in, study_in

pytestmark = pytest.mark.unit
# Planted features that the study's own flag misses, and flagged ones that do nothing.
PLAN = dataclasses.replace(SMALL, causal_per_layer=4, missed_share=0.5, flagged_null_share=0.5)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An audited study of each kind."""
    roots = {kind: tmp_path_factory.mktemp(kind) for kind in (LLAMA, OURS)}
    for kind, root in roots.items():
        study_in(root, kind, PLAN)
        assert audited(run_in(root, kind))[0].passed
    return roots


def features_by(places: dict[str, Path], kind: str, to: Path, *given: str) -> dict[str, Any]:
    shutil.copytree(places[kind], to, dirs_exist_ok=True)
    run = run_in(to, kind, "selection.first_layer=0", *given)
    result = run_step(run)
    assert result.passed and result.exit_code == 0 and list(result.outputs) == [run.paths.causal_features]
    return read_json(run.paths.causal_features)


def names(found: dict[str, Any]) -> set[str]:
    return {feature["feature"] for feature in found["features"]}


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_the_legacy_rule_takes_the_flagged_and_stores_both_flags(
    places: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    truth = read_json(places[kind] / "study" / "truth.json")
    found = features_by(places, kind, tmp_path)
    assert names(found) == set(truth["flagged"])
    planted = set(truth["planted"])
    assert all(feature["is_causal"] for feature in found["features"])
    assert {feature["feature"] for feature in found["features"] if feature["fdr_causal"]} == planted & names(found)
    metadata = found["metadata"]
    assert (metadata["causal_by_legacy_flag"], metadata["causal_by_fdr"]) == (len(truth["flagged"]), len(planted))
    assert metadata["causal_by_both"] == len(planted & set(truth["flagged"])) and metadata["features_tested"] == 36


@pytest.mark.parametrize(("kind", "method"), [(LLAMA, FISHER), (OURS, MCNEMAR)])
def test_the_other_rule_finds_the_planted_features_with_their_effect(
    places: dict[str, Path], kind: str, method: str, tmp_path: Path
) -> None:
    truth = read_json(places[kind] / "study" / "truth.json")
    found = features_by(places, kind, tmp_path, "selection.select_by=fdr")
    assert names(found) == set(truth["planted"]) and found["metadata"]["select_by"] == "fdr"
    a, b = found["metadata"]["classes"]
    for feature in found["features"]:
        assert feature["method"] == method and feature["selected_by"] == "fdr" and feature["q"] <= 0.05
        # Planted are 0.9 against 0.1; with 48 trials the standard error of the difference is 0.06.
        assert feature["rate_difference"] == pytest.approx(PLAN.effect, abs=0.25)
        assert feature[f"effect_{a}"] > 0.4 and feature[f"effect_{b}"] > 0.4
        assert set(feature["n_trials"].values()) == {PLAN.trials}


def test_features_are_ranked_within_layers_by_the_size_of_d(places: dict[str, Path], tmp_path: Path) -> None:
    found = features_by(places, LLAMA, tmp_path, "selection.per_layer=3")
    order = [(feature["layer"], feature["rank_in_layer"]) for feature in found["features"]]
    assert order == sorted(order)
    rows = read_parquet(tmp_path / "results" / "audit" / "features.parquet").to_pylist()
    for layer, counts in found["metadata"]["by_layer"].items():
        of_layer = sorted(abs(row["cohen_d"]) for row in rows if row["layer"] == int(layer) and row["is_causal"])[::-1]
        kept = [abs(feature["cohen_d"]) for feature in found["features"] if feature["layer"] == int(layer)]
        assert kept == of_layer[:3]
        assert counts["n_candidates"] == len(of_layer) and counts["n_selected"] == len(kept)
        assert counts["cut_off_abs_d"] == (kept[-1] if kept else None)
    short = [int(layer) for layer, counts in found["metadata"]["by_layer"].items() if counts["n_selected"] < 3]
    assert found["metadata"]["short_layers"] == short and 0 in short


def test_only_the_layers_asked_for_are_taken(places: dict[str, Path], tmp_path: Path) -> None:
    found = features_by(places, LLAMA, tmp_path, "selection.first_layer=2", "selection.last_layer=2")
    assert {feature["layer"] for feature in found["features"]} == {2} and found["metadata"]["layers"] == [2, 2]


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_that_none_survives_is_a_valid_outcome(kind: str, tmp_path: Path) -> None:
    plan: Plan = dataclasses.replace(SMALL, causal_per_layer=0, flagged_null_share=0.0)
    study_in(tmp_path, kind, plan)
    run = run_in(tmp_path, kind, "selection.select_by=fdr")
    assert audited(run)[0].passed
    result = run_step(run)
    found = read_json(run.paths.causal_features)
    assert result.passed and found["features"] == [] and found["metadata"]["features_tested"] == 36
    assert found["metadata"]["causal_by_fdr"] == found["metadata"]["causal_by_legacy_flag"] == 0


def test_a_small_difference_is_not_causal_however_certain(places: dict[str, Path], tmp_path: Path) -> None:
    found = features_by(places, LLAMA, tmp_path, "selection.select_by=fdr", "selection.min_rate_difference=0.99")
    assert found["features"] == [] and found["metadata"]["causal_by_fdr"] == 0


def test_a_causal_feature_without_trials_is_kept_by_its_flag_and_said_to_be_untested(
    places: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(places[OURS] / "study", tmp_path / "study")
    for path in (tmp_path / "study").glob("response_logs/*_L2_*.json"):
        path.unlink()
    run = run_in(tmp_path, OURS, "study.expected_response_logs=null")
    audited(run)
    run_step(run)
    features = read_json(run.paths.causal_features)["features"]
    untested = [feature for feature in features if feature["layer"] == 2]
    assert untested and all(feature["untested_because"] == "it has no trials" for feature in untested)
    assert all(feature["fdr_causal"] is None and feature["q"] is None for feature in untested)
    assert all(feature["untested_because"] is None for feature in features if feature["layer"] != 2)


def test_the_file_names_what_it_was_made_from_and_repeats_its_bytes(places: dict[str, Path], tmp_path: Path) -> None:
    found = features_by(places, OURS, tmp_path)
    path = run_in(tmp_path, OURS).paths.causal_features
    before = path.read_bytes()
    run_step(run_in(tmp_path, OURS, "selection.first_layer=0"))
    assert path.read_bytes() == before
    inputs = found["metadata"]["inputs"]
    assert inputs["trials.parquet"] == sha256_file(run_in(tmp_path, OURS).paths.trials) and len(inputs) == 3


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"features\.parquet is missing"):
        run_step(run_in(tmp_path, LLAMA))


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (LLAMA, {"class": "risky"}, "risky"),
        (LLAMA, {"mean_a": 2.0, "mean_b": 1.0, "cohen_d": 5.0}, "safe"),
        (LLAMA, {"cohen_d": 0.5}, "risky"),
        (LLAMA, {"cohen_d": -0.5}, "safe"),
        (OURS, {"cohen_d": 0.5}, "correct"),
        (OURS, {"mean_a": 1.0, "mean_b": 1.0, "cohen_d": -0.5}, "incorrect"),
    ],
)
def test_a_features_class_is_the_one_it_is_more_active_on(kind: str, row: dict[str, Any], expected: str) -> None:
    whole = {"class": None, "mean_a": None, "mean_b": None, "cohen_d": 1.0, **row}
    assert class_of(whole, run_in(Path(), kind).settings.study) == expected
