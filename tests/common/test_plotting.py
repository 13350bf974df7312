from __future__ import annotations

import errno
import struct
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from common import plotting
from common.errors import PipelineError

pytestmark = pytest.mark.unit


def example(values: int = 20) -> Figure:
    with plotting.figure(plotting.COLUMN, 2.0) as (made, axes):
        axes.plot(np.arange(values), np.sqrt(np.arange(values)), color=plotting.CORRECT, label="correct")
        axes.fill_between(np.arange(values), 0, 1, color=plotting.CONTROL, clip_path=None)
        axes.legend()
        plotting.caption(made, f"n = {values} problems " + "and a long remark that needs several lines " * 3)
    return made


def test_save_writes_a_png_of_200_dots_an_inch_and_an_svg(tmp_path: Path) -> None:
    png, svg = plotting.save(example(), tmp_path / "score_2.5")
    assert [png.name, svg.name] == ["score_2.5.png", "score_2.5.svg"]
    header = png.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert struct.unpack(">II", header[16:24]) == (680, 400)
    assert svg.read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["score_2.5.png", "score_2.5.svg"]


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in plotting.save(example(), tmp_path / "one")]
    second = [path.read_bytes() for path in plotting.save(example(), tmp_path / "two")]
    assert first == second
    third = [path.read_bytes() for path in plotting.save(example(21), tmp_path / "three")]
    assert third[0] != first[0] and third[1] != first[1]


def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    png, _ = plotting.save(example(), tmp_path / "plot")
    before = png.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("common.runs.files.os.fsync", full)
    with pytest.raises(PipelineError, match="No space left on device; free some space"):
        plotting.save(example(21), tmp_path / "plot")
    assert png.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.png", "plot.svg"]


def test_the_style_holds_inside_the_block_only() -> None:
    outside = matplotlib.rcParams["font.size"]
    with plotting.figure(plotting.DOUBLE, 2.0, rows=2, columns=3) as (made, axes):
        assert matplotlib.rcParams["font.size"] == plotting.POINTS != outside
        assert axes.shape == (2, 3)
        assert not axes[0, 0].spines["top"].get_visible()
        assert tuple(made.get_size_inches()) == (plotting.DOUBLE, 2.0)
    assert matplotlib.rcParams["font.size"] == outside


def test_a_caption_breaks_no_line_beside_a_sign_or_before_a_unit() -> None:
    for filler in range(1, 60):
        with plotting.figure(plotting.COLUMN, 2.0) as (made, _):
            plotting.caption(made, f"{'x' * filler} n = 1,234 problems, 95 % intervals, p = (1 + 2)/(1 + 39)")
        assert all(whole in made.get_supxlabel() for whole in ("n = 1,234", "95 %", "p = (1 + 2)/(1 + 39)"))


def test_both_files_of_a_figure_are_laid_out_alike(tmp_path: Path) -> None:
    made = example()
    made.draw_without_rendering()
    before = made.axes[0].get_position().bounds
    plotting.save(made, tmp_path / "plot")
    assert made.axes[0].get_position().bounds == before


@pytest.mark.parametrize("width", [plotting.COLUMN, plotting.DOUBLE])
def test_a_caption_is_wrapped_to_the_width_of_the_figure(width: float) -> None:
    with plotting.figure(width, 2.0) as (made, _):
        plotting.caption(made, "WIDE words MUST not LEAVE the page either way " * 6)
    made.canvas.draw()
    for text in made.findobj(Text):
        if text.get_text().strip():
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= made.bbox.width, text.get_text()
    assert made.get_supxlabel().count("\n") >= 2
