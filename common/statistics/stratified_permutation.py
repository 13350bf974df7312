"""Shuffles of two labels within strata, and the p-values of a maximum over many statistics under them.

Within a stratum (a problem, say) each label keeps its number: with one unit of either label a stratum, a shuffle swaps
pairs; with one stratum it is the plain permutation. Max-statistic p-values: Westfall & Young, Resampling-Based Multiple
Testing (1993), counted as in Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), article 39.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.statistics.permutation import TIE_SLACK
from common.statistics.seeding import generator

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
CHUNK_KEYS = 2**22  # random keys that are sorted at a time


def permuted_within(labels: BoolArray, strata: NDArray[np.integer], n_permutations: int, *seed: int | str) -> BoolArray:
    """Returns `n_permutations` seeded shuffles of `labels` within `strata`, shape (n_permutations, n_units).

    `seed` is a number and what else names the generator. Units stand in any order; equal input gives equal shuffles.
    """
    assert labels.shape == strata.shape, f"labels: {labels.shape}, strata: {strata.shape}"
    number, *purpose = seed
    assert isinstance(number, int), f"seed: {number!r}"
    random = generator(number, "labels within strata", *purpose)
    _, ranks = np.unique(strata, return_inverse=True)
    places = np.argsort(ranks, kind="stable")
    template = labels[places]
    shuffled = np.empty((n_permutations, len(labels)), dtype=np.bool_)
    step = max(1, CHUNK_KEYS // max(1, len(labels)))
    for start in range(0, n_permutations, step):
        rows = shuffled[start : start + step]
        order = np.argsort(0.5 * random.random(rows.shape) + ranks, axis=1)  # by stratum, within it at random
        np.put_along_axis(rows, order, np.broadcast_to(template, rows.shape), axis=1)
    return shuffled


def max_statistic_p(observed: FloatArray, largest: FloatArray) -> FloatArray:
    """Returns (1 + shuffles whose largest statistic is at least as large) / (1 + shuffles) for each observed one.

    `largest` has one entry a shuffle; nan, there, is a shuffle in which nothing could be computed and counts as at
    least as large. An observed nan stays nan.
    """
    ordered = np.sort(np.where(np.isnan(largest), np.inf, largest))
    below = np.searchsorted(ordered, observed - TIE_SLACK * np.abs(observed), side="left")
    return np.where(np.isnan(observed), np.nan, (1 + len(ordered) - below) / (1 + len(ordered)))


def selected_q_values(p_values: FloatArray, family_p: FloatArray) -> FloatArray:
    """Returns q-values of hypotheses inside families, whose p-values are already corrected within the family.

    `family_p` (nan where not tested) are the families' own, the smallest p of each. A hypothesis of p = t has the
    smallest m u / R(u) over u >= t, where R(u) of the m families have p <= u: at the families' own p-values that is
    Benjamini & Hochberg's q, and taking those with q <= alpha is the procedure of Benjamini & Bogomolov (J. R. Stat.
    Soc. B 76, 2014): the error rate, averaged over the families that are selected, stays below alpha.
    """
    ordered = np.sort(family_p[~np.isnan(family_p)])
    m = len(ordered)
    if m == 0:
        return np.full(np.shape(p_values), np.nan)
    at_families = np.minimum.accumulate((m * ordered / np.arange(1, m + 1))[::-1])[::-1]
    rejected = np.searchsorted(ordered, p_values, side="right")
    own = m * p_values / np.maximum(rejected, 1)
    later = np.append(at_families, np.inf)[np.minimum(np.searchsorted(ordered, p_values, side="left"), m)]
    return np.where(np.isnan(p_values), np.nan, np.minimum(np.minimum(own, later), 1.0))
