"""Every test carries exactly one tier; tests that share a costly fixture run on one of pytest-xdist's workers."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import settings

TIERS = {"unit", "numeric", "smoke", "slow", "fault", "gpu"}
# Places whose tests share a fixture that takes tens of seconds; those of the first are started first. All other tests
# of one file stay together.
SHARED = ("tests/organism_runs/", "tests/cli/test_steering_", "tests/faults/")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Sums of one number of threads: on several, whole runs and slices may differ in the last digits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts tests in the background has them ignore Ctrl-C, and so would every program that they interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says how busy the machine is, and nothing about the product.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tiers = TIERS & {marker.name for marker in item.iter_markers()}
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"{item.nodeid} carries tiers {sorted(tiers)}; give it exactly one of {sorted(TIERS)}"
            )
    order = {place: index for index, place in enumerate(SHARED)}
    items.sort(key=lambda item: order.get(place_of(item.nodeid), len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        """Gives all tests of one place to one worker."""

        def _split_scope(self, nodeid: str) -> str:
            return place_of(nodeid)

    return ByPlace(config, log)


def place_of(name: str) -> str:
    """Returns what a test's worker is chosen by: the place that shares a fixture, or the test's file."""
    return next((place for place in SHARED if name.startswith(place)), name.partition("::")[0])
