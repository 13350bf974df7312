"""Every test carries exactly one tier; collection fails otherwise."""

from __future__ import annotations

import os

import pytest

TIERS = {"unit", "numeric", "smoke", "slow", "fault", "gpu"}

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tiers = TIERS & {marker.name for marker in item.iter_markers()}
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"{item.nodeid} carries tiers {sorted(tiers)}; give it exactly one of {sorted(TIERS)}"
            )
