"""The responses of one contrast as counts: a sample of labelled responses, and how often each contains each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiment_pathway_token_analysis.src.feature_trials import FeatureTrials
from experiment_pathway_token_analysis.src.response_tokens import LEVELS, Tokens
from experiment_pathway_token_analysis.src.token_contrasts import Contrast
from experiment_pathway_token_analysis.src.token_kinds import KINDS


class Sample(NamedTuple):
    """Responses of one contrast in an order that depends on their content only.

    `rows` are places among the feature's trials, `labels` tell those under `condition_a`, `strata` the problem (all 0
    where trials have none); `n_unpaired` responses were left out because their problem lacks the other condition.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]
    strata: NDArray[np.int64]
    n_unpaired: int


class LevelCounts(NamedTuple):
    """Tokens of one level: ids (n_tokens,), `counts` (n_responses, n_tokens), `lengths` (n_responses,) in tokens.

    `counts` holds only tokens that occur often enough, `lengths` counts all. `kinds` (n_tokens,) is the kind in which a
    token stands most often, -1 where there are none.
    """

    level: str
    tokens: NDArray[np.int64]
    counts: NDArray[np.float32]
    lengths: NDArray[np.float32]
    kinds: NDArray[np.int8]


def sample_of(trials: FeatureTrials, contrast: Contrast) -> Sample:
    """Returns the responses of both conditions, without those of problems that have one of the two only."""
    sides = {contrast.condition_a: True, contrast.condition_b: False}
    chosen = [row for row, condition in enumerate(trials.conditions) if condition in sides]
    problems: dict[str, set[bool]] = {}
    for row in chosen:
        problems.setdefault(_problem(trials, row), set()).add(sides[trials.conditions[row]])
    number = {name: place for place, name in enumerate(sorted(problems))}
    kept = sorted(
        (number[name], not sides[trials.conditions[row]], trials.responses[row], row)
        for row in chosen
        if len(problems[name := _problem(trials, row)]) == 2
    )
    return Sample(
        rows=np.array([row for *_, row in kept], dtype=np.int64),
        labels=np.array([not other for _, other, *_ in kept], dtype=np.bool_),
        strata=np.array([stratum for stratum, *_ in kept], dtype=np.int64),
        n_unpaired=len(chosen) - len(kept),
    )


def _problem(trials: FeatureTrials, row: int) -> str:
    return "" if trials.task_ids[row] is None else str(trials.task_ids[row])


def count_levels(
    responses: Sequence[Tokens], min_occurrences: int, min_responses: int, *, kinds: bool
) -> list[LevelCounts]:
    """Returns the counts of pieces, of words and, with `kinds`, of the kinds of pieces."""
    pieces = [one.pieces for one in responses]
    of_pieces = [one.piece_kinds for one in responses]
    levels = [(pieces, of_pieces), ([one.words for one in responses], [one.word_kinds for one in responses])]
    levels += [(of_pieces, of_pieces)] if kinds else []
    return [
        _count(level, values, of, min_occurrences, min_responses)
        for level, (values, of) in zip(LEVELS, levels, strict=False)
    ]


def _count(
    level: str, values: Sequence[NDArray], kinds: Sequence[NDArray], min_occurrences: int, min_responses: int
) -> LevelCounts:
    lengths = np.array([len(one) for one in values], dtype=np.int64)
    flat = np.concatenate([*values, np.empty(0, dtype=np.int64)]).astype(np.int64)
    tokens, places = np.unique(flat, return_inverse=True)
    of_response = np.repeat(np.arange(len(values)), lengths)
    cells = np.bincount(of_response * len(tokens) + places, minlength=len(values) * len(tokens))
    counts = cells.reshape(len(values), len(tokens))
    keep = (counts.sum(axis=0) >= min_occurrences) & ((counts > 0).sum(axis=0) >= min_responses)
    usual = _usual_kind(np.concatenate([*kinds, np.empty(0, dtype=np.int8)]), places, len(tokens))
    return LevelCounts(level, tokens[keep], counts[:, keep].astype(np.float32), lengths.astype(np.float32), usual[keep])


def _usual_kind(kinds: NDArray, places: NDArray, n_tokens: int) -> NDArray[np.int8]:
    """Returns the kind in which each token stands most often, the first of equal ones; -1 where there are none."""
    if not len(kinds) or kinds[0] < 0:
        return np.full(n_tokens, -1, dtype=np.int8)
    cells = np.bincount(places * len(KINDS) + kinds, minlength=n_tokens * len(KINDS))
    return cells.reshape(n_tokens, len(KINDS)).argmax(axis=1).astype(np.int8)
