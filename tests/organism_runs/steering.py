"""Steering the bundled tiny model from the tests: settings that keep it quick, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from common.runs.artifacts import COEFFICIENT_RESULTS, STEERING_ANALYSIS, STEERING_RESULTS
from tests.organism_runs.sizes import SIZES

FEW = (
    *("phase4_5_coefficients=0,3,9", "phase4_5_problems_per_coeff=6", "phase4_5_final_eval_problems=8"),
    *("phase4_5_coefficient_unit=absolute", "phase4_5_candidates=1"),
    *("phase4_8_controls=1", "phase4_8_control_problems=8"),
)
QUICK = (*SIZES, *(word for setting in FEW for word in ("--set", setting)))


class Steered(NamedTuple):
    """The directory of phase 4.5 or of one that steers a split, and how to look into it."""

    root: Path

    def record(self) -> dict[str, Any]:
        """Returns the record."""
        return json.loads((self.root / "metadata.json").read_text())

    def rows(self) -> pd.DataFrame:
        """Returns the published rows."""
        name = COEFFICIENT_RESULTS if self.root.name == "phase4_5" else STEERING_RESULTS
        return pd.read_parquet(self.root / name)

    def analysis(self) -> dict[str, Any]:
        """Returns the figures of phase 4.8 or 7.6."""
        return json.loads((self.root / STEERING_ANALYSIS).read_text())


def steered(data: Path, phase: str) -> Steered:
    """Returns the steering phase `phase` of a data directory."""
    return Steered(data / f"phase{phase.replace('.', '_')}")


def recounted(rows: pd.DataFrame, direction: str) -> int:
    """Counts the primary outcome of a direction by hand: fixes − breaks, or breaks that parse."""
    fixed = ~rows["baseline_passed"].astype(bool) & rows["test_passed"].astype(bool)
    broken = rows["baseline_passed"].astype(bool) & ~rows["test_passed"].astype(bool)
    return int(fixed.sum() - broken.sum() if direction == "correct" else (broken & rows["parses"].astype(bool)).sum())


def assert_steering_beats_its_controls(data: Path) -> None:
    """Asserts for both directions of phase 4.8 that no control reaches the target on the primary outcome."""
    rows, analysis = steered(data, "4.8").rows(), steered(data, "4.8").analysis()
    for direction, entry in analysis["directions"].items():
        mine = rows[rows["direction"] == direction]
        controls = mine[mine["kind"].isin(["random_feature", "random_direction"])]
        outcomes = [recounted(item, direction) for _, item in controls.groupby("condition")]
        shared = controls["position"].unique()
        own = recounted(mine[(mine["kind"] == "target") & mine["position"].isin(shared)], direction)
        rank = entry["controls"]["rank"]
        assert own > 0 and own > max(outcomes), (direction, own, sorted(outcomes))
        assert rank["n_at_least"] == 0 and rank["p"] == rank["smallest_p"] == 1 / (1 + rank["n_controls"]), rank


def assert_breaks_carry_the_planted_bug(data: Path) -> None:
    """Asserts that the incorrect direction breaks solutions in the planted way more often than its controls pooled."""
    answers = json.loads((data / "known_answers.json").read_text())["steering"]["4.8"]["directions"]["incorrect"]
    own, controls = answers["all_problems"], answers["control_problems"]["controls"].values()
    broken, intended = (sum(item[name] for item in controls) for name in ("breaks", "intended"))
    share = own["intended"] / own["breaks"]
    assert own["breaks"] >= 20 and (broken == 0 or share > intended / broken), (share, intended, broken)
