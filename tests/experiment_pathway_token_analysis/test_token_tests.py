from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from common.statistics.log_odds import log_odds_ratio, pooled_prior
from experiment_pathway_token_analysis.src.feature_trials import FeatureTrials
from experiment_pathway_token_analysis.src.response_tokens import LEVELS, Tokens
from experiment_pathway_token_analysis.src.token_contrasts import Contrast, contrasts
from experiment_pathway_token_analysis.src.token_counts import Sample, count_levels, sample_of
from experiment_pathway_token_analysis.src.token_tests import FEW, MORE, Labellings, token_effects
from tests.experiment_pathway_token_analysis.token_fixtures import settings_of

pytestmark = pytest.mark.numeric

CONTRAST = Contrast("c", "safe", "a", "b", primary=True)


def tokens(*ids: int, kinds: tuple[int, ...] = ()) -> Tokens:
    """A response whose words are its pieces plus 100."""
    pieces = np.array(ids, dtype=np.int32)
    of = np.array(kinds or [-1] * len(ids), dtype=np.int8)
    return Tokens(pieces, of, pieces[:1] + 100, of[:1], 0)


def trials(rows: list[tuple[str, int | None, str]]) -> FeatureTrials:
    return FeatureTrials(*(list(column) for column in zip(*rows, strict=True)))


def test_contrasts_put_the_patch_towards_the_first_class_first() -> None:
    found = contrasts(settings_of().study)
    assert [(one.condition_a, one.condition_b, one.primary) for one in found] == [
        ("safe_amplification", "safe_with_risky_patch", True),
        ("risky_with_safe_patch", "risky_amplification", True),
        ("safe_with_risky_patch", "safe_baseline", False),
        ("risky_with_safe_patch", "risky_baseline", False),
        ("safe_amplification", "safe_baseline", False),
        ("risky_amplification", "risky_baseline", False),
    ]


def test_a_sample_does_not_depend_on_the_order_of_trials() -> None:
    rows = [
        ("b", 2, "y"),
        ("a", 2, "x"),
        ("a", 1, "z"),
        ("b", 1, "z"),
        ("a", None, "u"),
        ("b", None, "v"),
        ("c", 1, "w"),
    ]
    responses = []
    for order in (range(7), reversed(range(7)), [3, 0, 6, 2, 5, 1, 4]):
        found = trials([rows[place] for place in order])
        sample = sample_of(found, CONTRAST)
        responses.append(
            [(found.responses[row], bool(label)) for row, label in zip(sample.rows, sample.labels, strict=True)]
        )
        assert sample.strata.tolist() == [0, 0, 1, 1, 2, 2] and sample.n_unpaired == 0
    assert responses[0] == responses[1] == responses[2]
    assert sorted(responses[0]) == sorted((response, name == "a") for name, _, response in rows if name != "c")


def test_problems_under_one_condition_only_are_left_out_and_counted() -> None:
    sample = sample_of(trials([("a", 1, "x"), ("b", 1, "y"), ("a", 2, "x"), ("b", 3, "y"), ("b", 3, "z")]), CONTRAST)
    assert sample.rows.tolist() == [0, 1] and sample.n_unpaired == 3


def test_tokens_that_occur_too_seldom_or_in_too_few_responses_are_not_tested_but_count_as_length() -> None:
    responses = [tokens(1, 1, 1, 2), tokens(1, 2, 3), tokens(2, 3, 3, 3, 3), tokens()]
    piece, word = count_levels(responses, 4, 2, kinds=False)
    assert piece.tokens.tolist() == [1, 3]  # 2 occurs three times
    assert piece.counts.tolist() == [[3, 0], [1, 1], [0, 4], [0, 0]]
    assert piece.lengths.tolist() == [4, 3, 5, 0]
    assert count_levels(responses, 3, 3, kinds=False)[0].tokens.tolist() == [2]  # 1 and 3 are in two responses each
    assert word.tokens.tolist() == []


def test_a_token_has_the_kind_in_which_it_stands_most_often_and_kinds_are_counted_as_tokens() -> None:
    responses = [tokens(1, 2, kinds=(0, 1)), tokens(1, 1, kinds=(4, 4)), tokens(2, kinds=(1,))]
    levels = count_levels(responses, 2, 1, kinds=True)
    assert [level.level for level in levels] == list(LEVELS)
    assert dict(zip(levels[0].tokens.tolist(), levels[0].kinds.tolist(), strict=True)) == {1: 4, 2: 1}
    assert levels[2].tokens.tolist() == [1, 4] and levels[2].counts.sum(axis=0).tolist() == [2, 2]


def enumerated_p(counts: NDArray, lengths: NDArray, labels: NDArray, arrangements: NDArray, weight: float) -> NDArray:
    """p of every token by every arrangement of the labels there is, the observed one among them."""

    def z(side: NDArray) -> NDArray:
        prior = pooled_prior(counts.sum(axis=0), float(lengths.sum()), weight)
        of_a, of_b = counts[side], counts[~side]
        totals = lengths[side].sum(), lengths[~side].sum()
        return log_odds_ratio(of_a.sum(axis=0), totals[0], of_b.sum(axis=0), totals[1], prior, weight).z

    every = np.array([z(arrangement) for arrangement in arrangements])
    scale = np.sqrt((every**2).mean(axis=0))
    largest = np.abs(every / scale).max(axis=1)
    return (largest[:, None] >= np.abs(z(labels) / scale) * (1 - 1e-9)).mean(axis=0)


def all_of_one_stratum(n: int, n_a: int) -> NDArray:
    return np.array([[place in chosen for place in range(n)] for chosen in combinations(range(n), n_a)])


def all_swaps(n_pairs: int) -> NDArray:
    return np.array(
        [[side for swap in swaps for side in (not swap, swap)] for swaps in product([False, True], repeat=n_pairs)]
    )


def one_stratum(n: int) -> Sample:
    return Sample(np.arange(n), np.arange(n) % 2 == 0, np.zeros(n, dtype=int), 0)


@pytest.mark.parametrize("paired", [False, True])
def test_p_agrees_with_the_enumeration_of_all_labellings(*, paired: bool) -> None:
    random = np.random.default_rng(11)
    n = 12 if paired else 8
    responses = [tokens(*random.integers(0, 4, 9), *([7] * (6 if row % 2 == 0 else 1))) for row in range(n)]
    sample = one_stratum(n)._replace(strata=np.arange(n) // 2 if paired else np.zeros(n, dtype=int))
    piece = count_levels(responses, 1, 1, kinds=False)[0]
    draws = 20_000
    effects = token_effects([piece], Labellings(draws, 3).of(sample), 50.0).effects
    arrangements = all_swaps(n // 2) if paired else all_of_one_stratum(n, n // 2)
    expected = enumerated_p(piece.counts, piece.lengths, sample.labels, arrangements, 50.0)
    assert len(arrangements) == (64 if paired else 70)
    assert effects.p == pytest.approx(expected, abs=5 * 0.5 / draws**0.5)
    assert expected.min() < 0.05 < expected.max()


def test_p_is_corrected_over_the_levels_together() -> None:
    random = np.random.default_rng(5)
    levels = count_levels([tokens(*random.integers(0, 5, 20)) for _ in range(30)], 3, 2, kinds=False)
    drawn = Labellings(500, 1).of(one_stratum(30))
    together, alone = (token_effects(one, drawn, 50.0).effects for one in (levels, levels[:1]))
    own = together.level == 0
    assert (together.p[own] >= alone.p).all() and (together.p[own] > alone.p).any()
    assert together.z[own].tolist() == alone.z.tolist()


def test_a_word_that_comes_in_bursts_does_not_hide_one_that_comes_in_every_response() -> None:
    random = np.random.default_rng(8)
    bursts = [[5] * (30 if random.random() < 0.3 else 0) for _ in range(40)]
    responses = [tokens(*burst, *([6] * 90), *([7] if row % 2 == 0 else [])) for row, burst in enumerate(bursts)]
    effects = token_effects(
        count_levels(responses, 5, 2, kinds=False)[:1], Labellings(400, 1).of(one_stratum(40)), 500.0
    ).effects
    of = {token: place for place, token in enumerate(effects.token.tolist())}
    spread = effects.z / effects.permutation_z  # of z over the shuffles; 1 for words that come one by one
    assert spread[of[5]] > 3 and spread[of[7]] < 1 and effects.permutation_z[of[7]] > 4
    assert effects.p[of[7]] < 0.001 < 0.1 < effects.p[of[5]]


def test_more_shuffles_are_drawn_only_where_the_first_are_too_coarse() -> None:
    plain = [tokens(*np.random.default_rng(row).integers(0, 5, 20)) for row in range(30)]
    moved = [tokens(*one.pieces, *([9] * 4 if row % 2 == 0 else [])) for row, one in enumerate(plain)]
    drawn = Labellings(200, 1).of(one_stratum(30))
    by_chance, real = (token_effects(count_levels(one, 3, 2, kinds=False)[:1], drawn, 50.0) for one in (plain, moved))
    assert by_chance.n_permutations == 200 and by_chance.effects.p.min() >= FEW / 201
    assert real.n_permutations == 200 * (1 + MORE)
    assert real.effects.p.min() == pytest.approx(1 / (1 + 200 * (1 + MORE)))


def test_responses_that_no_labelling_tells_apart_have_a_p_of_one() -> None:
    responses = [tokens(1, 2, 1) for _ in range(10)]
    found = token_effects(count_levels(responses, 1, 1, kinds=False)[:1], Labellings(50, 1).of(one_stratum(10)), 10.0)
    assert found.effects.p.tolist() == [1.0, 1.0] and found.effects.permutation_z.tolist() == [0.0, 0.0]


def test_without_tokens_there_is_nothing_to_test() -> None:
    found = token_effects(
        count_levels([tokens(), tokens()], 1, 1, kinds=True), Labellings(50, 1).of(one_stratum(2)), 10.0
    )
    assert len(found.effects.p) == 0 and found.n_permutations == 50


def test_labellings_of_equal_samples_are_drawn_once_and_begin_with_the_observed_one() -> None:
    sample = Sample(np.arange(4), np.array([True, False, True, False]), np.array([0, 0, 1, 1]), 0)
    kept = Labellings(10, 1)
    one, again = kept.of(sample), kept.of(sample._replace(rows=np.arange(4) + 9))
    assert one.more() is again.more() and len(one.more()) == 10 * MORE
    assert one.first[0].tolist() == sample.labels.tolist() and one.first.shape == (11, 4)
    assert (one.first == Labellings(10, 1).of(sample).first).all()
    assert (Labellings(50, 2).of(sample).first != Labellings(50, 1).of(sample).first).any()


def test_counts_of_both_sides_are_those_of_the_responses() -> None:
    responses = [tokens(1, 1, 2), tokens(1, 3), tokens(2, 2, 2, 1)]
    sample = Sample(np.arange(3), np.array([True, False, False]), np.zeros(3, dtype=int), 0)
    effects = token_effects(count_levels(responses, 1, 1, kinds=False)[:1], Labellings(10, 1).of(sample), 10.0).effects
    shown = zip(
        *(getattr(effects, name).tolist() for name in ("token", "count_a", "count_b", "docs_a", "docs_b")), strict=True
    )
    assert list(shown) == [(1, 2, 2, 1, 2), (2, 1, 3, 1, 1), (3, 0, 1, 0, 1)]
    assert set(effects.total_a) == {3} and set(effects.total_b) == {6}
    assert effects.plain_log_ratio == pytest.approx(np.log([3 / 3, 2 / 4, 1 / 2]))
