"""The three splits of phase 3.8, each with one job: rivals learn on sae, thresholds come from hyperparams."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.runs.best_features import Feature
from common.runs.discovery import PhaseOutput
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
