"""The plots of a real run: those that the registry names, each as PNG and as SVG, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.phases import PHASES, PhaseSpec
from tests.organism_runs.steering_runs import Effects
from tests.test_plot_house import LARGEST_SVG

pytestmark = pytest.mark.smoke


def plots_of(root: Path) -> set[str]:
    """Returns the names of the pictures of a phase's record; of each name's timestamp the word."""
    record = json.loads((root / "metadata.json").read_text(encoding="utf-8"))
    names = [entry["path"] for entry in record["outputs"] if entry["path"].endswith((".png", ".svg"))]
    parts = [name.replace("mbpp_difficulty_mapping_", "").split("_") for name in names]
    stamped = {"_".join(of[:2]) for of in parts if of[0].isdigit()}
    return {name.replace(stamp, "<timestamp>") for name in names for stamp in (stamped or {"<timestamp>"})}


@pytest.mark.parametrize("spec", PHASES, ids=lambda spec: spec.id)
def test_every_phase_publishes_its_plots_as_png_and_as_svg_and_no_others(effects: Effects, spec: PhaseSpec) -> None:
    root = effects.data / f"phase{spec.id.replace('.', '_')}"
    assert plots_of(root) == {f"{name}.{suffix}" for name in spec.plots for suffix in ("png", "svg")}
    for path in root.glob("*.svg"):
        assert path.stat().st_size < LARGEST_SVG and path.read_text(encoding="utf-8").rstrip().endswith("</svg>")
