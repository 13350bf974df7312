"""What the pipeline found, held against the planted truth.

A step outside the phases: it alone reads `truth.jsonl`, after the phases have written their results, and writes
`known_answers.json` in the data directory. Features are judged here on the problems that they were chosen on; the
figures say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from common.config import Config
from common.errors import PipelineError
from common.profiles import Profile, load_profile, resolve_local
from common.runs.artifacts import (
    EVALUATION_RESULTS,
    KNOWN_ANSWERS,
    SCORES,
    TOP_FEATURES,
    PhasePaths,
    labelled_activation,
)
from common.runs.discovery import PhaseOutput, find_output
from common.runs.files import write_json
from common.runs.metadata import read_record
from common.runs.options import RunOptions
from common.runs.publishing import ActivationReader
from common.statistics.feature_tests import auroc_from_ranks, rank_sums
from common.statistics.summaries import wilson_interval
from common_simplified.sae_loader import load_encoder
from organism.steering_answers import steering_answers

CAREFUL, CARELESS = -0.5, 0.5
STEERED = ("4.8", "7.6")


def truth_path(profile: Profile) -> Path | None:
    """Returns the file of planted truth beside the profile's problems, None where the profile has none."""
    if not profile.dataset.local:
        return None
    path = resolve_local(profile.dataset.name).with_name("truth.jsonl")
    return path if path.is_file() else None


def known_answers(config: Config) -> dict[str, Any]:
    """Compares phases 1.0, 2.5, 3.8, 4.8 and 7.6 (the last three where they have run) with the truth.

    Writes `known_answers.json` and returns its content.
    """
    profile = load_profile(config.profile)
    path = truth_path(profile)
    if path is None:
        raise PipelineError(f"profile {config.profile} has no planted truth; only the bundled tiny model has one")
    truth = {row["task_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    built = find_output(config, RunOptions(), "1.0", "known answers")
    ranked = find_output(config, RunOptions(), "2.5", "known answers")
    dataset = built.table(built.record["dataset"])
    passed = dataset["test_passed"].to_numpy(zero_copy_only=False).astype(bool)
    rows = [truth[task_id] for task_id in dataset["task_id"].to_pylist()]
    z = np.array([row["z"] for row in rows])
    posterior = np.array([row["failure_posterior"] for row in rows], dtype=np.float32)
    answers: dict[str, Any] = {
        "what": "what the phases found against the planted truth",
        "split": "sae",
        "n_problems": len(rows),
        "pass_rate": {
            "all": _rate(passed),
            "careful": _rate(passed[z < CAREFUL]),
            "careless": _rate(passed[z > CARELESS]),
        },
        "ceiling": {
            "what": "AUROC of the exact posterior of a bug, given the wording cues and the difficulty, for failing",
            "auroc": _auroc(posterior, ~passed),
            "n": len(rows),
        },
        "features": {
            direction: _judge_feature(items[0], direction, built, profile, passed, z)
            for direction, items in ranked.json(TOP_FEATURES).items()
        },
        "note": "these features are judged on the problems they were chosen on; `detection` is held out",
    }
    if read_record(PhasePaths(config.phase_dir("3.8"))) is not None:
        answers["detection"] = _detection(find_output(config, RunOptions(), "3.8", "known answers"), truth)
    answers["steering"] = {
        phase: steering_answers(config, find_output(config, RunOptions(), phase, "known answers"), truth)
        for phase in STEERED
        if read_record(PhasePaths(config.phase_dir(phase))) is not None
    }
    write_json(Path(config.data_dir) / KNOWN_ANSWERS, answers)
    return answers


def _detection(evaluated: PhaseOutput, truth: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Holds phase 3.8's held-out figures against what the wording cues allow at best."""
    from scipy.stats import spearmanr

    results = evaluated.json(EVALUATION_RESULTS)
    table = evaluated.table(SCORES)
    table = table.filter(pa.array([split == "validation" for split in table["split"].to_pylist()]))
    rows = [truth[task_id] for task_id in table["task_id"].to_pylist()]
    passed = table["test_passed"].to_numpy(zero_copy_only=False).astype(bool)
    posterior = np.array([row["failure_posterior"] for row in rows], dtype=np.float32)
    ceiling = _auroc(posterior, ~passed)
    answers: dict[str, Any] = {"split": "validation", "n": len(rows), "ceiling_auroc": ceiling, "features": {}}
    for direction, report in results["directions"].items():
        scores = table[f"{direction}_score"].to_numpy()
        correlation: Any = spearmanr(scores, [row["z"] for row in rows])
        auroc = report["validation"]["auroc"]
        answers["features"][direction] = {
            **report["feature"],
            "auroc": {name: auroc[name] for name in ("value", "low", "high", "n")},
            "share_of_ceiling": auroc["value"] / ceiling,
            "reaches_0_9_of_ceiling": auroc["value"] >= 0.9 * ceiling,
            "ahead_of_random_directions": report["rivals"]["random directions"]["target_minus_median"],
            "ahead_of_matched_features": report["rivals"]["matched random features"]["target_minus_median"],
            "spearman_with_carelessness": float(correlation.statistic),
        }
    return answers


def _judge_feature(
    item: dict[str, Any], direction: str, built: PhaseOutput, profile: Profile, passed: np.ndarray, z: np.ndarray
) -> dict[str, Any]:
    from scipy.stats import spearmanr

    dataset = built.table(built.record["dataset"])
    pairs = zip(dataset["task_id"].to_pylist(), passed.tolist(), strict=True)
    names = [labelled_activation(task_id, item["layer"], label) for task_id, label in pairs]
    vectors = torch.from_numpy(ActivationReader(built).matrix(names, profile.d_model))
    acts = load_encoder(profile, item["layer"]).encode(vectors)[:, item["feature_idx"]].numpy()
    wanted = passed if direction == "correct" else ~passed
    correlation: Any = spearmanr(acts, z)
    careful = z < 0 if direction == "correct" else z > 0
    return {
        "layer": item["layer"],
        "feature_idx": item["feature_idx"],
        "auroc_for_label": _auroc(acts, wanted),
        "auroc_for_carelessness": _auroc(acts, careful),
        "spearman_with_carelessness": float(correlation.statistic),
        "p_max_permutation": item["p_max_permutation"],
        "n": len(acts),
    }


def _auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    return float(auroc_from_ranks(rank_sums(scores.astype(np.float32)[:, None], positive))[0])


def _rate(passed: np.ndarray) -> dict[str, Any]:
    n, successes = len(passed), int(passed.sum())
    interval = wilson_interval(successes, n)
    return {"rate": successes / n if n else None, "n": n, "low": interval.low, "high": interval.high}
