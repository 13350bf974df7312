"""Blocks of the report as HTML.

Tables say how they are to be sorted, and changes how they are to be filtered, in `data-` attributes; what acts on them
(assets/script.js) adds to a page that can be read without it. Pictures are embedded as images, in which no script runs
and whose ids meet no others.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import singledispatch
from itertools import groupby

from report.blocks import (
    Block,
    Cell,
    Change,
    Changes,
    Code,
    Column,
    Details,
    Facts,
    Figure,
    Link,
    Missing,
    Number,
    Section,
    Table,
    Text,
)
from report.diff import side_by_side
from report.markup import NOTHING, Html, element, joined, link, text

PIXELS_PER_POINT = 1.75  # a plot's text of 8 points, made for paper, is read at the size of the page's small print
SIGNS = {"fixed": "✓", "broken": "✗", "stayed correct": "=", "stayed incorrect": "="}
HEAD = 4000  # characters of a picture among which its size stands
LONG = 25  # rows above which a table scrolls in a box of its own
# Cells by their number of characters: figures that are not broken into lines even on paper, cells that are not on a
# screen, the first of a row that are not where there is room, and above the last number those that are kept wide.
FIGURE, SHORT, NAME, PROSE = 9, 22, 32, 60
WIDE = 600  # pixels above which a picture keeps its size on a phone and scrolls
_POINTS = re.compile(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"[^>]*?\bheight="([\d.]+)pt"', re.DOTALL)


def section_html(section: Section | Missing) -> Html:
    """Returns one part of the page under its heading."""
    heading = element("h2", {"id": f"{section.id}-title"}, text(section.title), _anchor(section))
    attributes = {"id": section.id, "aria-labelledby": f"{section.id}-title"}
    if isinstance(section, Missing):
        return element("section", {**attributes, "class": "missing"}, heading, missing_html(section))
    lead = element("p", {"class": "lead"}, text(section.lead))
    return element("section", attributes, heading, lead, blocks_html(section.blocks))


def missing_html(missing: Missing) -> Html:
    """Returns why a section is not there, and the command that fills it."""
    why = element("p", None, text(missing.why))
    return joined(why, command_html(missing.command)) if missing.command else why


def command_html(command: str) -> Html:
    """Returns a command to be typed."""
    return element("pre", {"class": "command", "tabindex": 0}, element("code", None, text(command)))


def blocks_html(blocks: Sequence[Block]) -> Html:
    """Returns blocks one after the other; figures that follow each other share a row where they fit."""
    parts: list[Html] = []
    for kind, run in groupby(blocks, type):
        made = [block_html(block) for block in run]
        parts.append(element("div", {"class": "figures"}, *made) if kind is Figure else joined(*made))
    return joined(*parts)


@singledispatch
def block_html(block: Block) -> Html:
    """Returns one block."""
    raise TypeError(f"no block of the report: {block!r}")


@block_html.register
def _text(block: Text) -> Html:
    if block.kind == "warning":
        label = element("strong", None, text("Take care."))
        return element("p", {"class": "warning"}, label, text(f" {block.text}"))
    assert block.kind in ("plain", "note"), block.kind
    return element("p", {"class": "note" if block.kind == "note" else None}, text(block.text))


@block_html.register
def _facts(block: Facts) -> Html:
    pairs = [
        element("div", None, element("dt", None, text(name)), element("dd", None, _content(value)))
        for name, value in block.rows
    ]
    return element("dl", {"class": "facts"}, *pairs)


@block_html.register
def _figure(block: Figure) -> Html:
    data = base64.b64encode(block.svg.encode("utf-8", "backslashreplace")).decode("ascii")
    source = f"data:image/svg+xml;base64,{data}"
    size = _POINTS.search(block.svg[:HEAD])
    width, height = (_pixels(size[1]), _pixels(size[2])) if size else (None, None)
    image = element("img", {"src": source, "alt": block.alternative, "width": width, "height": height})
    card = element("div", {"class": "card wide" if (width or 0) > WIDE else "card"}, image)
    return element("figure", {"class": "plot"}, card, element("figcaption", None, text(block.caption)))


def _pixels(points: str) -> int:
    return round(float(points) * PIXELS_PER_POINT)


@block_html.register
def _code(block: Code) -> Html:
    # A line end that opens a `pre` is dropped by the parser, so one is put before it.
    return element("pre", {"class": "code", "tabindex": 0}, Html("\n"), element("code", None, text(block.text)))


@block_html.register
def _details(block: Details) -> Html:
    summary = element("summary", None, text(block.summary))
    return element("details", {"class": "fold"}, summary, element("div", None, blocks_html(block.blocks)))


@block_html.register
def _table(block: Table) -> Html:
    head = element("thead", None, element("tr", None, *map(_head, block.columns)))
    body = element("tbody", None, *(_row(block.columns, row) for row in block.rows))
    table = element("table", {"class": "data", "aria-label": block.caption}, head, body)
    region = {
        "class": _box("scroll", len(block.rows)),
        "role": "region",
        "aria-label": f"Table: {block.caption}",
        "tabindex": 0,
    }
    return element(
        "figure",
        {"class": "table"},
        element("figcaption", None, text(block.caption)),
        _search(len(block.rows)) if block.searchable else NOTHING,
        element("div", region, table),
        _meanings(block.columns),
    )


def _head(column: Column) -> Html:
    sort = "number" if column.numeric else "text"
    return element(
        "th", {"scope": "col", "class": "num" if column.numeric else None, "data-sort": sort}, text(column.title)
    )


def _row(columns: tuple[Column, ...], row: tuple[Cell, ...]) -> Html:
    assert len(row) == len(columns), (columns, row)
    return element(
        "tr", None, *(_cell(column, cell, n) for n, (column, cell) in enumerate(zip(columns, row, strict=True)))
    )


def _cell(column: Column, cell: Cell, position: int) -> Html:
    content = _content(cell)
    attributes: dict[str, str | None] = {"class": _class(column, len(_words(cell)), position)}
    if isinstance(cell, Number):
        known = cell.value is not None and math.isfinite(cell.value)
        attributes["data-value"] = repr(float(cell.value)) if known and cell.value is not None else ""
    if position == 0:
        return element("th", {"scope": "row", **attributes}, content)
    return element("td", attributes, content)


def _class(column: Column, characters: int, position: int) -> str | None:
    if column.numeric:
        return "num figure" if characters <= FIGURE else "num"
    if characters <= SHORT:
        return "short"
    if characters <= NAME and position == 0:
        return "name"
    return "prose" if characters > PROSE else None


def _content(cell: Cell) -> Html:
    return link(cell.text, cell.target) if isinstance(cell, Link) else text(_words(cell))


def _words(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _search(rows: int) -> Html:
    field = element("input", {"type": "search", "data-filter": "rows", "autocomplete": "off", "spellcheck": "false"})
    label = element("label", None, text("Rows with"), field)
    return element("div", {"class": "controls", "hidden": True}, label, _count(f"{rows} rows"))


def _count(said: str) -> Html:
    return element("output", {"aria-live": "polite"}, text(said))


def _meanings(columns: tuple[Column, ...]) -> Html:
    explained = tuple((column.title, column.meaning) for column in columns if column.meaning)
    if not explained:
        return NOTHING
    summary = element("summary", None, text("What the columns mean"))
    return element("details", {"class": "fold small"}, summary, element("div", None, _facts(Facts(explained))))


@block_html.register
def _changes(block: Changes) -> Html:
    return element(
        "figure",
        {"class": "changes"},
        element("figcaption", None, text(block.caption)),
        _change_controls(block.items),
        element(
            "p", {"class": "print-only"}, text("Of the solutions below only those that were opened are printed whole.")
        ),
        element("div", {"class": _box("list", len(block.items))}, *map(_change, block.items)),
        element("p", {"class": "empty", "hidden": True}, text("No solution fits these filters.")),
    )


def _box(name: str, entries: int) -> str:
    """Returns the class of a box; one with many entries is kept to the height of a screen and scrolls."""
    return f"{name} long" if entries > LONG else name


def _change_controls(items: Sequence[Change]) -> Html:
    field = {"type": "search", "data-filter": "text", "autocomplete": "off", "spellcheck": "false"}
    return element(
        "div",
        {"class": "controls", "hidden": True, "role": "search", "aria-label": "Solutions"},
        element("label", None, text("Text"), element("input", field)),
        _choice("problem", "Problem", (str(problem) for problem in sorted({item.problem for item in items})), items),
        _choice("condition", "Condition", dict.fromkeys(item.condition for item in items), items),
        _choice("flip", "Flip", [flip for flip in SIGNS if any(item.flip == flip for item in items)], items),
        element("div", None, _button("open"), _button("close"), _count(f"{len(items)} solutions")),
    )


def _button(action: str) -> Html:
    return element("button", {"type": "button", "data-action": action}, text(f"{action.capitalize()} all"))


def _choice(name: str, label: str, values: Iterable[str], items: Sequence[Change]) -> Html:
    counts = Counter(str(getattr(item, name)) for item in items)
    options = [element("option", {"value": value}, text(f"{value} ({counts[value]})")) for value in values]
    every = element("option", {"value": ""}, text("all"))
    return element("label", None, text(label), element("select", {"data-filter": name}, every, *options))


def _change(item: Change) -> Html:
    assert item.flip in SIGNS, item.flip
    attributes = {
        "class": "change",
        "data-problem": item.problem,
        "data-condition": item.condition,
        "data-flip": item.flip,
    }
    asked = element("p", {"class": "asked"}, text(item.asked))
    body = element("div", None, asked, side_by_side(item.baseline, item.steered))
    return element("details", attributes, element("summary", None, *_summary(item)), body)


def _summary(item: Change) -> Iterable[Html]:
    yield element("span", {"class": "problem"}, text(f"Problem {item.problem}"))
    yield text(" ")
    flip = f"flip {item.flip.replace(' ', '-')}"
    yield element("span", {"class": flip}, text(f"{SIGNS[item.flip]} {item.flip}"))
    yield text(" ")
    yield element("span", {"class": "condition"}, text(item.condition))
    yield text(" ")
    yield element("span", {"class": "outcome"}, text(item.outcome))


def _anchor(section: Section | Missing) -> Html:
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", section.id), section.id
    attributes = {"class": "anchor", "href": f"#{section.id}", "aria-label": f"Link to: {section.title}"}
    return element("a", attributes, text("#"))
