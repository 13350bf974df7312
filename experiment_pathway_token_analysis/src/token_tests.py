"""One feature and contrast: the log-odds of every token, tested by shuffling labels over responses.

A response is the unit: its tokens depend on each other, so labels move with whole responses, within a problem where
trials have one. z of Monroe et al. counts words as if they were independent, and is far too large for a word that comes
in bursts; so each token's z is divided by its root mean square over the shuffles (`permutation_z`). p of a token counts
the shuffles in which any token, of any level, has so large a |permutation_z|: it is corrected for all tokens of the
contrast. Where fewer than FEW of the shuffles do, MORE times as many are drawn (in the manner of Besag & Clifford,
Biometrika 78, 1991): 1 in 2,000 would be too coarse a p for thousands of features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.statistics.log_odds import log_odds_ratio, plain_log_ratio, pooled_prior
from common.statistics.stratified_permutation import max_statistic_p, permuted_within
from experiment_pathway_token_analysis.src.steps import digest_of
from experiment_pathway_token_analysis.src.token_counts import LevelCounts, Sample

FEW, MORE = 10, 25
CHUNK_CELLS = 2**15  # the temporaries then stay in the processor's cache: a third of the time of 2**20
MAX_KEPT = 12
BoolArray = NDArray[np.bool_]


class TokenEffects(NamedTuple):
    """Every token of one contrast, one entry each; `level` is a place in LEVELS; totals count all tokens of a level."""

    level: NDArray[np.int8]
    token: NDArray[np.int64]
    kind: NDArray[np.int8]
    count_a: NDArray[np.int64]
    count_b: NDArray[np.int64]
    total_a: NDArray[np.int64]
    total_b: NDArray[np.int64]
    docs_a: NDArray[np.int64]
    docs_b: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    z: NDArray[np.float64]
    plain_log_ratio: NDArray[np.float64]
    permutation_z: NDArray[np.float64]
    p: NDArray[np.float64]


class Drawn(NamedTuple):
    """Labellings of one sample: `first` (1 + n, responses) begins with the observed one; `more` draws further ones."""

    first: BoolArray
    more: Callable[[], BoolArray]


class Labellings:
    """The observed labels and their shuffles; those of equal samples are drawn once."""

    def __init__(self, n_permutations: int, seed: int) -> None:
        self._n, self._seed = n_permutations, seed
        self._kept: dict[tuple[str, int], BoolArray] = {}

    def of(self, sample: Sample) -> Drawn:
        """Returns the labellings of a sample."""
        name = digest_of(sample.labels.astype(int).tolist(), sample.strata.tolist())
        first = np.vstack([sample.labels, self._shuffles(sample, name, self._n)])
        return Drawn(first, lambda: self._shuffles(sample, name, MORE * self._n))

    def _shuffles(self, sample: Sample, name: str, n: int) -> BoolArray:
        if (name, n) not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            seed = (self._seed, "token association", name, n)
            self._kept[name, n] = permuted_within(sample.labels, sample.strata, n, *seed)
        return self._kept[name, n]


class Tested(NamedTuple):
    """The effects of one contrast, and by how many shuffles their p was found."""

    effects: TokenEffects
    n_permutations: int


def token_effects(levels: Sequence[LevelCounts], drawn: Drawn, prior_tokens: float) -> Tested:
    """Returns log-odds, z and p of every token of all levels."""
    first = [_z(level, drawn.first, prior_tokens) for level in levels]
    scales = [np.sqrt(np.square(z).mean(axis=0)) for z in first]
    scaled = [_scaled(z, scale) for z, scale in zip(first, scales, strict=True)]
    largest = _largest(scaled)
    if _exceeding(largest) < FEW:
        chunks = _chunks(drawn.more(), max(1, sum(len(level.tokens) for level in levels)))
        further = [
            _largest(
                [_scaled(_z(level, rows, prior_tokens), scale) for level, scale in zip(levels, scales, strict=True)]
            )
            for rows in chunks
        ]
        largest = np.concatenate([largest, *further])
    columns = [
        (*_described(place, level, drawn.first[0], prior_tokens), own[0], max_statistic_p(np.abs(own[0]), largest[1:]))
        for place, (level, own) in enumerate(zip(levels, scaled, strict=True))
    ]
    effects = TokenEffects(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))
    return Tested(effects, len(largest) - 1)


def _exceeding(largest: NDArray[np.float64]) -> float:
    """Returns how many shuffles reach the observed labels, the first entry; infinite where these have no statistic."""
    p = max_statistic_p(largest[:1], largest[1:])[0]
    return np.inf if np.isnan(p) else p * len(largest) - 1


def _z(level: LevelCounts, labellings: BoolArray, weight: float) -> NDArray[np.float64]:
    """Returns z of every token under every labelling, shape (n_labellings, n_tokens)."""
    total, pooled = float(level.lengths.sum()), level.counts.sum(axis=0)
    z = np.empty((len(labellings), len(level.tokens)))
    if z.size:
        prior, start = pooled_prior(pooled, total, weight), 0
        for rows in _chunks(labellings, len(level.tokens)):
            # Whole numbers below 2^24: exact in float32, whatever the order in which they are added.
            sides = rows.astype(np.float32)
            counts, totals = sides @ level.counts, (sides @ level.lengths)[:, None].astype(np.float64)
            found = log_odds_ratio(counts, totals, pooled - counts, total - totals, prior, weight)
            z[start : start + len(rows)] = found.z
            start += len(rows)
    return z


def _chunks(labellings: BoolArray, n_tokens: int) -> list[BoolArray]:
    step = max(1, CHUNK_CELLS // n_tokens)
    return [labellings[start : start + step] for start in range(0, len(labellings), step)]


def _scaled(z: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns z over its scale; 0 for a token that no labelling moves."""
    return np.divide(z, scale, out=np.where(np.isnan(z), np.nan, 0.0), where=scale > 0)


def _largest(scaled: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns the largest absolute value of each labelling, nan where no token has one."""
    every = np.abs(np.concatenate(scaled, axis=1))
    return np.fmax.reduce(every, axis=1, initial=np.nan)


def _described(place: int, level: LevelCounts, labels: BoolArray, weight: float) -> tuple[NDArray, ...]:
    """Returns the columns of TokenEffects for one level, all but the last two."""
    counts_a, counts_b = level.counts[labels].sum(axis=0), level.counts[~labels].sum(axis=0)
    total_a, total_b = float(level.lengths[labels].sum()), float(level.lengths[~labels].sum())
    prior = pooled_prior(counts_a + counts_b, max(1.0, total_a + total_b), weight)
    found = log_odds_ratio(counts_a, total_a, counts_b, total_b, prior, weight)
    n = len(level.tokens)
    docs = [(level.counts[side] > 0).sum(axis=0) for side in (labels, ~labels)]
    whole = (counts_a, counts_b, np.full(n, total_a), np.full(n, total_b), *docs)
    return (
        np.full(n, place, dtype=np.int8),
        level.tokens,
        level.kinds,
        *(np.asarray(values).astype(np.int64) for values in whole),
        found.log_odds,
        found.z,
        plain_log_ratio(counts_a, counts_b),
    )
