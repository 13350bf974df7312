"""The three splits of detection, each with one job: rivals learn on sae, thresholds come from hyperparams.

Figures come from validation, whose solutions and activations may be another model's than those of the other two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.config import Config
from common.errors import UsageError
from common.profiles import Profile
from common.runs.artifacts import temperature_name
from common.runs.discovery import PhaseOutput, run_command
from common.runs.features import Feature
from common_simplified.feature_scores import labelled_vectors, task_vectors


class SplitRows(NamedTuple):
    """Labelled greedy solutions of one split: problem, label, and what rivals read besides the residual stream."""

    task_ids: np.ndarray
    passed: np.ndarray
    prompt_tokens: np.ndarray
    complexity: np.ndarray
    n_excluded: int


def split_rows(dataset: pa.Table) -> SplitRows:
    """Returns the rows that have a label, in order of problem, and how many have none."""
    table = dataset.filter(dataset["test_passed"].is_valid())
    return SplitRows(
        task_ids=table["task_id"].to_numpy(),
        passed=table["test_passed"].to_numpy(zero_copy_only=False).astype(bool),
        prompt_tokens=table["n_prompt_tokens"].to_numpy().astype(np.float64),
        complexity=table["cyclomatic_complexity"].to_numpy(),
        n_excluded=dataset.num_rows - table.num_rows,
    )


class Residuals(NamedTuple):
    """The residual vectors of one layer on each split, float32 (rows, d_model)."""

    sae: np.ndarray
    hyperparams: np.ndarray
    validation: np.ndarray


class Splits(NamedTuple):
    """The labelled rows of each split, and where their vectors lie."""

    sae: SplitRows
    hyperparams: SplitRows
    validation: SplitRows
    sources: tuple[PhaseOutput, PhaseOutput, PhaseOutput]

    def residuals(self, feature: Feature, d_model: int) -> Residuals:
        """Reads the residual vectors at a feature's layer."""
        built, hyper, valid = self.sources
        sae = labelled_vectors(built, self.sae.task_ids.tolist(), self.sae.passed.tolist(), feature.layer, d_model)
        return Residuals(
            sae,
            task_vectors(hyper, self.hyperparams.task_ids.tolist(), feature.layer, d_model),
            task_vectors(valid, self.validation.task_ids.tolist(), feature.layer, d_model),
        )


def read_splits(built: PhaseOutput, hyper: PhaseOutput, validation: PhaseOutput) -> Splits:
    """Reads the greedy solutions of phases 1.0 and 3.6, and of 3.5 or 7.3 as the validation split."""
    greedy = temperature_name(0.0)
    return Splits(
        split_rows(built.table(built.record["dataset"])),
        split_rows(hyper.table(hyper.record["datasets"][greedy])),
        split_rows(validation.table(validation.record["datasets"][greedy])),
        (built, hyper, validation),
    )


def refuse_missing_layers(
    reader: str, config: Config, profile: Profile, features: Iterable[Feature], *outputs: PhaseOutput
) -> None:
    """Raises `UsageError` where phase `reader` has a feature that does not exist or whose layer was not captured.

    Phase 3.6 captures the layers of 3.5, so there the cure begins with 3.5.
    """
    last, width = profile.n_layers - 1, profile.sae.width
    for feature in features:
        if feature.layer > last:
            raise UsageError(f"phase {reader}: layer {feature.layer} does not exist, the model has layers 0 to {last}")
        for output in outputs:
            if feature.layer not in output.record["layers"]:
                setting = f"activation_layers={feature.layer}" if output.phase == "1.0" else "capture_layers=all"
                captured = ", ".join(str(layer) for layer in output.record["layers"])
                raise UsageError(
                    f"phase {reader}: layer {feature.layer} was not captured in {output.paths.root}, only {captured}; "
                    f"run: {run_command(config, '3.5' if output.phase == '3.6' else output.phase)} --fresh "
                    f"--set {setting}"
                )
        if not 0 <= feature.index < width:
            raise UsageError(
                f"phase {reader}: feature {feature.layer}:{feature.index} does not exist: the SAE has 0 to {width - 1}"
            )
