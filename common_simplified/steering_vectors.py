"""The vectors that conditions add: decoder rows of features, and random directions of the same norm."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from common.conditions import RANDOM_DIRECTION, Condition
from common.profiles import Profile
from common.runs.features import Feature
from common.statistics.seeding import generator
from common.statistics.selection import FloatArray
from common_simplified.sae_loader import decoder_norms, decoder_row
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering

NORM_TOLERANCE = 0.05


class ControlFeature(NamedTuple):
    """A feature matched to a target, with what it was matched on."""

    index: int
    firing_rate: float
    decoder_norm: float


class SteeringVectors:
    """Gives each condition its vector.

    `purpose` separates the draws of random directions that serve different ends (choosing, controlling).
    """

    def __init__(self, profile: Profile, seed: int, purpose: str) -> None:
        self._profile, self._seed, self._purpose = profile, seed, purpose
        self._known: dict[Condition, Steering] = {}
        self._norms: dict[Feature, float] = {}

    def steering(self, condition: Condition, point: HookPoint) -> Steering:
        """Returns what the engine adds for a condition; the same object each time."""
        if condition not in self._known:
            self._known[condition] = Steering(self.vector(condition), condition.coefficient, point)
        return self._known[condition]

    def vector(self, condition: Condition) -> torch.Tensor:
        """Returns a condition's direction, float32 (d_model,), not multiplied by its coefficient."""
        if condition.kind != RANDOM_DIRECTION:
            assert condition.feature_idx is not None, f"{condition.name} has no feature"
            return decoder_row(self._profile, condition.layer, condition.feature_idx)
        assert condition.draw is not None, f"{condition.name} is no draw"
        source = generator(self._seed, "steering direction", self._purpose, condition.direction, condition.draw)
        drawn = source.standard_normal(self._profile.d_model)
        norm = self.norm(Feature(condition.layer, condition.target_idx))
        return torch.from_numpy((drawn / np.linalg.norm(drawn) * norm).astype(np.float32))

    def norm(self, feature: Feature) -> float:
        """Returns the Euclidean norm of a feature's decoder row."""
        if feature not in self._norms:
            self._norms[feature] = float(decoder_row(self._profile, *feature).double().norm())
        return self._norms[feature]


def firing_rates(scores: pa.Table, layer: int, n_correct: int, n_incorrect: int) -> FloatArray:
    """Returns how often each feature of a layer fires on the sae split, from phase 2.5's table of all features."""
    rows = scores.filter(pa.array(scores["layer"].to_numpy() == layer))
    order = np.argsort(rows["feature_idx"].to_numpy())
    correct, incorrect = (rows[name].to_numpy()[order] for name in ("f_correct", "f_incorrect"))
    return (correct * n_correct + incorrect * n_incorrect) / (n_correct + n_incorrect)


def matched_control_features(
    profile: Profile, feature: Feature, targets: Collection[Feature], rates: FloatArray, n_controls: int
) -> list[ControlFeature]:
    """Returns the features of the same layer nearest to the target in firing rate, nearest first.

    Only features whose decoder norm lies within 5 % of the target's are taken, and none of `targets`, the features of
    either direction; ties go to the lower index. Where the layer has fewer, fewer come back.
    """
    norms = decoder_norms(profile, feature.layer)
    near = np.abs(norms / norms[feature.index] - 1) <= NORM_TOLERANCE
    near[[item.index for item in targets if item.layer == feature.layer]] = False
    candidates = np.flatnonzero(near)
    order = np.argsort(np.abs(rates[candidates] - rates[feature.index]).round(9), kind="stable")
    return [
        ControlFeature(int(index), float(rates[index]), float(norms[index])) for index in candidates[order[:n_controls]]
    ]
