"""Phase 3.5: the validation split at several temperatures, with the residual stream of the best layers.

One greedy sample at temperature 0, several seeded ones at each other temperature. The last prompt token does not depend
on the temperature, so vectors are captured once, and written as one file a problem and layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common.logging import get_logger
from common.model_facts import ModelFacts
from common.plotting import save
from common.runs.artifacts import task_activation, temperature_dataset, temperature_name
from common.runs.best_layers import find_best_layers
from common.runs.features import Feature
from common.runs.metadata import OutputFile, output_file
from common.runs.tables import vectors_of
from common.statistics.bootstrap import bootstrap_share
from common.statistics.permutation import Direction
from common_simplified.feature_scores import feature_scores
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_runner import GenerationRunner
from common_simplified.generation_work import Arm
from common_simplified.temperature_rows import TemperatureRows, temperature_report, temperature_rows
from phase3_5.temperature_plot import by_temperature

FIGURE_DRAWS = 2_000
_log = get_logger(__name__)


class TemperatureRobustnessRunner(GenerationRunner):
    """Generates the validation split at every temperature."""

    phase = "3.5"
    split = "validation"

    def find_inputs(self) -> None:
        """Finds the predictor and the steering features."""
        self.best = find_best_layers(self)
        if self.best.note:
            _log.info("phase 3.5: %s", self.best.note)

    def capture_layers(self, facts: ModelFacts) -> list[int]:
        """Returns the layers of the best features, or all with `capture_layers=all`."""
        return self.best.chosen(self.config, facts)

    def arms(self) -> list[Arm]:
        """Temperature 0 once, every other temperature several times."""
        return [
            Arm(temperature_name(temperature), temperature, self.config.phase3_5_samples if temperature > 0 else 1)
            for temperature in sorted(self.config.phase3_5_temperatures)
        ]

    def dataset_name(self, arm: Arm) -> str:
        """`dataset_temp_0_3.parquet`."""
        return temperature_dataset(arm.temperature)

    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """`task_activations/task_007_layer_3.npz`."""
        return task_activation(row["task_id"], layer)

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Draws pass rate and detection by temperature, and records which features the layers were captured for."""
        paths = save(self._figure(written), self.paths.root / "by_temperature")
        return [self.best.write(self.paths), *(output_file(self.paths, path.name) for path in paths)], {
            **self.best.as_record(),
            "predictor_note": self.best.note,
            "temperatures": sorted(self.config.phase3_5_temperatures),
        }

    def _figure(self, written: WrittenFiles) -> Figure:
        greedy = self.arms()[0].name
        rows = temperature_rows([written.datasets[arm.name] for arm in self.arms()])
        ids = written.generated[greedy]["task_id"].to_numpy()
        reports: dict[Direction, list[dict[str, Any]]] = {}
        of_direction: dict[Direction, Feature] = {
            "correct": self.best.predictors.correct,
            "incorrect": self.best.predictors.incorrect,
        }
        for direction, feature in of_direction.items():
            vectors = vectors_of(written.generated[greedy], feature.layer)
            known = np.isfinite(vectors).all(axis=1)
            scores = feature_scores(self.profile, feature, vectors[known])
            reports[direction] = temperature_report(
                *(direction, scores, ids[known], rows, None, self.config.seed, FIGURE_DRAWS)
            )
        shares = [self._share(rows, arm) for arm in self.arms()]
        aurocs: dict[Direction, list[dict[str, Any]]] = {
            name: [report["auroc"] for report in items] for name, items in reports.items()
        }
        return by_temperature([arm.temperature for arm in self.arms()], shares, aurocs)

    def _share(self, rows: TemperatureRows, arm: Arm) -> dict[str, Any]:
        inside = rows.temperature == arm.temperature
        share = bootstrap_share(rows.passed[inside], rows.task_ids[inside], self.config.seed, FIGURE_DRAWS)
        return share.as_dict()
