"""Looking at what a section says."""

from __future__ import annotations

from collections.abc import Sequence

from report.blocks import Block, Cell, Details, Missing, Section, Table, Text


def made(section: Section | Missing | None) -> Section:
    assert isinstance(section, Section), section
    return section


def every_block(blocks: Sequence[Block]) -> list[Block]:
    """Returns the blocks, and those that are folded away."""
    found: list[Block] = []
    for block in blocks:
        found.append(block)
        if isinstance(block, Details):
            found += every_block(block.blocks)
    return found


def texts(section: Section, kind: str) -> list[str]:
    return [
        plain(block.text) for block in every_block(section.blocks) if isinstance(block, Text) and block.kind == kind
    ]


def tables(section: Section) -> list[Table]:
    return [block for block in every_block(section.blocks) if isinstance(block, Table)]


def table(section: Section, start: str) -> Table:
    """Returns the one table whose caption starts so."""
    found = [one for one in tables(section) if one.caption.startswith(start)]
    assert len(found) == 1, [one.caption for one in tables(section)]
    return found[0]


def column(table: Table, title: str) -> list[Cell]:
    place = [one.title for one in table.columns].index(title)
    return [row[place] for row in table.rows]


def shown(cells: Sequence[Cell]) -> list[str]:
    return [plain(cell if isinstance(cell, str) else cell.text) for cell in cells]


def plain(text: str) -> str:
    """Returns a text with ordinary spaces."""
    return text.replace("\u00a0", " ")
