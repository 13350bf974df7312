"""Hostile and odd programs: each ends as it must, and does nothing besides. The project's own, and the shared ones."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.execution import EvaluationPool
from tests.common.execution.corpus import CATEGORIES, Program, Runner, is_slow, load_corpus, open_below

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")

OWN = Path(__file__).with_name("attacks.jsonl")
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "attacks.jsonl"


def cases(path: Path) -> list[Any]:
    """Returns the programs of a corpus, the slow ones apart from those that every run of the tests can afford."""
    if not path.is_file():
        absent = pytest.mark.skip(reason=f"{path} is absent")
        return [pytest.param({}, id="absent", marks=[pytest.mark.unit, absent])]
    return [
        pytest.param(program, id=program["id"], marks=pytest.mark.fault if is_slow(program) else pytest.mark.unit)
        for program in load_corpus(path)
    ]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as entered:
        yield entered


@pytest.fixture(scope="module")
def pool(runner: Runner) -> Iterator[EvaluationPool]:
    with EvaluationPool(workers=1, timeout=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def rung(pool: EvaluationPool) -> int:
    return pool.submit("def f():\n    return 1", ["assert f() == 1"]).result(timeout=60).rung


def check(runner: Runner, pool: EvaluationPool, rung: int, program: Program) -> None:
    if open_below(program) > rung:
        pytest.skip(f"{program['id']} is open below rung {open_below(program)}, and this machine reaches {rung}")
    verdict = runner.run(pool, program)
    assert verdict.right, (program["why"], f"must end as {program['expected']}", verdict)
    assert verdict.problems == [], (program["why"], verdict)


@pytest.mark.parametrize("program", cases(OWN))
def test_the_program_ends_as_it_must(runner: Runner, pool: EvaluationPool, rung: int, program: Program) -> None:
    check(runner, pool, rung, program)


@pytest.mark.parametrize("program", cases(SHARED))
def test_the_shared_program_ends_as_it_must(runner: Runner, pool: EvaluationPool, rung: int, program: Program) -> None:
    check(runner, pool, rung, program)


@pytest.mark.unit
def test_every_category_is_there_and_no_program_twice() -> None:
    rows = load_corpus(OWN)
    counts = Counter(row["category"] for row in rows)
    assert set(counts) == CATEGORIES
    assert min(counts.values()) >= 3
    assert len(rows) >= 75
    assert counts["benign"] >= 30
    for field in ("id", "code", "why"):
        assert len({row[field] for row in rows}) == len(rows), field


@pytest.mark.unit
def test_the_own_programs_are_none_of_the_shared_ones() -> None:
    if not SHARED.is_file():
        pytest.skip(f"{SHARED} is absent")
    for field in ("id", "code"):
        assert not {row[field] for row in load_corpus(OWN)} & {row[field] for row in load_corpus(SHARED)}
