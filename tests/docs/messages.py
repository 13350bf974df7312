"""What the product can say: every text in its source, with `…` where something is put in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from common.profiles import REPOSITORY

ROOMS = ("cli", "common", "common_simplified", "experiment_pathway_token_analysis", "launcher", "organism", "report")
GAP = "…"


@cache
def messages() -> tuple[str, ...]:
    """Returns every text of the product's source."""
    folders = [*(REPOSITORY / room for room in ROOMS), *REPOSITORY.glob("phase*")]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return tuple(text for path in paths for text in texts(path))


def texts(path: Path) -> Iterator[str]:
    """Yields the texts of a module; texts that stand side by side are one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = (item.value if isinstance(item, ast.Constant) else GAP for item in node.values)
            yield "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def is_said(message: str) -> bool:
    """Says whether some text of the source has the parts of `message` between its gaps, in their order."""
    parts = [part for part in message.split(GAP) if part.strip()]
    return any(_in_order(parts, text) for text in messages())


def _in_order(parts: list[str], text: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True
