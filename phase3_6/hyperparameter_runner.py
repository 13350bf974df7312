"""Phase 3.6: the hyperparameter split at temperature 0, with the residual stream of phase 3.5's layers.

Thresholds are chosen on these problems (phase 3.8), and nothing is reported on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.model_facts import ModelFacts
from common.runs.artifacts import (
    ACTIVATION_INDEX,
    BEST_FEATURES,
    task_activation,
    temperature_dataset,
    temperature_name,
)
from common.runs.best_features import recorded_features
from common.runs.files import write_json
from common.runs.metadata import OutputFile
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_runner import GenerationRunner
from common_simplified.generation_work import Arm

GREEDY = Arm(temperature_name(0.0), 0.0, 1)


class HyperparameterDataRunner(GenerationRunner):
    """Generates the hyperparameter split once, greedily."""

    phase = "3.6"
    split = "hyperparams"

    def find_inputs(self) -> None:
        """Finds the features that phase 3.5 was run for, and the layers that it captured."""
        output = self.find("3.5")
        output.use(ACTIVATION_INDEX)
        self.predictors, self.steering = recorded_features(output)
        self._layers = [int(layer) for layer in output.record["layers"]]

    def capture_layers(self, facts: ModelFacts) -> list[int]:  # noqa: ARG002
        """Returns phase 3.5's layers."""
        return self._layers

    def arms(self) -> list[Arm]:
        """One greedy sample a problem."""
        return [GREEDY]

    def dataset_name(self, arm: Arm) -> str:
        """`dataset_hyperparams_temp_0_0.parquet`."""
        return temperature_dataset(arm.temperature, self.split)

    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """`task_activations/task_007_layer_3.npz`."""
        return task_activation(row["task_id"], layer)

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:  # noqa: ARG002
        """Records which features the layers were captured for."""
        features = {"best_layers": self.predictors.as_record(), "steering_layers": self.steering.as_record()}
        return [OutputFile(BEST_FEATURES, write_json(self.paths.root / BEST_FEATURES, features))], features
