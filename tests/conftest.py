"""Every test carries exactly one tier; tests that share a costly fixture run on one of pytest-xdist's workers."""

from __future__ import annotations

import os

import pytest

TIERS = {"unit", "numeric", "smoke", "slow", "fault", "gpu"}
# Fixtures that take tens of seconds, with the group of tests that shares them; the first group is started first.
SHARED = {"sliced": "the tiny model's run", "detected": "the tiny model's run", "steering_made": "a steered place"}

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tiers = TIERS & {marker.name for marker in item.iter_markers()}
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"{item.nodeid} carries tiers {sorted(tiers)}; give it exactly one of {sorted(TIERS)}"
            )
        item.add_marker(pytest.mark.xdist_group(group_of(item)))
    order = {name: index for index, name in enumerate(dict.fromkeys(SHARED.values()))}
    items.sort(key=lambda item: order.get(group_of(item), len(order)))


def group_of(item: pytest.Item) -> str:
    """Returns the group whose tests run one after another on one worker: a shared costly fixture's, or the file's."""
    wanted = getattr(item, "fixturenames", ())
    return next((group for name, group in SHARED.items() if name in wanted), item.nodeid.partition("::")[0])
