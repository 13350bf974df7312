from __future__ import annotations

from pathlib import Path

import pytest

from common import plotting
from common.config import Config
from report.blocks import Figure, Text
from report.figures import drawn, published
from report.run import Run
from tests.report.helpers import publish

pytestmark = pytest.mark.unit


def test_a_published_plot_is_found_by_how_its_name_starts_and_ends(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {"mapping_7_histogram.svg": b"<svg/>", "mapping_7.svg": b"<svg>no</svg>"})
    found = published(Run(config), "0", "mapping_", "caption", "words", suffix="_histogram.svg")
    assert found == (Figure("<svg/>", "caption", "words"),)


def test_a_plot_that_was_not_published_is_named(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {})
    assert published(Run(config), "0", "roc", "c", "a") == (Text("Phase 0 published no plot roc*.svg.", "note"),)


def test_the_same_drawing_is_the_same_text_without_a_date() -> None:
    def make() -> str:
        with plotting.figure(plotting.COLUMN, 2.0) as (made, axes):
            axes.plot([0, 1], [0, 1])
        return drawn(made, "c", "a").svg

    assert make() == make()
    assert "<dc:date>" not in make() and "</svg>" in make()
