from __future__ import annotations

from pathlib import Path

import pytest

from common.config import Config
from common.runs.metadata import Extent
from report import wording
from report.blocks import Number, Text
from report.run import Run
from tests.report.helpers import publish

pytestmark = pytest.mark.unit

UNDEFINED = {"value": None, "low": None, "high": None, "reason": "no positive row"}


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


# Wilson's interval of 265 of 489, worked by hand: centre 0.54159, half-width 0.04399 (z = 1.959964).
def test_a_rate_says_its_counts_and_wilsons_interval() -> None:
    assert plain(wording.rate(265, 489)) == "54.2 % (265 of 489; 95 % interval 49.8 % to 58.6 %)"


def test_a_rate_of_nothing_is_not_defined() -> None:
    assert wording.rate(0, 0) == "not defined (0 of 0)"


def test_a_rate_cell_sorts_by_the_share_and_shows_its_counts() -> None:
    cell = wording.rate_cell(265, 489)
    assert cell.value == 265 / 489
    assert plain(cell.text) == "54.2 % [49.8 %, 58.6 %] (265/489)"
    assert wording.rate_cell(0, 0, "no failing problem") == Number(None, "not defined (no failing problem)")


def test_a_share_of_an_artifact_is_shown_by_its_own_counts() -> None:
    share = {"value": 0.5, "low": 0.1, "high": 0.9, "numerator": 2, "denominator": 4, "reason": None}
    assert wording.share_cell(share).text.endswith("(2/4)")
    nothing = {**share, "value": None, "numerator": 0, "denominator": 0, "reason": "no problems"}
    assert wording.share_cell(nothing) == Number(None, "not defined (no problems)")


def test_an_estimate_in_a_sentence_says_its_interval_or_why_it_has_none() -> None:
    found = {"value": 0.9123, "low": 0.88, "high": 0.9451, "reason": None}
    assert plain(wording.estimated(found)) == "0.912 (95 % interval 0.880 to 0.945)"
    bare = {"value": 0.9123, "low": None, "high": None, "reason": "one problem only"}
    assert wording.estimated(bare) == "0.912 (no interval: one problem only)"
    assert wording.estimated(UNDEFINED) == "not defined (no positive row)"


@pytest.mark.parametrize(
    "cell",
    [
        wording.number_cell(None, reason="no positive row"),
        wording.percent_cell(None, reason="no positive row"),
        wording.p_cell(None, reason="no positive row"),
        wording.estimate_cell(UNDEFINED),
        wording.difference_cell(UNDEFINED),
    ],
)
def test_a_missing_figure_shows_its_reason_and_sorts_as_nothing(cell: Number) -> None:
    assert cell == Number(None, "not defined (no positive row)")


def test_figures_sort_by_their_whole_value_and_show_rounded_ones() -> None:
    assert wording.number_cell(1234.5678, 1) == Number(1234.5678, "1,234.6")
    assert wording.count_cell(1234) == Number(1234, "1,234")
    assert wording.p_cell(0.00012) == Number(0.00012, "1.2e-04")
    assert plain(wording.percent_cell(0.0512).text) == "5.1 %"
    found = {"value": 0.25, "low": 0.2, "high": 0.3, "reason": None}
    assert wording.estimate_cell(found) == Number(0.25, "0.250 [0.200, 0.300]")
    assert wording.difference_cell(found) == Number(0.25, "+0.250 [+0.200, +0.300]")


def test_words_are_listed_as_in_a_sentence() -> None:
    assert [wording.listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_whole_output_needs_no_warning(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "3.5", {}, Extent(388, 388))
    assert wording.partial_notes(Run(config), "3.5", "3.8") == ()


def test_a_partial_output_says_how_far_it_reaches(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "3.5", {}, Extent(388, 10))
    (note,) = wording.partial_notes(Run(config), "3.5")
    assert note == Text(
        "Partial: phase 3.5 covers 10 of 388 problems. Every figure below is about that part.", "warning"
    )
