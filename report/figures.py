"""Plots in sections: those that phases published, and those that the report draws itself."""

from __future__ import annotations

import io

from matplotlib import rc_context
from matplotlib.figure import Figure as Drawn

from common import plotting
from report.blocks import Figure, Text
from report.run import Run


def published(
    run: Run, phase: str, prefix: str, caption: str, alternative: str, suffix: str = ".svg"
) -> tuple[Figure | Text, ...]:
    """Returns the published plot whose name starts and ends so, or a note that the phase has none."""
    names = run.names(phase, prefix, suffix)
    if not names:
        return (Text(f"Phase {phase} published no plot {prefix}*{suffix}.", "note"),)
    return (Figure(run.svg(phase, names[0]), caption, alternative),)


def drawn(made: Drawn, caption: str, alternative: str) -> Figure:
    """Returns a figure that the report draws itself; the same figure gives the same text."""
    text = io.StringIO()
    with rc_context(plotting.STYLE):
        made.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Figure(text.getvalue(), caption, alternative)
