"""The documentation as its tests read it: pages, code blocks, spans, links, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from common.glossary.page import anchor
from common.profiles import REPOSITORY

# Made from the code; their own tests hold them equal to it.
MADE = ("cli.md", "outputs.md", "performance.md")
PROGRAMS = ("run.py", "multi_gpu_launcher.py", "clean_data.py", "experiment_pathway_token_analysis/launch.sh")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Command(NamedTuple):
    """A command that a page tells the reader to run: where it stands, and its words."""

    page: str
    words: list[str]


def pages() -> list[Path]:
    """Returns every page of the documentation that people read."""
    return [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    """Returns a page's place in the repository."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(text: str, language: str | None = None) -> list[str]:
    """Returns the code blocks of a page, of one language if it is given."""
    return [body for kind, body in _FENCE.findall(text) if language is None or kind == language]


def spans(text: str) -> list[str]:
    """Returns the code spans of a page, those in code blocks not among them."""
    return [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]


def links(text: str) -> list[str]:
    """Returns the targets of a page's links."""
    return _LINK.findall(_FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, repeated ones numbered as GitHub numbers them."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", text), re.MULTILINE):
        name = anchor(heading)
        number = found.get(name, 0)
        found[name] = number + 1
        result.add(f"{name}-{number}" if number else name)
    return result


def commands() -> Iterator[Command]:
    """Yields every command line of a page, from its code blocks and its code spans."""
    for page in pages():
        if page.name in MADE:
            continue
        text = page.read_text(encoding="utf-8")
        lines = [line for body in blocks(text, "") for line in body.splitlines()]
        for line in [*lines, *spans(text)]:
            for part in re.split(r"\s&&\s|;\s", line):
                words = _words(part)
                if words:
                    yield Command(name_of(page), words)


def _words(line: str) -> list[str]:
    """Returns a command's words, its program first, without the interpreter; nothing for what is no command."""
    line = line.partition(" # ")[0].strip()
    if not re.match(r"(python3? )?[\w./]+", line) or "…" in line:
        return []
    words = shlex.split(line)
    words = words[1:] if words and words[0] in ("python3", "python") else words
    return words if words and words[0] in (*PROGRAMS, "make") else []
