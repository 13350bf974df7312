"""The only place where text becomes HTML.

Markup is built from elements, never from strings with holes, so that nothing can be left unescaped. What HTML cannot
carry, and what could mislead a reader about what a text says, is shown by its code point: control characters, lone
surrogates, and characters that are invisible or turn the direction of writing (Boucher & Anderson 2021, "Trojan
Source").
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import NewType
from urllib.parse import urlsplit

Html = NewType("Html", str)
Attributes = Mapping[str, "str | int | bool | None"]

NOTHING = Html("")
_VOID = {"meta", "link", "img", "input", "col"}
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?")


def text(content: str) -> Html:
    """Returns a text as HTML, for use between tags and inside quoted attributes."""
    return Html(html.escape(readable(content), quote=True))


def readable(content: str) -> str:
    """Returns a text with everything that would be invisible in it made visible; line ends become those of Unix."""
    return _HIDDEN.sub(_shown, content.replace("\r\n", "\n"))


def element(name: str, attributes: Attributes | None = None, *children: Html) -> Html:
    """Returns one element; an attribute that is None or False is left out, one that is True stands without a value."""
    start = f"<{name}{''.join(_attribute(key, value) for key, value in (attributes or {}).items())}>"
    if name in _VOID:
        assert not children, name
        return Html(start)
    return Html(f"{start}{''.join(children)}</{name}>")


def joined(*parts: Html) -> Html:
    """Returns pieces of HTML one after the other."""
    return Html("".join(parts))


def link(label: str, target: str) -> Html:
    """Returns a link, or its bare text where the target is neither an `https://` address nor an anchor."""
    if not is_safe(target):
        return text(label)
    outside = not target.startswith("#")
    return element("a", {"href": target, "rel": "noreferrer" if outside else None}, text(label))


def is_safe(target: str) -> bool:
    """Says whether `target` is an anchor of this page or a whole https:// address without credentials."""
    if re.fullmatch(r"#[A-Za-z][\w-]*", target, re.ASCII):
        return True
    if not target.startswith("https://") or not target.isascii() or not target.isprintable() or " " in target:
        return False
    try:
        return _HOST.fullmatch(urlsplit(target).netloc) is not None
    except ValueError:
        return False


def _attribute(key: str, value: str | int | bool | None) -> str:
    assert _NAME.fullmatch(key), key
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{text(str(value))}"'


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x7F:
        return "\u2421"
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"
