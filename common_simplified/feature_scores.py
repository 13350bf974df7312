"""What a feature says of a problem: its SAE activation at the last prompt token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from common.profiles import Profile
from common.runs.artifacts import labelled_activation, task_activation
from common.runs.best_features import Feature
from common.runs.discovery import PhaseOutput
from common.runs.publishing import ActivationReader
from common_simplified.sae_loader import load_encoder


def feature_scores(profile: Profile, feature: Feature, vectors: np.ndarray) -> np.ndarray:
    """Returns the feature's activation for each residual vector, float64 (rows,); `vectors` is (rows, d_model)."""
    encoder = load_encoder(profile, feature.layer)
    return encoder.encode_features(torch.from_numpy(vectors), [feature.index])[:, 0].double().numpy()


def layer_scores(profile: Profile, layer: int, vectors: np.ndarray) -> np.ndarray:
    """Returns every feature's activation for each residual vector, float32 (rows, d_sae)."""
    return load_encoder(profile, layer).encode(torch.from_numpy(vectors)).numpy()


def task_vectors(output: PhaseOutput, task_ids: Sequence[int], layer: int, d_model: int) -> np.ndarray:
    """Returns the residual vectors of problems as phases 3.5, 3.6 and 7.3 store them, float32 (problems, d_model)."""
    return ActivationReader(output).matrix([task_activation(task_id, layer) for task_id in task_ids], d_model)


def labelled_vectors(
    output: PhaseOutput, task_ids: Sequence[int], passed: Sequence[bool], layer: int, d_model: int
) -> np.ndarray:
    """Returns the residual vectors of problems as phase 1.0 stores them, float32 (problems, d_model)."""
    names = [labelled_activation(task_id, layer, label) for task_id, label in zip(task_ids, passed, strict=True)]
    return ActivationReader(output).matrix(names, d_model)
