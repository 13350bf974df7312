from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UsageError
from phase0.complexity import cyclomatic_complexity
from phase0_1.splitting import SPLITS, balance, split_problems

pytestmark = pytest.mark.unit

MBPP = Path(__file__).resolve().parents[3] / "shared" / "data" / "mbpp.jsonl"
RATIOS = (5, 1, 4)

ratios = st.integers(1, 8).flatmap(lambda a: st.integers(1, 9 - a).map(lambda b: (a, b, 10 - a - b)))
problems = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 20)), min_size=10, max_size=150, unique_by=lambda p: p[0]
)
seeds = st.integers(0, 2**40)


def split(problems: list[tuple[int, int]], seed: int, ratios: tuple[int, int, int] = RATIOS) -> dict[str, list[int]]:
    return split_problems([p[0] for p in problems], [p[1] for p in problems], seed, ratios)


@given(problems, seeds, ratios)
def test_splits_are_disjoint_complete_and_sorted(problems: list, seed: int, ratios: tuple) -> None:
    result = split(problems, seed, ratios)
    assert tuple(result) == SPLITS
    assert sorted(sum(result.values(), [])) == sorted(task_id for task_id, _ in problems)
    assert all(ids == sorted(ids) for ids in result.values())


@given(problems, seeds, ratios)
def test_every_ten_is_dealt_by_the_ratios_and_the_remainder_goes_to_the_first_split(
    problems: list, seed: int, ratios: tuple
) -> None:
    tens, rest = divmod(len(problems), 10)
    sizes = [len(ids) for ids in split(problems, seed, ratios).values()]
    assert sizes == [tens * ratios[0] + rest, tens * ratios[1], tens * ratios[2]]


@given(problems, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(problems: list, seed: int, random) -> None:
    expected = split(problems, seed)
    random.shuffle(problems)
    assert split(problems, seed) == expected


@given(problems, seeds, ratios)
def test_cumulative_shares_differ_by_at_most_one_ten_and_the_remainder(
    problems: list, seed: int, ratios: tuple
) -> None:
    # All tens but one lie wholly above or below any complexity, and every split holds its share of each of them.
    tens, rest = divmod(len(problems), 10)
    distances = balance(split(problems, seed, ratios), dict(problems)).ks_distance
    bound = 1 / tens + rest / (rest + tens * ratios[0])
    assert max(distances.values()) <= bound + 1e-9
    assert distances["hyperparams-validation"] <= 1 / tens + 1e-9


@settings(max_examples=20)
@given(st.permutations(range(1, 41)), seeds)
def test_each_ten_of_equal_rank_gives_every_split_its_share(complexities: list[int], seed: int) -> None:
    # 40 different complexities: ranks 1-10, 11-20, ... form the tens.
    result = split(list(enumerate(complexities)), seed)
    for low in range(1, 41, 10):
        shares = [sum(low <= complexities[task_id] < low + 10 for task_id in ids) for ids in result.values()]
        assert shares == [5, 1, 4]


def test_equal_problems_reach_every_split_equally_often_over_seeds() -> None:
    problems = [(task_id, 1) for task_id in range(23)]
    n_seeds = 2000
    times = [0] * 23
    for seed in range(n_seeds):
        for task_id in split(problems, seed)["hyperparams"]:
            times[task_id] += 1
    # Two of 23 problems each time; six standard deviations of the binomial count.
    share = 2 / 23
    margin = 6 * (n_seeds * share * (1 - share)) ** 0.5
    assert all(abs(count - n_seeds * share) < margin for count in times), times


def test_another_seed_gives_another_split() -> None:
    problems = [(task_id, task_id % 7) for task_id in range(100)]
    assert split(problems, 42) != split(problems, 43)


def test_mbpp_splits_into_489_97_and_388_problems_of_equal_difficulty() -> None:
    if not MBPP.is_file():
        pytest.skip(f"{MBPP} is absent")
    rows = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()]
    complexity = {row["task_id"]: cyclomatic_complexity(row["code"]) for row in rows}
    result = split(list(complexity.items()), 42)
    assert {name: len(ids) for name, ids in result.items()} == {"sae": 489, "hyperparams": 97, "validation": 388}
    assert max(balance(result, complexity).ks_distance.values()) < 0.02


def test_balance_figures_are_those_computed_by_hand() -> None:
    complexity = {1: 1, 2: 3, 3: 2, 4: 2, 5: 8}
    measured = balance({"sae": [1, 2], "hyperparams": [5], "validation": [3, 4]}, complexity)
    assert measured.splits["sae"] == (2, 2.0, pytest.approx(statistics.stdev([1, 3])), 1, 3)
    assert measured.splits["hyperparams"] == (1, 8.0, None, 8, 8)
    assert measured.ks_distance == {"sae-hyperparams": 1.0, "sae-validation": 0.5, "hyperparams-validation": 1.0}


@pytest.mark.parametrize("bad", [(5, 1, 3), (10, 0, 0), (5, 5), (6, -1, 5)])
def test_ratios_that_do_not_deal_ten_problems_to_three_splits_are_refused(bad: tuple) -> None:
    with pytest.raises(UsageError, match="split ratios"):
        split([(task_id, 1) for task_id in range(20)], 42, bad)


def test_fewer_than_ten_problems_are_refused_because_splits_would_be_empty() -> None:
    with pytest.raises(UsageError, match="9 problems cannot be split.*hyperparams and validation empty"):
        split([(task_id, 1) for task_id in range(9)], 42)


def test_a_task_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="more than once"):
        split([(task_id % 11, 1) for task_id in range(12)], 42)
