"""The rank-1 features of the ranking phases: predictors from phase 2.10, steering features from phase 2.5."""

from __future__ import annotations

from typing import Any, NamedTuple

from common.errors import UsageError
from common.runs.artifacts import BEST_FEATURES, TOP_FEATURES
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common.runs.files import read_json, verified_bytes
from common.statistics.permutation import DIRECTIONS, Direction

WITHOUT_T_STATISTICS = "phase 2.10 has not been run: phase 2.5's features serve as predictors too"


class BestFeatures(NamedTuple):
    """The best feature of either direction."""

    correct: Feature
    incorrect: Feature

    def layers(self) -> set[int]:
        """Returns the layers of both."""
        return {self.correct.layer, self.incorrect.layer}

    def as_record(self) -> dict[str, int]:
        """Returns them as they stand in a record: the layer of each direction, and its feature."""
        return {
            "correct": self.correct.layer,
            "incorrect": self.incorrect.layer,
            "correct_feature_idx": self.correct.index,
            "incorrect_feature_idx": self.incorrect.index,
        }


def best_features(output: PhaseOutput) -> BestFeatures:
    """Reads the rank-1 features of a ranking phase; raises `UsageError` where a direction has none."""
    path = output.use(TOP_FEATURES)
    verified_bytes(path, output.entry(TOP_FEATURES)["sha256"])
    top: dict[str, Any] = read_json(path)
    for direction in ("correct", "incorrect"):
        if not top[direction]:
            raise UsageError(
                f"phase {output.phase} ranked no {direction}-preferring feature ({path}); look at its filter"
            )
    first = {name: Feature(items[0]["layer"], items[0]["feature_idx"]) for name, items in top.items()}
    return BestFeatures(first["correct"], first["incorrect"])


def top_features(output: PhaseOutput, n: int) -> dict[Direction, list[Feature]]:
    """Reads the `n` best features of either direction, in rank order; each direction must have one."""
    best_features(output)
    top: dict[str, Any] = read_json(output.use(TOP_FEATURES))
    return {name: [Feature(item["layer"], item["feature_idx"]) for item in top[name][:n]] for name in DIRECTIONS}


def recorded_features(output: PhaseOutput) -> tuple[BestFeatures, BestFeatures]:
    """Returns predictors and steering features that phase 3.5 (or 3.6) was run for, and notes that they were read.

    They stand in the record, and in a file of their own, so that a later phase is stale once they change.
    """
    if BEST_FEATURES in output.names():
        output.use(BEST_FEATURES)
    record = output.record
    predictors = features_of_record(record["best_layers"])
    return predictors, features_of_record(record.get("steering_layers", record["best_layers"]))


def features_of_record(entry: dict[str, int]) -> BestFeatures:
    """Returns the features that `BestFeatures.as_record` wrote."""
    return BestFeatures(
        Feature(entry["correct"], entry["correct_feature_idx"]),
        Feature(entry["incorrect"], entry["incorrect_feature_idx"]),
    )
