"""Everything that a section says, as text."""

from __future__ import annotations

import re

from report.blocks import Block, Changes, Code, Details, Facts, Figure, Missing, Section, Table, Text
from tests.report.sections.looking import every_block, made, plain, shown


def sound(part: Section | Missing | None) -> Section:
    """Returns a part that must be a section, in which no figure is a stray None or nan and no row lacks a cell."""
    section = made(part)
    words = said(section)
    assert not re.search(r"\b(None|nan|inf)\b", words), words
    return section


def rows(table: Table) -> list[dict[str, str]]:
    """Returns the rows of a table as texts by column."""
    titles = [column.title for column in table.columns]
    assert len(set(titles)) == len(titles), titles
    return [dict(zip(titles, shown(row), strict=True)) for row in table.rows]


def changes(section: Section) -> list[Changes]:
    """Returns the solutions side by side."""
    return [block for block in every_block(section.blocks) if isinstance(block, Changes)]


def facts(section: Section) -> list[tuple[str, str]]:
    """Returns all names with their values."""
    found = [block for block in every_block(section.blocks) if isinstance(block, Facts)]
    return [(name, shown([cell])[0]) for block in found for name, cell in block.rows]


def said(section: Section) -> str:
    """Returns everything that a section says, but for solutions and pictures."""
    return plain("\n".join([section.title, section.lead, *map(_words, every_block(section.blocks))]))


def _words(block: Block) -> str:
    match block:
        case Text() | Code():
            return block.text
        case Facts():
            return "\n".join(f"{name}: {shown([cell])[0]}" for name, cell in block.rows)
        case Table():
            meanings = [f"{one.title}: {one.meaning}" for one in block.columns]
            return "\n".join([block.caption, *meanings, *(" | ".join(row.values()) for row in rows(block))])
        case Figure():
            return f"{block.caption}\n{block.alternative}"
        case Changes():
            return block.caption
        case Details():
            return block.summary
