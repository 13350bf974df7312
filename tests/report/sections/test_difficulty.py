from __future__ import annotations

from pathlib import Path

import pytest

from common.runs.metadata import Extent
from report.blocks import Figure, Missing, Number
from report.run import Run
from report.sections.difficulty import section
from tests.report.sections.artifacts import config_in, publish_difficulty, publish_splits
from tests.report.sections.looking import column, plain, shown, table, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit


def test_without_phase_0_the_section_names_its_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 0 --data-dir {tmp_path}"


# Forty problems, ten of each complexity from 1 to 4: mean 2.5. The splits hold the same shares, so KS is 0; random
# samples of 4 and 16 stay below 1.358 / sqrt(4 · 16 / 20) = 0.759.
def test_the_lead_says_how_difficult_the_problems_are_and_that_the_splits_are_alike(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config)
    publish_splits(config)
    found = sound(section(Run(config)))
    lead = plain(found.lead)
    assert "The 40 problems have reference solutions of cyclomatic complexity 1 to 4 (mean 2.50)." in lead
    assert "(20 / 4 / 16 problems for sae, hyperparams, validation) are no further apart than random samples" in lead
    assert "by a Kolmogorov–Smirnov distance of 0.000, and random samples of these sizes stay below 0." in lead
    bounds = column(table(found, "How far the splits lie apart"), "by chance below")
    assert shown(bounds) == ["0.744", "0.455", "0.759"]
    assert not texts(found, "warning")
    figures = [block for block in found.blocks if isinstance(block, Figure)]
    assert "n: sae 20, hyperparams 4, validation 16." in figures[1].caption
    assert "sae 2.50, hyperparams 2.50, validation 2.50" in figures[1].alternative


def test_every_complexity_has_its_count_and_share(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config, [1, 1, 1, 5])
    found = sound(section(Run(config)))
    counts = table(found, "Problems by difficulty, n = 4.")
    assert [shown(row) for row in counts.rows] == [["1", "3", "75.0 %"], ["5", "1", "25.0 %"]]
    figures = [block for block in found.blocks if isinstance(block, Figure)]
    assert len(figures) == 1 and "3 of 1, 1 of 5" in figures[0].alternative


# 1.358 / sqrt(20 · 19 / 39) = 0.435; the split of one problem can lie no further apart than chance allows.
def test_splits_that_lie_apart_are_called_so(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config)
    publish_splits(config, {"sae": [1] * 20, "hyperparams": [9], "validation": [5] * 19})
    found = sound(section(Run(config)))
    assert "are further apart than by chance: sae and validation differ most for their sizes" in found.lead
    assert "distance of 1.000, and random samples of these sizes stay below 0.435" in found.lead
    deviations = column(table(found, "The three splits"), "standard deviation")
    assert deviations[1] == Number(None, "not defined (one problem)")


def test_problems_that_have_not_been_split_are_said_to_be_so_with_the_command(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config)
    found = sound(section(Run(config)))
    assert found.lead.endswith("They have not been split yet.")
    (warning,) = texts(found, "warning")
    assert warning.endswith(f"python3 run.py phase 0.1 --data-dir {tmp_path}")


def test_a_partial_phase_is_called_partial(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config, extent=Extent(974, 40))
    publish_splits(config)
    (warning,) = texts(sound(section(Run(config))), "warning")
    assert warning.startswith("Partial: phase 0 covers 40 of 974 problems.")
