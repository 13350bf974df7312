from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.statistics.seeding import generator

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[3]


def draws(*parts: int | str) -> list[float]:
    return generator(*parts).random(4).tolist()


def test_the_same_seed_and_purpose_give_the_same_draws_whatever_was_drawn_before() -> None:
    first = draws(42, "split", 7)
    draws(42, "something else")
    assert draws(42, "split", 7) == first


def test_another_process_with_another_hash_seed_draws_the_same_numbers() -> None:
    program = "from common.statistics.seeding import generator; print(generator(42, 'split', 7).random(4).tolist())"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(draws(42, "split", 7))


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, "a"), (2, "a")), ((1, "a"), (1, "b")), ((1, "ab", "c"), (1, "a", "bc")), ((1, "1"), (1, 1)), ((1,), (1, ""))],
)
def test_different_seeds_or_purposes_draw_different_numbers(one: tuple, other: tuple) -> None:
    assert draws(*one) != draws(*other)


def test_a_numpy_integer_counts_as_the_integer_it_holds() -> None:
    assert draws(np.int64(42), "task", np.int32(7)) == draws(42, "task", 7)


def test_a_seed_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        generator(4.2)  # type: ignore[arg-type]
