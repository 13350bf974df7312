"""The one house style of all plots.

Figures are drawn at the width at which a paper prints them (one column 3.4 in, two columns 7 in) with text of 8 points,
so that nothing is rescaled afterwards. The colours are those of Okabe & Ito (2008), told apart with every kind of
colour vision, and each has one meaning throughout; what shares a panel differs in marker, dashes or hatching too, so
that it can be read in grey. Figures are made without pyplot: no global state, nothing to close.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from common.runs.files import write_bytes
from common.statistics.permutation import Direction

COLUMN = 3.4
DOUBLE = 7.0
POINTS = 8
SMALL = 7  # points; nothing in a figure is smaller
PNG_DPI = 200

CORRECT = "#0072B2"
INCORRECT = "#D55E00"
BASELINE = "#000000"
CONTROL = "#CC79A7"
# Dark enough for text, and to be told from CONTROL by those who do not see red or green.
NEUTRAL = "#595959"
FAINT = "#949494"  # of lines that recede, never of text

COLOUR: dict[Direction, str] = {"correct": CORRECT, "incorrect": INCORRECT}
MARKER: dict[Direction, str] = {"correct": "o", "incorrect": "s"}
# The same as text, which needs more contrast with the paper than a mark does.
INK: dict[Direction, str] = {"correct": "#005F94", "incorrect": "#AD4C00"}
FEATURES_MARKER, DIRECTIONS_MARKER = "D", "^"  # of random features and random directions, in the colour CONTROL
HATCH = "//////"  # of the second of two areas that overlap
_GAP = re.compile(r"(?<![=≤≥±×+]) +(?![=≤≥±×+%])")  # where a line may end: "n = 4" and "95 %" stay whole

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": POINTS,
    "axes.titlesize": POINTS,
    "axes.labelsize": POINTS,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.4,
    "savefig.dpi": PNG_DPI,
    "figure.dpi": PNG_DPI,
    "svg.hashsalt": "pva-sae",
    "svg.fonttype": "path",
}


@contextmanager
def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> Iterator[tuple[Figure, Any]]:
    """Yields a figure of `width` x `height` inches and its axes, with the house style in force inside the block.

    `columns` and `rows` above one give an array of axes; `subplots` goes to matplotlib's `Figure.subplots`.
    """
    with rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made, made.subplots(rows, columns, **subplots)


def caption(made: Figure, text: str) -> None:
    """Writes `text` (what is shown, of how many) below the plot, wrapped to the width of the figure."""
    with rc_context(STYLE):
        lines = _wrapped(text, 0.98 * made.get_figwidth())
        made.supxlabel("\n".join(lines), fontsize=SMALL, color=NEUTRAL, x=0.01, ha="left")


def _wrapped(text: str, inches: float) -> list[str]:
    lines: list[str] = []
    for word in _GAP.split(text):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and TextPath((0, 0), longer, size=SMALL).get_extents().width <= 72 * inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def save(made: Figure, path_without_suffix: Path) -> list[Path]:
    """Writes the figure as PNG (200 dpi) and SVG, and returns both paths.

    Each file appears whole or not at all. The same figure gives the same bytes: no date, no program version. The figure
    is laid out once, so that both look alike.
    """
    with rc_context(STYLE):
        made.draw_without_rendering()
        made.set_layout_engine("none")
    paths = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        drawn = io.BytesIO()
        with rc_context(STYLE):
            made.savefig(drawn, format=suffix[1:], metadata=metadata)
        path = path_without_suffix.with_name(path_without_suffix.name + suffix)
        write_bytes(path, drawn.getvalue())
        paths.append(path)
    return paths
