"""What the report says of a real run, worked out again from the run's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ks_2samp
from sklearn.metrics import f1_score, roc_auc_score

from common.config import resolve_config
from report.run import Run
from report.sections import detection, difficulty, features, provenance, sae_fit, solutions, temperature
from tests.organism_runs.conftest import Detected
from tests.report.sections.saying import sound

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def run(detected: Detected) -> Run:
    return Run(resolve_config({"profile": "organism", "data_dir": str(detected.data)}, {}).config)


def lead(made: Any) -> str:
    return sound(made).lead.replace("\u00a0", " ")


def frame(path: Path) -> Any:
    return pd.read_parquet(path)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def distance(one: Any, other: Any) -> float:
    found: Any = ks_2samp(one, other)
    return found.statistic


def only(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


def test_difficulty_and_splits_are_those_of_the_tables(run: Run, detected: Detected) -> None:
    problems = frame(only(detected.data / "phase0", "mbpp_difficulty_mapping_*.parquet"))
    values = problems["cyclomatic_complexity"]
    said = lead(difficulty.section(run))
    assert (
        f"The 974 problems have reference solutions of cyclomatic complexity {values.min()} to {values.max()}" in said
    )
    assert f"(mean {values.mean():.2f})" in said and "(489 / 97 / 388 problems for" in said
    splits = {
        name: frame(detected.data / "phase0_1" / f"{name}_mbpp.parquet")["cyclomatic_complexity"]
        for name in ("sae", "hyperparams", "validation")
    }
    distances = [distance(splits[a], splits[b]) for a, b in (("sae", "hyperparams"), ("sae", "validation"))]
    distances.append(distance(splits["hyperparams"], splits["validation"]))
    assert any(f"distance of {one:.3f}" in said for one in distances)


def test_the_pass_rate_and_its_interval_are_those_of_the_data_set(run: Run, detected: Detected) -> None:
    data = frame(only(detected.data / "phase1_0", "dataset_sae_*.parquet"))
    passed = int(data["test_passed"].sum())
    low, high = (float(end) for end in binomtest(passed, 489).proportion_ci(method="wilson"))
    said = lead(solutions.section(run))
    interval = f"95 % interval {percent(low)} to {percent(high)}"
    assert f"{percent(passed / 489)} ({passed} of 489; {interval}) of the greedy solutions pass" in said


def test_the_fit_of_the_saes_is_that_of_its_file(run: Run, detected: Detected) -> None:
    layers = json.loads((detected.data / "phase1_0" / "sae_fit.json").read_text())["layers"]
    own = [entry["fraction_unexplained"] for entry in layers]
    said = lead(sae_fit.section(run))
    assert said.startswith("Yes: in all 4 layers")
    assert f"{min(own):.3f} to {max(own):.3f} of the variance unexplained" in said


def test_the_best_features_are_those_of_all_scores(run: Run, detected: Detected) -> None:
    said = lead(features.section(run))
    for phase, score in (("phase2_5", "separation_score"), ("phase2_10", "t_statistic")):
        scores = frame(detected.data / phase / "feature_scores.parquet")
        ranked = scores[scores["ranked"]]
        for best in (ranked.loc[ranked[score].idxmax()], ranked.loc[ranked[score].idxmin()]):
            assert f"layer {int(best['layer'])}, feature {int(best['feature_idx'])} (" in said
    assert "All of them exceed the best of" in said


def test_detection_says_what_scikit_learn_says_of_the_scores(run: Run, detected: Detected) -> None:
    scores = frame(detected.data / "phase3_8" / "scores.parquet")
    valid, hyper = scores[scores["split"] == "validation"], scores[scores["split"] == "hyperparams"]
    said = lead(detection.section(run))
    for direction in ("correct", "incorrect"):
        positive, tuned = (part["test_passed"].to_numpy(bool) == (direction == "correct") for part in (valid, hyper))
        score, own = (part[f"{direction}_score"].to_numpy() for part in (valid, hyper))
        assert f"AUROC {roc_auc_score(positive, score):.3f} (95 % interval" in said
        candidates = np.unique(own)
        threshold = candidates[int(np.argmax([f1_score(tuned, own >= one) for one in candidates]))]
        everything = f1_score(positive, np.ones_like(positive))
        f1 = f1_score(positive, score >= threshold)
        name = "passed" if direction == "correct" else "failed"
        assert f"F1 is {f1:.3f}; calling everything “{name}” has {everything:.3f}" in said


def test_pass_rates_by_temperature_are_those_of_the_data_sets(run: Run, detected: Detected) -> None:
    said = lead(temperature.section(run))
    for name in ("0_0", "0_9"):
        data = frame(detected.data / "phase3_5" / f"dataset_temp_{name}.parquet")
        passed = int(data["test_passed"].sum())
        assert f"({passed}/{len(data)})" in said and percent(passed / len(data)) in said
    assert said.startswith("From temperature 0 to 0.9 ")


def test_what_ran_counts_the_phases_that_were_run(run: Run) -> None:
    assert lead(provenance.section(run)).startswith("9 of 13 phases are complete, made with organism/instance/base in ")
