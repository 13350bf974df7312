"""Settings that keep the shared run quick."""

from __future__ import annotations

SETTINGS = (
    "phase2_2_texts=1000",
    "phase3_5_temperatures=0,0.9",
    "phase3_5_samples=2",
    "phase3_8_bootstrap_draws=2000",
)
SIZES = tuple(word for setting in SETTINGS for word in ("--set", setting))
