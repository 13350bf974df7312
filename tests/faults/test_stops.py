"""Asked to stop (C9): saved within ten seconds, with how to go on; asked twice, ended at once."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cli.helpers import Answer, start, stopped
from tests.faults.conftest import Figure
from tests.faults.harness import (
    Site,
    Undisturbed,
    assert_undisturbed,
    assert_whole,
    finished,
    kill_group,
    wait_at_most,
    wait_for_lock,
)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PHASES = (("building", "built", 14), ("sampling", "sampled", 8), ("steering", "steered_through", 8))
PROMISED_SECONDS = 10
SLACK_SECONDS = 10  # on a busy machine; the figure says what it took


def asked_to_stop(site: Site, moment: float, signals: tuple[int, ...]) -> tuple[Answer, float]:
    """Runs a site, sends it the signals in turn after `moment` seconds of work; returns its answer and the wait."""
    child = start(*site.words())
    try:
        wait_for_lock(site, child)
        wait_at_most(moment, child)
        asked = time.monotonic()
        for number in signals:
            if child.poll() is None:
                os.killpg(child.pid, number)
                time.sleep(0.1)
        return finished(child), time.monotonic() - asked
    finally:
        kill_group(child)


def assert_polite(answer: Answer) -> bool:
    """Asserts that a run ended well or said how to go on; returns whether it was stopped."""
    assert answer.code in (0, 130), answer
    if answer.code == 130:
        line = stopped(answer, 130)
        assert "to go on: python3 run.py phase" in line or "run the same command again" in line
    return answer.code == 130


@pytest.mark.fault
@pytest.mark.parametrize(("work", "whole", "times"), PHASES)
def test_a_run_asked_to_stop_at_random_moments_saves_and_goes_on_as_if_undisturbed(
    work: str, whole: str, times: int, request: pytest.FixtureRequest, tmp_path: Path, figure: Figure
) -> None:
    site, expected = request.getfixturevalue(work), request.getfixturevalue(whole)
    rng, waits, trials = random.Random(9), [], 0
    while len(waits) < times:
        copy, done = site.copied(tmp_path / f"data{trials}"), False
        trials += 1
        while not done:
            answer, wait = asked_to_stop(copy, rng.uniform(0, 0.8 * expected.seconds), (SIGNALS[len(waits) % 2],))
            done = not assert_polite(answer)
            assert_whole(copy.root)
            assert wait < PROMISED_SECONDS + SLACK_SECONDS or done
            waits += [] if done else [wait]
        assert_undisturbed(copy, expected)
    figure(
        f"C9: phase {site.phase}: {len(waits)} stops in {trials} trials: exit 130, says how to go on, after at most "
        f"{max(waits):.1f} s; all ended byte-identical"
    )


@pytest.mark.fault
def test_asked_twice_a_run_ends_at_once_and_loses_nothing_that_was_finished(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    slow = building._replace(options=("--batch-size", 16, "--set", "max_new_tokens=480", "--set", "snapshot_every=4"))
    rng, waits = random.Random(10), []
    for number in range(6):
        site = slow.copied(tmp_path / f"data{number}")
        answer, wait = asked_to_stop(site, rng.uniform(0.2, 1.0), (SIGNALS[number % 2], SIGNALS[number // 2 % 2]))
        assert answer.code == 130 and assert_polite(answer), answer
        assert wait < SLACK_SECONDS
        assert_whole(site.root)
        waits.append(wait)
    figure(f"C9: a second signal ended {len(waits)} runs with 130 after at most {max(waits):.1f} s")
