"""`known_answers.json`, made by hand in its schema."""

from __future__ import annotations

from typing import Any

from common.statistics.steering import rank_among, share
from common.statistics.summaries import wilson_interval


def answers(**changes: Any) -> dict[str, Any]:
    """Returns the answers of a run in which phases 1.0, 2.5, 3.8 and 4.8 have run.

    Along the incorrect direction 6 of 8 broken solutions carry the planted bug (on all problems; 3 of 4 on the
    controls'); of three controls, 1 of 4, 2 of 4 and 0 of 0.
    """
    return {
        "what": "what the phases found against the planted truth",
        "split": "sae",
        "n_problems": 20,
        "pass_rate": {"all": rate(10, 20), "careful": rate(9, 10), "careless": rate(1, 10)},
        "ceiling": {"what": "AUROC of the exact posterior of a bug", "auroc": 0.95, "n": 20},
        "features": {"correct": in_sample(20, -0.8), "incorrect": in_sample(10, 0.75)},
        "note": "these features are judged on the problems they were chosen on; `detection` is held out",
        "detection": {
            "split": "validation",
            "n": 16,
            "ceiling_auroc": 0.96,
            "features": {"correct": held_out(0.93, 0.97, -0.7), "incorrect": held_out(0.8, 0.83, 0.5)},
        },
        "steering": {"4.8": steered((6, 8), (3, 4), [(1, 4), (2, 4), (0, 0)])},
        **changes,
    }


def rate(passed: int, n: int) -> dict[str, Any]:
    """Returns a pass rate."""
    low, high = wilson_interval(passed, n)
    return {"rate": passed / n if n else None, "n": n, "low": low, "high": high}


def in_sample(index: int, correlation: float) -> dict[str, Any]:
    """Returns a steering feature beside the truth."""
    figures = {"auroc_for_label": 0.9, "auroc_for_carelessness": 0.94, "spearman_with_carelessness": correlation}
    return {"layer": 2, "feature_idx": index, **figures, "p_max_permutation": 0.001, "n": 20}


def held_out(auroc: float, share_of_ceiling: float, correlation: float) -> dict[str, Any]:
    """Returns a predictor beside the truth."""
    ahead = {"value": 0.2, "low": 0.1, "high": 0.3, "reason": None}
    return {
        "layer": 3,
        "index": 7,
        "auroc": {"value": auroc, "low": auroc - 0.05, "high": auroc + 0.03, "n": 16},
        "share_of_ceiling": share_of_ceiling,
        "reaches_0_9_of_ceiling": share_of_ceiling >= 0.9,
        "ahead_of_random_directions": ahead,
        "ahead_of_matched_features": ahead,
        "spearman_with_carelessness": correlation,
    }


def steered(
    everywhere: tuple[int, int], there: tuple[int, int], controls: list[tuple[int, int]], role: str = "base"
) -> dict[str, Any]:
    """Returns one steering phase beside the truth; pairs are planted bugs and breaks."""
    names = [f"incorrect_5_random_direction_{draw:02d}" for draw in range(len(controls))]
    beside = {name: {**counts(*pair), "kind": "random_direction"} for name, pair in zip(names, controls, strict=True)}
    rank = rank_among(3, [1.0 for _ in controls]).as_dict()
    incorrect = {
        "feature": {"layer": 1, "index": 10},
        "coefficient": 5.0,
        "all_problems": counts(*everywhere),
        "control_problems": {"n": 8, "target": counts(*there), "controls": beside},
        "primary_outcome": "breaks whose code still parses",
        "rank": rank,
        "beats_every_control": True if controls else None,
        "rank_by_intended_bugs": rank_among(there[0], [float(planted) for planted, _ in controls]).as_dict(),
    }
    correct = {
        **incorrect,
        "all_problems": counts(0, 1),
        "control_problems": {"n": 8, "target": counts(0, 0), "controls": {}},
    }
    directions = {"correct": correct, "incorrect": incorrect}
    return {"model": {"name": f"tiny-{role}", "role": role}, "n": 8, "directions": directions}


def counts(planted: int, breaks: int) -> dict[str, Any]:
    """Returns what a condition broke, and how much of it in the planted way."""
    of_breaks = {
        "breaks": breaks,
        "intended": planted,
        "intended_share_of_breaks": share(planted, breaks, "breaks").as_dict(),
    }
    return {"n_failing": 4, "n_passing": 8, "fixes": 1, **of_breaks}
