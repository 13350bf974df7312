from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox


def crowded(made: Figure, fewest: int = 4) -> list[str]:
    """Returns what is wrong with the texts of a figure as drawn: those that overlap, and those that leave it.

    A figure with fewer than `fewest` lines of text is not the one that was meant.
    """
    made.draw_without_rendering()
    texts = [text for text in made.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = set(_undrawn_tick_labels(made))
    boxes = [(line, box) for text in texts if text not in hidden for line, box in _lines(text)]
    assert len(boxes) >= fewest
    outside = [
        f"{name!r} leaves the figure"
        for name, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > made.bbox.width + 1 or box.y1 > made.bbox.height + 1
    ]
    touching = [
        f"{name!r} overlaps {other!r}"
        for (name, box), (other, where) in combinations(boxes, 2)
        if min(box.x1, where.x1) - max(box.x0, where.x0) > 1 and min(box.y1, where.y1) - max(box.y0, where.y0) > 1
    ]
    return outside + touching


def _lines(text: Text) -> list[tuple[str, Bbox]]:
    """Returns the box of each line of a text; of a turned text that of the whole."""
    box, lines = text.get_window_extent(), text.get_text().split("\n")
    if text.get_rotation() or len(lines) == 1:
        return [(text.get_text(), box)]
    height = box.height / len(lines)
    boxes = []
    for place, line in enumerate(lines):
        if line.strip():
            width = TextPath((0, 0), line, prop=text.get_fontproperties()).get_extents().width
            width *= text.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
            free = box.width - width
            left = box.x0 + {"left": 0.0, "center": free / 2, "right": free}[text.get_ha()]
            top = box.y1 - place * height
            boxes.append((line, Bbox.from_extents(left, top - height, left + width, top)))
    return boxes


def _undrawn_tick_labels(made: Figure) -> Iterator[Text]:
    for axis in made.findobj(Axis):  # also of secondary axes, which are no Axes
        if isinstance(axis, Axis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                shown = low <= tick.get_loc() <= high
                yield from () if shown and tick.label1.get_visible() else (tick.label1,)
                yield from () if shown and tick.label2.get_visible() else (tick.label2,)


def caption_of(made: Figure) -> str:
    return made.get_supxlabel().replace("\n", " ")


def points(axes: Axes, colour: str, **wanted: Any) -> list[list[tuple[float, float]]]:
    """Returns the points of every line of a colour, and of a `marker` and a `fillstyle` where given."""
    return [
        list(zip(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist(), strict=True))
        for line in axes.lines
        if line.get_color() == colour and all(getattr(line, f"get_{key}")() == one for key, one in wanted.items())
    ]


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """Returns place, low and high end of every vertical bar."""
    lines = [one for one in axes.collections if isinstance(one, LineCollection)]
    ends = [np.asarray(segment) for one in lines for segment in one.get_segments() if len(segment)]
    return [(float(end[0, 0]), float(end[0, 1]), float(end[1, 1])) for end in ends]
