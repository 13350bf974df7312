"""What every plot of the pipeline keeps to, at full size and at the smallest."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from common import plotting
from common.profiles import REPOSITORY
from tests.colour_vision import VISIONS, contrast, distance, grey_distance
from tests.common.figures import caption_of, crowded
from tests.plot_gallery import GALLERY

pytestmark = pytest.mark.unit

LARGEST_SVG = 600_000  # bytes, so that a report can hold them all
TALLEST = 9.0  # inches, of a page
APART = 20.0  # CIE distance; 2.3 is just noticeable
PALETTE = (plotting.CORRECT, plotting.INCORRECT, plotting.BASELINE, plotting.CONTROL, plotting.NEUTRAL)
NUMBER = re.compile(r"[−-]?[\d.,]+( ?%|k)?")


@pytest.mark.parametrize("name", GALLERY)
def test_every_plot_keeps_to_the_house_style(name: str, tmp_path: Path) -> None:
    made = GALLERY[name]()
    png, svg = plotting.save(made, tmp_path / "plot")
    assert crowded(made, fewest=2) == []
    assert (png.suffix, svg.suffix) == (".png", ".svg") and png.stat().st_size > 5_000
    assert svg.stat().st_size < LARGEST_SVG
    assert made.get_figwidth() in (plotting.COLUMN, plotting.DOUBLE) and made.get_figheight() <= TALLEST
    assert re.search(r"\bn\b", caption_of(made)), caption_of(made)
    assert [*_too_small(made), *_too_pale(made), *_unnamed_axes(made), *_alike(made)] == []


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("score distributions", "fit of one layer", "frequencies of 26 layers"):
        first, second = ([path.read_bytes() for path in plotting.save(GALLERY[name](), tmp_path / "p")] for _ in "ab")
        assert first == second, name


@pytest.mark.parametrize("vision", VISIONS)
def test_the_palette_can_be_told_apart(vision: str) -> None:
    near = {pair: distance(*pair, vision) for pair in combinations(PALETTE, 2)}
    assert {pair: apart for pair, apart in near.items() if apart < APART} == {}


def test_the_simulation_of_colour_vision_confuses_what_it_should() -> None:
    assert distance("#FF0000", "#00FF00") > 150 > 60 > distance("#C04000", "#708000", "no red")
    assert distance("#808080", "#CC79A7", "no green") < APART, "why NEUTRAL is darker than the middle grey"
    assert distance("#FFFFFF", "#000000", "no blue") == pytest.approx(100, abs=0.1)


def test_text_has_the_contrast_that_text_needs() -> None:
    inks = (*plotting.INK.values(), plotting.NEUTRAL, plotting.BASELINE)
    assert all(contrast(one) >= 4.5 for one in inks) and contrast(plotting.FAINT) < 4.5
    assert all(contrast(one) >= 3 for one in (*PALETTE, plotting.FAINT))


def test_figures_are_saved_by_one_module_alone() -> None:
    modules = [path for path in REPOSITORY.rglob("*.py") if "tests" not in path.relative_to(REPOSITORY).parts]
    own = [path for path in modules if path.relative_to(REPOSITORY).parts[0] not in (".venv", "report", "benchmarks")]
    calls = {
        path.relative_to(REPOSITORY).as_posix()
        for path in own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "savefig"
    }
    assert calls == {"common/plotting.py"}


def _texts(made: Figure) -> list[Text]:
    return [text for text in made.findobj(Text) if text.get_visible() and text.get_text().strip()]


def _too_small(made: Figure) -> Iterator[str]:
    yield from (
        f"{text.get_text()!r} is too small" for text in _texts(made) if float(text.get_fontsize()) < plotting.SMALL
    )
    # An exponent is set smaller than its base.
    yield from (f"{text.get_text()!r} has an exponent" for text in _texts(made) if "mathdefault" in text.get_text())


def _too_pale(made: Figure) -> Iterator[str]:
    for text in _texts(made):
        colour = to_hex(text.get_color())
        if colour != "#ffffff" and contrast(colour) < 4.5:  # white stands on something dark
            yield f"{text.get_text()!r} is too pale"


def _unnamed_axes(made: Figure) -> Iterator[str]:
    """Yields each axis of numbers that nothing says the meaning of."""
    for axes in made.axes:
        for of in ("x", "y"):
            if axes.axison and not _named(axes, of):
                numbers = [label.get_text() for label in getattr(axes, f"get_{of}ticklabels")() if label.get_visible()]
                if numbers and all(NUMBER.fullmatch(one) for one in numbers):
                    yield f"the {of} axis of numbers {numbers} has no name"


def _named(axes: Axes, of: str) -> bool:
    """Returns whether an axis has a name, or one below it (beside it) that shares its place in the grid."""
    shared = set(getattr(axes, f"get_shared_{of}_axes")().get_siblings(axes))
    place, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert figure is not None
    for one in figure.axes:
        other = one.get_subplotspec()
        if place is not None and other is not None:
            span = "colspan" if of == "x" else "rowspan"
            shared |= {one} if getattr(place, span) == getattr(other, span) else set()
    return any(getattr(one, f"get_{of}label")() for one in shared)


def _alike(made: Figure) -> Iterator[str]:
    """Yields lines of one panel that differ in colour alone and so little that a copy in grey or an eye loses it."""
    for axes in made.axes:
        shown = [line for line in axes.lines if np.isfinite(np.asarray(line.get_ydata(), dtype=np.float64)).any()]
        for one, other in combinations(shown, 2):
            colours = to_hex(one.get_color()), to_hex(other.get_color())
            if colours[0] == colours[1]:
                continue
            for vision in VISIONS:
                if distance(*colours, vision) < APART:
                    yield f"{colours} are alike with {vision}"
            if _look(one) == _look(other) and grey_distance(*colours) < APART:
                yield f"{one.get_label()} and {other.get_label()} are alike in grey"


def _look(line: Line2D) -> tuple[object, ...]:
    drawn = line.get_linestyle() not in ("None", "none", "")
    dashes = line._dash_pattern if drawn else None  # type: ignore[attr-defined]
    return dashes, line.get_marker(), line.get_fillstyle(), line.get_markersize() > 2 * plotting.SMALL
