"""Ranking at full size (P7): 26 layers of 16,384 features, 489 problems, 1,000 shuffles, against a feature loop.

Both sides compute firing frequencies, Welch's t, AUROC and the largest separation score under each shuffle, from the
same SAE activations, in a fresh process of two cores. The loop takes one feature at a time through scipy and
scikit-learn, in two forms: with a loop over shuffles inside, and with all shuffles of a feature at once.
"""

from __future__ import annotations

import resource
import statistics
import sys
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.apart import answer, keep_to_cores, measured_apart
from benchmarks.reference import feature_loop
from benchmarks.timing import Row, paired, seconds
from common.statistics.feature_tests import auroc_from_ranks, rank_sums, welch_t
from common.statistics.permutation import MaxStatisticNull, permuted_labels, separation_statistic
from common.statistics.selection import separation_scores

CORES = 2
LOOPED_FEATURES = 32
FIRING_SHARE = 0.05
GOAL_SECONDS, GOAL_GB, GOAL_RATIO = 20.0, 1.5, 100.0
MODULE = "benchmarks.ranking_rows"


class Size(NamedTuple):
    """How much is ranked."""

    layers: int
    features: int
    problems: int
    shuffles: int


FULL = Size(26, 16_384, 489, 1000)


class Ranked(NamedTuple):
    """Scores, t and AUROC of the features of one layer."""

    score: np.ndarray
    t: np.ndarray
    auroc: np.ndarray


def ranking_rows(repeats: int) -> list[Row]:
    """Returns rows P7: the whole ranking's seconds, its peak memory, and its speed over the loop, a feature."""
    return rows_of(measured_apart(MODULE, str(repeats)))


def rows_of(found: dict[str, Any]) -> list[Row]:
    """Returns the rows of what was measured."""
    took, peak = found["seconds"], found["peak_gb"]
    median = statistics.median(took)
    sizes = {name: found[name] for name in (*Size._fields, "cores")}
    what = f"{found['shuffles']:,}-shuffle maximum of {found['layers']} × {found['features']:,} features"
    agrees = found["t_difference"] <= 1e-4 and found["auroc_difference"] <= 1e-6
    plain, together = _loop_row(found, "loop_seconds"), _loop_row(found, "loop_seconds_shuffles_at_once")
    reached = plain.value is not None and plain.value >= GOAL_RATIO and agrees
    return [
        Row(
            "P7", f"frequencies, t, AUROC and {what}", median, "s", "≤ 20 s", median <= GOAL_SECONDS, sizes, tuple(took)
        ),
        Row(
            "P7",
            f"peak memory of ranking {found['layers']} × {found['features']:,} features",
            peak,
            "GB",
            "< 1.5 GB",
            peak < GOAL_GB,
            sizes,
        ),
        plain._replace(what="a loop over features and shuffles / the ranking", goal="≥ 100×", reached=reached),
        together._replace(what="a loop over features, all shuffles of one at once / the ranking"),
    ]


def _loop_row(found: dict[str, Any], key: str) -> Row:
    """Returns how many times longer a loop takes for a feature; without a goal."""
    features, looped = found["layers"] * found["features"], found["looped_features"]
    pairs = [(loop / looped, whole / features) for loop, whole in zip(found[key], found["seconds"], strict=True)]
    timed = paired(pairs)
    details = {
        **{"looped_features": looped, "loop_seconds_a_feature": timed.first, "seconds_a_feature": timed.second},
        **{"largest_t_difference": found["t_difference"], "largest_auroc_difference": found["auroc_difference"]},
    }
    return Row("P7", "", timed.ratio, "×", "", None, details, timed.ratios)


def measure(repeats: int, size: Size = FULL, looped: int = LOOPED_FEATURES) -> dict[str, Any]:
    """Times the ranking and both loops in turn, and compares their values."""
    cores = keep_to_cores(CORES)
    labels = np.random.default_rng(0).random(size.problems) < 0.5
    sample = activations(size, 0)[:, :looped]
    loop = partial(feature_loop.ranked, sample, labels, permuted_labels(labels, size.shuffles, 0))
    took, plain, together, peak = [], [], [], 0.0
    for _ in range(repeats):
        took.append(whole_seconds(size, labels))
        peak = max(peak, peak_gb())
        plain.append(seconds(partial(loop, one_shuffle_at_a_time=True)))
        together.append(seconds(loop))
    theirs, ours = loop(), ranked(sample, labels, _null(size, labels))
    return {
        **size._asdict(),
        **{"cores": cores, "seconds": took, "peak_gb": peak, "looped_features": looped},
        **{"loop_seconds": plain, "loop_seconds_shuffles_at_once": together},
        "t_difference": float(np.nanmax(np.abs(theirs.t - ours.t))),
        "auroc_difference": float(np.abs(theirs.auroc - ours.auroc).max()),
    }


def activations(size: Size, layer: int) -> np.ndarray:
    """Returns made-up SAE activations of one layer, float32 (problems, features)."""
    rng = np.random.default_rng([1, layer])
    values = rng.random((size.problems, size.features), dtype=np.float32)
    values[rng.random((size.problems, size.features), dtype=np.float32) > FIRING_SHARE] = 0
    return values


def ranked(values: np.ndarray, labels: np.ndarray, null: MaxStatisticNull) -> Ranked:
    """Returns the figures of one layer's features, and feeds them to the null."""
    fires = values > 0
    null.update(fires)
    score, t = separation_scores(fires, labels).score, welch_t(values, labels)
    return Ranked(score, t, auroc_from_ranks(rank_sums(values, labels)))


def whole_seconds(size: Size, labels: np.ndarray) -> float:
    """Returns the seconds of ranking every layer, without those of making activations up."""
    null = _null(size, labels)
    return sum(_layer_seconds(size, layer, labels, null) for layer in range(size.layers))


def peak_gb() -> float:
    """Returns the most memory that this process has held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _null(size: Size, labels: np.ndarray) -> MaxStatisticNull:
    return MaxStatisticNull(labels, size.shuffles, 0, separation_statistic)


def _layer_seconds(size: Size, layer: int, labels: np.ndarray, null: MaxStatisticNull) -> float:
    values = activations(size, layer)
    return seconds(lambda: ranked(values, labels, null))


if __name__ == "__main__":
    sys.exit(answer(lambda: measure(int(sys.argv[1]))))
