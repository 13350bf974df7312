"""Published phases of a small run, in the schema that the phases write; each test varies what it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.config import Config
from common.runs.artifacts import (
    FEATURE_SCORES,
    SAE_ANALYSIS,
    SPLIT_METADATA,
    TOP_FEATURES,
    temperature_dataset,
    temperature_name,
)
from common.runs.metadata import Extent
from common.statistics.summaries import ks_distance
from phase0.complexity import summarise
from tests.report.helpers import publish

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
SIZES = {"sae": 20, "hyperparams": 4, "validation": 16}
MODEL = {
    "name": "tiny/base",
    "role": "base",
    "revision": None,
    "digest": "sha256:0123456789abcdef",
    "dtype": "float32",
    "device_type": "cpu",
}


def config_in(path: Path, **values: Any) -> Config:
    return Config(data_dir=str(path), **values)


def model_details(split: str, **more: Any) -> dict[str, Any]:
    """Returns what a phase that runs the model adds to its record."""
    return {
        "model": dict(MODEL),
        "saes": [sae(layer) for layer in (0, 1)],
        "layers": [0, 1],
        "site_given": False,
        "prompt_format": "solution_marker",
        "split": split,
        "sandbox": {"isolation": "rung 4 (bubblewrap, another user, seccomp)", "open": []},
        **more,
    }


def sae(layer: int) -> dict[str, Any]:
    return {
        "release": "tiny/saes",
        "sae_id": f"layer_{layer}",
        "revision": None,
        "hook_name": f"blocks.{layer}.hook_resid_post",
        "site": "resid_post",
        "layer": layer,
    }


# Phases 0 and 0.1


def complexities() -> list[int]:
    """Forty problems: ten of each complexity from 1 to 4."""
    return [1, 2, 3, 4] * 10


def publish_difficulty(config: Config, values: Sequence[int] | None = None, extent: Extent | None = None) -> None:
    values = complexities() if values is None else values
    figures = summarise(values)
    source = {"name": "/somewhere/problems.jsonl", "revision": None, "sha256": "ab" * 32, "n": len(values)}
    details = {"dataset": source, "cyclomatic_complexity": figures}
    files = {"mbpp_difficulty_mapping_1_histogram.svg": SVG}
    publish(config, "0", files, extent or Extent(len(values), len(values)), details)


def publish_splits(config: Config, splits: Mapping[str, Sequence[int]] | None = None) -> None:
    """Publishes phase 0.1; `splits` holds the complexities of each split's problems."""
    splits = splits or {name: [1, 2, 3, 4] * (size // 4) for name, size in SIZES.items()}
    figures = {
        name: {
            "n": len(values),
            "mean": float(np.mean(values)),
            "standard_deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "minimum": min(values),
            "maximum": max(values),
        }
        for name, values in splits.items()
    }
    details = {
        "seed": 42,
        "ratios": {"sae": 5, "hyperparams": 1, "validation": 4},
        "sizes": {name: len(values) for name, values in splits.items()},
        "complexity": figures,
        "ks_distance": {f"{a}-{b}": ks_distance(splits[a], splits[b]) for a, b in combinations(splits, 2)},
    }
    n = sum(len(values) for values in splits.values())
    publish(config, "0.1", {SPLIT_METADATA: details, "split_difficulty.svg": SVG}, Extent(n, n), details)


# Phases that generate


def solutions(outcomes: Sequence[str | None], samples: int = 1, temperature: float = 0.0) -> pa.Table:
    """Returns a data set: one row an outcome (None: excluded), complexities 1 to 4 in turn, problems from 1."""
    n = len(outcomes)
    problem = [row // samples for row in range(n)]
    return pa.table(
        {
            "task_id": [number + 1 for number in problem],
            "cyclomatic_complexity": [number % 4 + 1 for number in problem],
            "temperature": [temperature] * n,
            "test_passed": pa.array([None if one is None else one == "passed" for one in outcomes], pa.bool_()),
            "outcome": pa.array(outcomes, pa.string()),
            "error_message": pa.array(["NameError: name 'x'" if one == "exception" else None for one in outcomes]),
        }
    )


def counts(table: pa.Table, cut_off: int = 0) -> dict[str, Any]:
    """Returns the counts that a generating phase records of an arm."""
    outcomes = [one for one in table["outcome"].to_pylist() if one is not None]
    passed, judged = outcomes.count("passed"), len(outcomes)
    stops = {"function_end": table.num_rows - cut_off, "max_new_tokens": cut_off}
    return {
        "judged": judged,
        "passed": passed,
        "pass_rate": passed / judged if judged else None,
        "outcomes": dict(Counter(outcomes)),
        "stop_reasons": {name: n for name, n in stops.items() if n},
    }


def publish_greedy(
    config: Config,
    phase: str,
    split: str,
    table: pa.Table,
    files: Mapping[str, Any] | None = None,
    extent: Extent | None = None,
    **details: Any,
) -> None:
    """Publishes a phase with one greedy arm: 1.0, 3.6 or 7.3."""
    name = f"dataset_{split}.parquet"
    facts = model_details(split, datasets={"greedy": name}, results={"greedy": counts(table)}, **details)
    n = table.num_rows
    publish(config, phase, {name: table, **(files or {})}, extent or Extent(n, n), facts)


def publish_temperatures(config: Config, tables: Mapping[float, pa.Table], extent: Extent | None = None) -> None:
    """Publishes phase 3.5, one data set a temperature."""
    datasets = {temperature_name(value): temperature_dataset(value) for value in tables}
    results = {temperature_name(value): counts(table) for value, table in tables.items()}
    files = {temperature_dataset(value): table for value, table in tables.items()}
    details = model_details("validation", datasets=datasets, results=results, temperatures=list(tables))
    n = len(set(tables[0.0]["task_id"].to_pylist()))
    publish(config, "3.5", {**files, "by_temperature.svg": SVG}, extent or Extent(n, n), details)


# SAE fit


def fit_entry(layer: int, own: float | None, earlier: float | None, later: float | None) -> dict[str, Any]:
    """Returns a layer of `sae_fit.json`; a neighbour of None is one that does not exist."""
    beside = [
        {**_fitted(f"blocks.{layer + offset}.hook_resid_post", value), "offset": offset}
        for offset, value in ((-1, earlier), (1, later))
        if value is not None
    ]
    declared = _fitted(f"blocks.{layer}.hook_resid_post", own)
    return {"layer": layer, **declared, "dead_share": 0.25, "d_sae": 8, "neighbours": beside}


def _fitted(hook_name: str, unexplained: float | None) -> dict[str, Any]:
    reason = None if unexplained is not None else "the stream does not vary over the tokens"
    return {
        "hook_name": hook_name,
        "n_tokens": 1234,
        "fraction_unexplained": unexplained,
        "mean_l0": 3.5,
        "reason": reason,
    }


def fit(*entries: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"what": "variance unexplained", "n_problems": 20, "layers": list(entries), **more}


# Ranked features


def feature(layer: int, index: int, score_name: str, score: float, p_max: float, **more: Any) -> dict[str, Any]:
    return {
        "layer": layer,
        "feature_idx": index,
        score_name: score,
        "f_correct": 0.8,
        "f_incorrect": 0.1,
        "mean_activation_correct": 2.5,
        "mean_activation_incorrect": 0.5,
        "general_text_frequency": 0.0125,
        "p_value": 0.0001,
        "q_value": 0.002,
        "p_max_permutation": p_max,
        "neuronpedia_url": None,
        **more,
    }


def publish_ranking(
    config: Config,
    phase: str,
    correct: Sequence[Mapping[str, Any]],
    incorrect: Sequence[Mapping[str, Any]],
    extent: Extent | None = None,
    **changes: Any,
) -> None:
    """Publishes phase 2.5 or 2.10; `changes` replace parts of `sae_analysis_results.json`."""
    score = "separation_score" if phase == "2.5" else "t_statistic"
    top = {"correct": list(correct), "incorrect": list(incorrect)}
    best = {name: items[0] if items else None for name, items in top.items()}
    by_layer = {
        name: {"feature_idx": item and item["feature_idx"], "score": item and item[score]}
        for name, item in best.items()
    }
    found = {
        "n_problems": 20,
        "n_correct": 12,
        "n_incorrect": 8,
        "n_features": 16,
        "n_ranked": 14,
        "general_text_filter": {"applied": True, "n_texts": 2000, "left_out_from": 0.02},
        "per_feature_test": "Fisher's exact test of the firing counts, two-sided",
        "permutation_null": {
            "statistic": "largest score over all ranked features",
            "n_permutations": 1000,
            "seed": 42,
            "score_at_p_0_05": {"correct": 0.31, "incorrect": 0.29},
        },
        "n_significant_among_top": {
            name: sum(item["p_max_permutation"] <= 0.05 for item in items) for name, items in top.items()
        },
        "site_misfits": [],
        "best_by_layer": [{"layer": 0, "n_ranked": 14, **by_layer}],
        "top_features": top,
        **changes,
    }
    scores = pa.table({"layer": [0], "feature_idx": [0]})
    plots = {f"{score}_by_layer.svg": SVG, "firing_frequencies.svg": SVG}
    files = {TOP_FEATURES: top, SAE_ANALYSIS: found, FEATURE_SCORES: scores, **plots}
    publish(config, phase, files, extent or Extent(20, 20), {"best": best, **model_details("sae")})
