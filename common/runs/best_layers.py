"""Which layers a phase captures: those of the best predictors and steering features, straight from the rankings."""

from __future__ import annotations

from typing import Any, NamedTuple

from common.config import Config
from common.model_facts import ModelFacts
from common.model_location import chosen_layers
from common.runs.artifacts import BEST_FEATURES, PhasePaths
from common.runs.best_features import WITHOUT_T_STATISTICS, BestFeatures, best_features
from common.runs.discovery import PhaseOutput
from common.runs.files import write_json
from common.runs.metadata import OutputFile
from common.runs.phase_runner import PhaseRunner


class BestLayers(NamedTuple):
    """The predictors (phase 2.10) and steering features (phase 2.5), and the rankings that they come from.

    `note` says so where 2.5's serve as predictors too.
    """

    predictors: BestFeatures
    steering: BestFeatures
    note: str | None
    sources: tuple[PhaseOutput, ...]

    def chosen(self, config: Config, facts: ModelFacts) -> list[int]:
        """Returns the layers of the best features, or all with `capture_layers=all`."""
        if config.capture_layers == "all":
            return chosen_layers(config, facts)
        return sorted(self.predictors.layers() | self.steering.layers())

    def as_record(self) -> dict[str, Any]:
        """Returns both pairs as they stand in a record and in `best_features.json`."""
        return {"best_layers": self.predictors.as_record(), "steering_layers": self.steering.as_record()}

    def write(self, paths: PhasePaths) -> OutputFile:
        """Writes `best_features.json`."""
        return OutputFile(BEST_FEATURES, write_json(paths.root / BEST_FEATURES, self.as_record()))


def find_best_layers(runner: PhaseRunner) -> BestLayers:
    """Reads the rank-1 features that phase `runner` is run for, from phases 2.5 and, where it has been run, 2.10."""
    separated = runner.find("2.5")
    steering = best_features(separated)
    ranked = runner.find_optional("2.10")
    if ranked is None:
        return BestLayers(steering, steering, WITHOUT_T_STATISTICS, (separated,))
    return BestLayers(best_features(ranked), steering, None, (separated, ranked))
