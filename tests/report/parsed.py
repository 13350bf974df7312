"""HTML as a browser's parser would see it: elements with their attributes and text. Refuses what is not well nested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "col"}


@dataclass
class Node:
    """One element: what it contains, in order."""

    name: str
    attributes: dict[str, str | None]
    content: list[Node | str] = field(default_factory=list)

    def all(self, name: str, **wanted: str) -> list[Node]:
        """Returns the elements of that name within, whose attributes (`class_` for class) contain what is wanted."""
        return [node for node in self.walk() if node.name == name and node.fits(wanted)]

    def one(self, name: str, **wanted: str) -> Node:
        found = self.all(name, **wanted)
        assert len(found) == 1, [node.attributes for node in found]
        return found[0]

    def fits(self, wanted: dict[str, str]) -> bool:
        return all(
            value in (self.attributes.get(key.rstrip("_").replace("_", "-")) or "").split()
            or value == self.attributes.get(key.rstrip("_").replace("_", "-"))
            for key, value in wanted.items()
        )

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.content:
            if isinstance(child, Node):
                yield from child.walk()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.content)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("#root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), attrs
        node = Node(tag, dict(attrs))
        self.open[-1].content.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, (self.open[-1], tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def parsed(markup: str) -> Node:
    """Returns the root of what `markup` says."""
    parser = _Parser()
    parser.feed(markup)
    parser.close()
    assert len(parser.open) == 1, [node.name for node in parser.open]
    return parser.root
