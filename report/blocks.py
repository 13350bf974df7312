"""What a page of the report is made of: data, without any HTML.

A section says what a phase found as a list of blocks; `report.html` turns blocks into HTML and escapes every text in
them, since much of it was written by a model. Sections therefore never build markup.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Link:
    """Text that leads elsewhere: an `https://` address, or `#id` of a section."""

    text: str
    target: str


@dataclass(frozen=True)
class Number:
    """A figure with the text that is shown for it; tables sort by `value`. None is shown as `text` and sorts last."""

    value: float | None
    text: str


Cell = str | Number | Link


@dataclass(frozen=True)
class Text:
    """A paragraph. `kind` is "plain", "note" (an aside) or "warning" (what a reader must not overlook)."""

    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Facts:
    """Names with their values, as a list of definitions."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Column:
    """A table's column: its title with the unit, what it means (shown on demand), and whether it holds figures."""

    title: str
    meaning: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption that says of how many; `searchable` tables can be filtered by their text."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    searchable: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture: SVG text, a caption with units and n, and what a reader who cannot see it should know."""

    svg: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Code:
    """A program or a text as it is, in a fixed-width font."""

    text: str


@dataclass(frozen=True)
class Change:
    """One steered solution beside its baseline.

    `problem` is the task id, `asked` the problem's text, `condition` what was done (direction and coefficient), `flip`
    one of "fixed", "broken", "stayed correct", "stayed incorrect"; `outcome` is the steered solution's.
    """

    problem: int
    asked: str
    condition: str
    flip: str
    outcome: str
    baseline: str
    steered: str


@dataclass(frozen=True)
class Changes:
    """Solutions side by side with their baselines, to be searched and filtered by problem, condition and flip."""

    caption: str
    items: tuple[Change, ...]


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under a line."""

    summary: str
    blocks: tuple[Block, ...]


Block = Text | Facts | Table | Figure | Code | Changes | Details


@dataclass(frozen=True)
class Section:
    """One part of the report: `id` is its anchor, `lead` says in a sentence or two what was found."""

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = field(default=())


@dataclass(frozen=True)
class Missing:
    """A section that cannot be made yet: why, and the command that fills it."""

    id: str
    title: str
    why: str
    command: str
