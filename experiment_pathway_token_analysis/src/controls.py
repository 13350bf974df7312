"""Matched sources: features that are no edges' sources, but fire and change as much as one that is.

The null that edges are held against is pooled by pair of layers: one edge's own few controls could not reach a p small
enough. Every target has a seeded share of its pair's controls, each matched to one of its own edges in that layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from common.runs.features import Feature
from common.statistics.seeding import generator
from common.statistics.selection import FloatArray
from experiment_pathway_token_analysis.src.codes import LayerCodes

NEIGHBOURS = 20


def quota(per_pair: int, n_targets_in_layer: int) -> int:
    """Returns how many controls in each earlier layer one target of a layer gets."""
    return math.ceil(per_pair / max(1, n_targets_in_layer))


def matched_sources(
    layer: int,
    edges: Sequence[int],
    codes: LayerCodes,
    n: int,
    seed: int,
    target: Feature,
    others: Sequence[int] = (),
) -> list[Feature]:
    """Draws `n` features of `layer` (fewer where there are not so many), each once, none one of `edges` or `others`.

    Each is one of the nearest to a drawn edge in firing rate and in the length of its patch (`LayerCodes`).
    """
    if not edges:
        return []
    draws = generator(seed, "matched sources", target.layer, target.index, layer)
    free = (codes.strength > 0) & (codes.rate > 0)
    free[[*edges, *others]] = False
    position = _position(codes)
    chosen: list[Feature] = []
    while len(chosen) < n and free.any():
        edge = edges[int(draws.integers(len(edges)))]
        candidates = np.flatnonzero(free)
        distance = ((position[candidates] - position[edge]) ** 2).sum(axis=1)
        near = candidates[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
        index = int(near[int(draws.integers(len(near)))])
        free[index] = False
        chosen.append(Feature(layer, index))
    return chosen


def _position(codes: LayerCodes) -> FloatArray:
    """Returns firing rate and logarithm of the patch's length, each in units of its SD over firing features."""
    fires = (codes.strength > 0) & (codes.rate > 0)
    length = np.log(np.where(codes.strength > 0, codes.strength, 1.0))
    columns = np.stack([codes.rate, length], axis=1)
    spread = columns[fires].std(axis=0) if fires.any() else np.ones(2)
    return columns / np.where(spread > 0, spread, 1.0)
