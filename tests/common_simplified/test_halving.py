"""Halving a batch that is too much: what is tried, what is passed on, what is given up."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from common_simplified.halving import Failure, Halving, ran_out_of_memory, reason

pytestmark = pytest.mark.unit
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def halving(make: Callable[[Sequence[int], int], list[Any]], **options: Any) -> Halving[int, list[Any]]:
    return Halving(
        make=make,
        joined=lambda one, other: [*one, *other],
        given_up=lambda item, why, tries: [(item, why, tries)],
        **{"max_retries": 2, "sleep": lambda seconds: None, **options},
    )


def test_halves_are_tried_until_they_fit_and_come_back_in_their_order() -> None:
    tried: list[int] = []

    def make(items: Sequence[int], tries: int) -> list[int]:
        tried.append(len(items))
        if len(items) > 2:
            raise FULL
        return [10 * item for item in items]

    assert halving(make).work(range(7)) == [0, 10, 20, 30, 40, 50, 60]
    assert tried == [7, 4, 2, 2, 3, 2, 1]


def test_an_item_that_never_fits_is_given_up_alone_after_growing_pauses() -> None:
    pauses: list[float] = []

    def make(items: Sequence[int], tries: int) -> list[Any]:
        if 3 in items:
            raise FULL
        return list(items)

    found = halving(make, sleep=pauses.append).work(range(5))
    assert found == [0, 1, 2, (3, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", 3), 4]
    assert pauses == [1.0, 2.0]


def test_what_halving_does_not_answer_is_passed_on_at_once() -> None:
    tried: list[int] = []

    def make(items: Sequence[int], tries: int) -> list[Any]:
        tried.append(len(items))
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        halving(make).work(range(4))
    assert tried == [4]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_running_out_of_memory_is_known_by_its_type_or_its_words(error: Exception, expected: bool) -> None:
    assert ran_out_of_memory(error) is expected


def test_torchs_own_refusal_to_allocate_ram_is_running_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert ran_out_of_memory(raised.value)


def test_what_was_too_much_is_freed_before_the_halves_are_tried() -> None:
    """An error that is kept keeps its frames, and with them every tensor of the batch that failed."""
    held: list[weakref.ref[torch.Tensor]] = []

    def make(items: Sequence[int], tries: int) -> list[Any]:
        assert all(ref() is None for ref in held), "the batch that failed is still in memory"
        cache = torch.zeros(len(items))
        held.append(weakref.ref(cache))
        if len(items) > 1 or tries < 2:
            try:
                raise torch.OutOfMemoryError("a new one: the traceback of an old one would stay")
            except torch.OutOfMemoryError as error:
                raise MemoryError("full") from error
        return list(items)

    assert halving(make).work(range(4)) == [0, 1, 2, 3]
    assert len(held) == 3 + 2 * 4


def test_a_reason_is_the_first_line_of_an_error() -> None:
    assert reason(ValueError("one\ntwo")) == "ValueError: one" and reason(MemoryError()) == "MemoryError"
    assert Failure("x", True).retry
