"""The figures of one target's edges, controls and chains, from what gradient and replay gave; one record a target.

Of an edge on n prompts (those on which the patch changes the source at all): the effect is the change of the target's
pre-activation times the sign of the source's change, so that a positive edge has positive effects whichever way the
patch goes. Beside it the *class effect*: the source is set half-way between the two classes' means, and the target's
change is signed by the prompt's class (positive: what the source brings is higher on the first class), so that it adds
up only where the source differs between the classes. With the labels shuffled it is as often positive as negative,
whatever the source does to the target; the effect alone is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from common.runs.features import Feature
from common.statistics.edges import agreement, mean_interval, sign_flip_p
from common.statistics.selection import FloatArray, IntArray
from experiment_pathway_token_analysis.src.causal_targets import feature_name
from experiment_pathway_token_analysis.src.settings import Gradient, Replay


class Effects(NamedTuple):
    """One source's changes and the target's, by variant, each (prompts,); `gradient` is the local derivative."""

    amounts: Mapping[str, FloatArray]
    deltas: Mapping[str, FloatArray]
    gradient: FloatArray
    active_before: FloatArray | None = None
    active_after: FloatArray | None = None


class Passing(NamedTuple):
    """How much of an edge merely passes through the stream."""

    skip_share: float | None
    decoder_cosine: float
    label: str


def passing(gradient: float, skip: float, cosine: float, settings: Gradient) -> Passing:
    """Splits a derivative into what the unchanged stream carries, `skip` = d_s · enc_t, and what blocks compute."""
    whole = abs(skip) + abs(gradient - skip)
    share = abs(skip) / whole if whole else None
    persists = (share or 0.0) > settings.persist_skip_share or cosine > settings.persist_cosine
    return Passing(share, cosine, "persistence" if persists else "computation")


def effect_figures(effects: Effects, classes: IntArray, settings: Replay, seed: int) -> dict[str, Any]:
    """Returns the figures that decide about an edge, of an edge or a control alike; `classes` (prompts,) are 0 or 1."""
    used = effects.amounts["opposite"] != 0
    sign, delta = np.sign(effects.amounts["opposite"][used]), effects.deltas["opposite"][used]
    predicted = effects.gradient[used] * effects.amounts["opposite"][used]
    aligned, like = delta * sign, agreement(predicted, delta)
    by_class = (effects.deltas["midpoint"] * (2 * classes - 1))[effects.amounts["midpoint"] != 0]
    low, high = mean_interval(aligned, seed, settings.bootstrap_draws)
    return {
        "n": int(used.sum()),
        "predicted_delta": _mean(predicted * sign),
        "mean_delta": _mean(aligned),
        "ci_low": low,
        "ci_high": high,
        **like._asdict(),
        "p_effect": sign_flip_p(aligned, seed, settings.sign_flips) if len(aligned) else None,
        "class_delta": _mean(by_class),
        "p_class": sign_flip_p(by_class, seed, settings.sign_flips) if len(by_class) else None,
    }


def edge_figures(effects: Effects, classes: IntArray, settings: Replay, seed: int) -> dict[str, Any]:
    """Returns an edge's figures: those that decide, the linear check, ablation, and what became of the activation."""
    figures = effect_figures(effects, classes, settings, seed)
    used = effects.amounts["opposite"] != 0
    sign = np.sign(effects.amounts["opposite"][used])
    fires = effects.amounts["ablation"] != 0
    assert effects.active_before is not None and effects.active_after is not None
    before, after = effects.active_before[used], effects.active_after[used]
    return {
        **figures,
        "small_step_slope": _small_step_slope(effects, used, settings.small_step),
        "ablation_delta": _mean(effects.deltas["ablation"][fires]),
        "n_ablated": int(fires.sum()),
        "activation_delta": _mean((after - before) * sign),
        "gate_flip_rate": _mean(((before > 0) != (after > 0)).astype(np.float64)),
    }


def _small_step_slope(effects: Effects, used: np.ndarray, small_step: float) -> float | None:
    """Returns the slope of the small-step change, scaled up, against the gradient's prediction."""
    change = (effects.deltas["plus"] - effects.deltas["minus"])[used] / (2 * small_step)
    return agreement((effects.gradient * effects.amounts["opposite"])[used], change).slope


def chain_figures(total: FloatArray, frozen: FloatArray, amounts: FloatArray) -> dict[str, Any]:
    """Returns how much of an end-to-end effect is gone with the middle frozen; all (prompts,)."""
    used = amounts != 0
    sign = np.sign(amounts[used])
    whole, left = _mean(total[used] * sign), _mean(frozen[used] * sign)
    share = None if not whole or left is None else 1 - left / whole
    return {"n": int(used.sum()), "total_effect": whole, "frozen_effect": left, "mediated_share": share}


def edge_head(source: Feature, target: Feature) -> dict[str, Any]:
    """Returns what names an edge."""
    return {
        "edge_id": f"{feature_name(source)}->{feature_name(target)}",
        "source": feature_name(source),
        "target": feature_name(target),
        "source_layer": source.layer,
        "source_id": source.index,
        "target_layer": target.layer,
        "target_id": target.index,
    }


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None
