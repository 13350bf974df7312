"""Detection on the bundled tiny model: refusals, sampling that depends on nothing, and what shuffled labels give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from common.config import resolve_config
from common.profiles import load_profile
from common.runs.discovery import find_output
from common.runs.options import RunOptions
from common.statistics.permutation import MaxStatisticNull, permuted_labels, welch_t_statistic
from common_simplified.feature_ranking import labelled_split, layer_activations
from tests.organism_runs.conftest import SIZES, Detected, done

DATA_COLUMNS = ("task_id", "temperature", "sample", "prompt", "generated_text", "generated_code", "test_passed")


def results(detected: Detected) -> dict:
    return json.loads((detected.data / "phase3_8" / "evaluation_results.json").read_text())["directions"]


@pytest.mark.smoke
def test_evaluation_refuses_part_of_the_hyperparameter_split_and_runs_after_the_rest(detected: Detected) -> None:
    assert "phase 3.8 reads phase 3.6" in detected.refusal and "10 of 97 problems" in detected.refusal
    assert "AUROC" in detected.evaluation


@pytest.mark.smoke
def test_the_figures_equal_scikit_learns_on_the_published_scores(detected: Detected) -> None:
    table = pq.read_table(detected.data / "phase3_8" / "scores.parquet").to_pandas()
    valid, hyper = table[table["split"] == "validation"], table[table["split"] == "hyperparams"]
    for direction, report in results(detected).items():
        passed, score = valid["test_passed"].to_numpy(bool), valid[f"{direction}_score"].to_numpy()
        positive = passed if direction == "correct" else ~passed
        assert report["validation"]["auroc"]["value"] == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
        threshold = report["threshold"]["threshold"]
        at = report["validation"]["classification"]
        assert at["f1"] == pytest.approx(f1_score(positive, score >= threshold), abs=1e-12)
        assert at["f1_all_positive"] == pytest.approx(f1_score(positive, np.ones_like(positive)), abs=1e-12)
        tuned = hyper["test_passed"].to_numpy(bool)
        tuned = tuned if direction == "correct" else ~tuned
        own = hyper[f"{direction}_score"].to_numpy()
        best = max(f1_score(tuned, own >= candidate) for candidate in np.unique(own))
        assert report["threshold"]["f1"] == pytest.approx(best, abs=1e-12)


@pytest.mark.smoke
def test_every_reported_row_has_its_n_and_every_f1_its_trivial_twin(detected: Detected) -> None:
    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "f1" in node:
                assert "f1_all_positive" in node and "n" in node, node
            if "auroc" in node:
                assert "n" in node or "n" in node["auroc"], node
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(results(detected))


@pytest.mark.smoke
def test_samples_are_the_same_whole_sliced_and_in_another_batch_size(detected: Detected, tmp_path: Path) -> None:
    """Phase 3.5's first 24 problems again, in two slices that cut batches of 16, from the same features."""
    options = ("--profile", "organism", "--data-dir", tmp_path, "--inputs-from", detected.data, *SIZES)
    for start, end in ((0, 9), (10, 23)):
        done("phase", "3.5", *options, "--batch-size", 16, "--start", start, "--end", end)
    for name in ("dataset_temp_0_0.parquet", "dataset_temp_0_9.parquet"):
        whole = pq.read_table(detected.data / "phase3_5" / name).select(DATA_COLUMNS)
        part = pq.read_table(tmp_path / "phase3_5" / name).select(DATA_COLUMNS)
        assert part.num_rows == 24 * (2 if "0_9" in name else 1)
        assert part.equals(whole.slice(0, part.num_rows)), name


@pytest.mark.smoke
def test_two_samples_of_a_problem_differ_somewhere(detected: Detected) -> None:
    table = pq.read_table(detected.data / "phase3_5" / "dataset_temp_0_9.parquet").to_pandas()
    texts = table.pivot(index="task_id", columns="sample", values="generated_text")
    assert (texts[0] != texts[1]).mean() > 0.2


@pytest.mark.smoke
def test_shuffled_labels_reach_significance_about_as_often_as_they_should(detected: Detected) -> None:
    """Over 200 shuffles a feature reaches the max-permutation p ≤ 0.05 in 5 %, within three binomial deviations."""
    config = resolve_config({"profile": "organism", "data_dir": str(detected.data)}, {}).config
    profile = load_profile("organism")
    output = find_output(config, RunOptions(), "1.0", "test")
    split = labelled_split(output, config, profile, "test")
    layers = [item.activations for item in layer_activations(output, split, profile)]
    null = MaxStatisticNull(split.labels, 1000, 7, welch_t_statistic)
    shuffles = permuted_labels(split.labels, 200, 12345)
    best = np.full(len(shuffles), -np.inf)
    for activations in layers:
        null.update(activations)
        varying = activations[:, (activations != activations[0]).any(axis=0)]
        best = np.fmax(best, np.nanmax(welch_t_statistic(varying, shuffles), axis=1))
    share = float((null.p_values(best, "correct") <= 0.05).mean())
    assert abs(share - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / 200), share


@pytest.mark.smoke
def test_the_ranking_is_measured_again_on_another_split_and_its_own_record_is_left_alone(detected: Detected) -> None:
    root = detected.data / "phase2_5"
    before = (root / "metadata.json").read_bytes()
    done("phase", "2.5", "--profile", "organism", "--data-dir", detected.data, "--split", "hyperparams", *SIZES)
    assert (root / "metadata.json").read_bytes() == before
    found = json.loads((root / "by_split" / "hyperparams" / "replication.json").read_text())
    assert found["n_problems"] == 97
    best = found["features"]["correct"][0]
    assert best["separation_score"] == pytest.approx(best["f_correct"] - best["f_incorrect"])
    record = json.loads((detected.data / "phase3_6" / "metadata.json").read_text())
    assert all(
        (item["separation_score"] is None) == (item["layer"] not in record["layers"])
        for item in found["features"]["incorrect"]
    )
