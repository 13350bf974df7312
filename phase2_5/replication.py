"""The separation score measured again on another split, for the layers that were captured there; it ranks nothing.

A problem belongs to either class by the share of its samples, over all temperatures, that passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from common.profiles import Profile
from common.runs.artifacts import TOP_FEATURES
from common.runs.discovery import PhaseOutput
from common.runs.files import read_json, verified_bytes
from common.statistics.selection import weighted_class_means
from common_simplified.feature_scores import layer_scores, task_vectors


class Replication(NamedTuple):
    """Every feature of the captured layers, and the ranked features' figures on both splits."""

    scores: pa.Table
    summary: dict[str, Any]

    def lines(self) -> Iterator[str]:
        """Yields the best feature of either direction in words."""
        for direction, items in self.summary["features"].items():
            measured = [item for item in items if item["separation_score"] is not None]
            if measured:
                best = measured[0]
                yield (
                    f"{direction}: layer {best['layer']}, feature {best['feature_idx']}: score "
                    f"{best['separation_score']:.3f} (sae split: {best['separation_score_sae']:.3f}), "
                    f"n = {self.summary['n_problems']}"
                )


def replicate(ranked: PhaseOutput, source: PhaseOutput, profile: Profile) -> Replication:
    """Measures the features of the layers that `source` (phase 3.5 or 3.6) captured."""
    task_ids, share = _shares([source.table(name) for name in source.record["datasets"].values()])
    parts = []
    for layer in source.record["layers"]:
        acts = layer_scores(profile, layer, task_vectors(source, task_ids, layer, profile.d_model))
        fires, means = weighted_class_means(acts > 0, share), weighted_class_means(acts, share)
        parts.append(
            pa.table(
                {
                    "layer": np.full(acts.shape[1], layer, dtype=np.int64),
                    "feature_idx": np.arange(acts.shape[1], dtype=np.int64),
                    "separation_score": fires.correct - fires.incorrect,
                    "f_correct": fires.correct,
                    "f_incorrect": fires.incorrect,
                    "mean_activation_correct": means.correct,
                    "mean_activation_incorrect": means.incorrect,
                }
            )
        )
    scores = pa.concat_tables(parts).combine_chunks()
    return Replication(scores, _summary(ranked, source, scores, share))


def _shares(datasets: list[pa.Table]) -> tuple[list[int], np.ndarray]:
    """Returns the labelled problems, sorted, and the share of each one's labelled samples that passed."""
    passed: dict[int, list[bool]] = {}
    for table in datasets:
        for task_id, label in zip(table["task_id"].to_pylist(), table["test_passed"].to_pylist(), strict=True):
            if label is not None:
                passed.setdefault(task_id, []).append(label)
    task_ids = sorted(passed)
    return task_ids, np.array([np.mean(passed[task_id]) for task_id in task_ids])


def _summary(ranked: PhaseOutput, source: PhaseOutput, scores: pa.Table, share: np.ndarray) -> dict[str, Any]:
    path = ranked.use(TOP_FEATURES)
    verified_bytes(path, ranked.entry(TOP_FEATURES)["sha256"])
    keys = zip(scores["layer"].to_pylist(), scores["feature_idx"].to_pylist(), strict=True)
    place = {key: row for row, key in enumerate(keys)}
    return {
        "what": "the features that phase 2.5 ranked on the sae split, measured again; nothing is chosen here",
        "split": source.record["split"],
        "n_problems": len(share),
        "share_correct": float(share.mean()),
        "layers": source.record["layers"],
        "features": {
            direction: [_item(item, direction, place, scores) for item in items]
            for direction, items in read_json(path).items()
        },
    }


def _item(item: dict[str, Any], direction: str, place: dict[Any, int], scores: pa.Table) -> dict[str, Any]:
    row = place.get((item["layer"], item["feature_idx"]))
    sign = 1.0 if direction == "correct" else -1.0
    names = ("f_correct", "f_incorrect", "mean_activation_correct", "mean_activation_incorrect")
    figures = {name: None if row is None else float(scores[name][row].as_py()) for name in names}
    return {
        "layer": item["layer"],
        "feature_idx": item["feature_idx"],
        "separation_score": None if row is None else sign * float(scores["separation_score"][row].as_py()),
        "separation_score_sae": item["separation_score"],
        **figures,
        "reason": "its layer was not captured on this split" if row is None else None,
    }
