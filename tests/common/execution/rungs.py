"""The ladder's rungs in tests: which work here, and a pool at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from common.errors import PipelineError
from common.execution import EvaluationPool
from common.execution.ladder import choose_isolation

RUNGS = ("4", "3", "2", "1", "0")


def available_rungs() -> list[str]:
    """Returns the rungs that work in this process; tries each once, about 0.3 s each."""
    return [rung for rung in RUNGS if reason_against(rung) is None]


def reason_against(rung: str) -> str | None:
    """Returns why a rung does not work here, or None where it does."""
    try:
        choose_isolation(rung)
    except PipelineError as error:
        return str(error)
    return None


def need_rung(rung: str) -> None:
    """Skips the test, with the ladder's own reason, where the rung does not work here."""
    if (reason := reason_against(rung)) is not None:
        pytest.skip(reason)


def pool_at_every_rung(lowest: int = 0, **settings: Any) -> Callable[..., Iterator[EvaluationPool]]:
    """Returns a fixture, to be bound to a name in a test module: a pool of one worker at each rung from `lowest` on."""

    @pytest.fixture(scope="module", params=[rung for rung in RUNGS if int(rung) >= lowest], ids=rung_id)
    def pool(request: pytest.FixtureRequest) -> Iterator[EvaluationPool]:
        need_rung(request.param)
        with EvaluationPool(**{"workers": 1, **settings}, sandbox=request.param) as running:
            yield running

    return pool


def rung_id(rung: str) -> str:
    """Returns how a rung is called in a test's id."""
    return f"rung {rung}"
