"""Nothing stays behind: after samples (E5), for the next sample, and after the evaluator's own sudden end (E6)."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from common.execution import EvaluationPool
from tests.common.execution.conftest import Figure
from tests.common.execution.elsewhere import BEST, PLACES, Place, Started, ask, started
from tests.common.execution.hostile import (
    GOOD,
    TESTS,
    hangs_with_stubborn_family,
    hostile_programs,
    leaves_files,
    new_mark,
)
from tests.common.execution.processes import family, inner_worker, marked, process
from tests.common.execution.rungs import pool_at_every_rung, reason_against

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
pool = pool_at_every_rung(lowest=2, timeout=5.0, memory_mb=512)

SOAK = 5_000
MORE_MEMORY_MB = 5.0
PROMISED_SECONDS, ALLOWED_SECONDS = 1.0, 3.0
# At the best rung of a machine that reaches rung 2 the programs for rung 2 are used.
BEST_RUNG = next(rung for rung in (4, 3, 2, 1, 0) if reason_against(str(rung)) is None) if os.path.isdir("/proc") else 0


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_nothing_is_left_after_five_thousand_evaluations_a_tenth_hostile(place: Place, figure: Figure) -> None:
    answer = soaked(place, int(place.rung), SOAK, workers=2)
    before, after = answer["before"]["worker_mb"], answer["after"]["worker_mb"]
    grown = [now - earlier for earlier, now in zip(before, after, strict=True)]
    figure(
        f"E5 {place}: {SOAK} evaluations in {answer['seconds']} s, {answer['false_fails']} false fails, "
        f"{answer['strays']} strays ended; outcomes of the hostile: {', '.join(answer['outcomes'])}; "
        f"workers grew by {', '.join(f'{mb:+.2f}' for mb in grown)} MB"
    )
    assert max(grown) <= MORE_MEMORY_MB


@pytest.mark.smoke
def test_nothing_is_left_after_sixty_evaluations_a_tenth_hostile() -> None:
    soaked(BEST, BEST_RUNG, 60, workers=1)


def soaked(place: Place, rung: int, count: int, workers: int) -> dict[str, Any]:
    mark = new_mark()
    hostile = hostile_programs(mark, rung)
    answer = ask(place, "soak", count=count, hostile=hostile, mark=mark, workers=workers)
    assert answer["false_fails"] == 0
    assert answer["strays"] > 0
    assert answer["left_by_mark"] == answer["left_below"] == 0
    assert answer["left_in_temporary"] == []
    before, after = answer["before"], answer["after"]
    assert after["zombies"] == after["others_below"] == 0
    unchanged = set(before) - {"worker_mb"}
    assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert not marked(mark)
    return answer


FINDS = """
import os
def f():
    found = []
    for place in ('.', '..', '/dev/shm', '/tmp', '/var/tmp', '/run'):
        try: found += [(place, name) for name in os.listdir(place)]
        except OSError: pass
    found.remove(('..', os.path.basename(os.getcwd()))) if ('..', os.path.basename(os.getcwd())) in found else None
    return [place + '/' + name for place, name in found if 'left-' in name or place in ('.', '..')]
"""
TAKES_THE_NEXT_NAMES = f"""
import os
own = int(os.path.basename(os.getcwd()))
for number in range(own + 1, own + 5):
    try: os.mkdir(f'../{{number}}')
    except OSError: pass
{GOOD}"""
FILLS = """
import os
for place in ('..', '.', '/dev/shm'):
    for number in range(20):
        try:
            with open(os.path.join(place, f'full-{number}'), 'wb') as file:
                while file.write(bytes(1 << 20)): pass
        except OSError: pass
"""
WRITES = "def f(x):\n    with open('own', 'wb') as file:\n        return x - 9_999_999 + file.write(bytes(10_000_000))"
# The first may end in any way; those behind it pass only where it has left nothing.
IN_ORDER = {
    "files": [(leaves_files("/tmp", "/var/tmp", "/run"), TESTS, ""), (FINDS, ["assert f() == []"], "")],
    "names": [(TAKES_THE_NEXT_NAMES, TESTS, ""), *[(GOOD, TESTS, "")] * 5],
    "room": [(FILLS + GOOD, TESTS, ""), (WRITES, TESTS, "")],
}


@pytest.mark.fault
@pytest.mark.parametrize("kind", IN_ORDER)
@pytest.mark.parametrize("place", [place for place in PLACES if int(place.rung) >= 2], ids=str)
def test_one_program_takes_nothing_from_the_next(place: Place, kind: str) -> None:
    answer = ask(place, "evaluate", programs=IN_ORDER[kind])
    assert set(answer["outcomes"][1:]) == {"passed"}, answer
    assert answer["same_workers"]


@pytest.mark.smoke
@pytest.mark.parametrize("kind", IN_ORDER)
def test_at_every_rung_from_two_on_one_program_takes_nothing_from_the_next(pool: EvaluationPool, kind: str) -> None:
    worker = inner_worker(pool)
    results = [pool.submit(*program).result(timeout=60) for program in IN_ORDER[kind]]
    assert all(results[1:]), results
    assert inner_worker(pool) == worker


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_when_the_evaluator_is_killed_all_that_it_started_ends(place: Place, figure: Figure) -> None:
    seconds = [seconds_to_end(place) for _ in range(5)]
    figure(f"E6 {place}: all gone after {', '.join(f'{1000 * each:.0f}' for each in seconds)} ms")


@pytest.mark.smoke
def test_when_the_evaluator_at_the_best_rung_is_killed_all_that_it_started_ends() -> None:
    seconds_to_end(BEST)


def seconds_to_end(place: Place) -> float:
    """Returns how long after the evaluator's end the last process lived that it, its workers or samples had started."""
    mark, orphans = new_mark(), 4
    program = hangs_with_stubborn_family(orphans, mark)
    with started(place, "evaluate", programs=[(program, TESTS, "")] * 2, workers=2, timeout=60.0) as running:
        wait_for_marks(running, mark, 2 * (orphans + 1))
        below = family(running.process.pid)
        assert len(below) >= 2 * (orphans + 2), below
        running.process.kill()
        killed = time.monotonic()
        while living := [item.pid for item in below if (now := process(item.pid)) and now.state != "Z"]:
            assert time.monotonic() < killed + ALLOWED_SECONDS, (living, marked(mark))
            time.sleep(0.002)
        seconds = time.monotonic() - killed
        assert not marked(mark)
    return seconds


def wait_for_marks(running: Started, mark: str, count: int) -> None:
    end = time.monotonic() + 60
    while len(marked(mark)) < count:
        if running.process.poll() is not None:
            running.answer()
        assert time.monotonic() < end, f"{len(marked(mark))} of {count} processes were seen"
        time.sleep(0.02)
