"""The page around the sections: one HTML file that needs nothing else and may fetch nothing.

Its policy names its own style and script by their hashes and allows pictures from within the file only, so that no text
of a model could load, send or run anything even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from report.blocks import Missing, Section
from report.html import command_html, section_html
from report.markup import Html, element, joined, text

ASSETS = Path(__file__).parent / "assets"
GAPS_TITLE = "What is not complete"
NOTICE = (
    "What phases found was read from files whose SHA-256 stands in their records. Programs and texts by the model are "
    "shown as they are, with invisible characters named by their code points. The page loads nothing from anywhere."
)


@dataclass(frozen=True)
class Gap:
    """A phase that the report lacks, wholly or in part: its name, what about it, and the command that mends it."""

    phase: str
    what: str
    command: str


@dataclass(frozen=True)
class Frame:
    """What stands around the sections: title, a line about the run, what the run lacks, how the page was made.

    `mend` is the command that fills all gaps.
    """

    title: str
    about: str
    gaps: tuple[Gap, ...]
    mend: str
    made: str


def page(frame: Frame, parts: Sequence[Section | Missing]) -> Html:
    """Returns the whole page."""
    ids = [part.id for part in parts]
    assert len(set(ids)) == len(ids), ids
    layout = element("div", {"class": "layout"}, _contents(parts, frame), _main(parts, frame))
    skip = element("a", {"class": "skip", "href": "#main"}, text("Skip to the findings"))
    body = element("body", None, skip, _top(frame), layout, _foot(frame))
    document = element("html", {"lang": "en"}, _head(frame), body)
    return joined(Html("<!DOCTYPE html>\n"), document, Html("\n"))


def _head(frame: Frame) -> Html:
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": _policy(style, script)}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("link", {"rel": "icon", "href": "data:,"}),
        element("title", None, text(f"{frame.title} – PVA-SAE report")),
        element("style", None, style),
        element("script", None, script),
    )


def _policy(style: Html, script: Html) -> str:
    allowed = f"img-src data:; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _digest(content: Html) -> str:
    return base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> Html:
    content = (ASSETS / name).read_text(encoding="utf-8")
    assert "</" not in content, name
    return Html(content)


def _top(frame: Frame) -> Html:
    return element(
        "header",
        {"class": "top"},
        element("p", {"class": "over"}, text("PVA-SAE report")),
        element("button", {"class": "theme", "type": "button", "hidden": True}),
        element("h1", None, text(frame.title)),
        element("p", {"class": "about"}, text(frame.about)),
    )


def _contents(parts: Sequence[Section | Missing], frame: Frame) -> Html:
    entries = [_entry(part.id, part.title, isinstance(part, Missing)) for part in parts]
    if frame.gaps:
        entries.insert(0, _entry("gaps", GAPS_TITLE, False))
    entries = [element("li", None, entry) for entry in entries]
    folded = element(
        "details", {"open": True}, element("summary", None, text("Contents")), element("ol", None, *entries)
    )
    return element("nav", {"aria-label": "Contents"}, folded)


def _entry(id: str, title: str, lacking: bool) -> Html:
    attributes = {"href": f"#{id}", "class": "lacking" if lacking else None}
    return element("a", attributes, text(f"{title} (missing)" if lacking else title))


def _main(parts: Sequence[Section | Missing], frame: Frame) -> Html:
    gaps = [_gaps(frame.gaps, frame.mend)] if frame.gaps else []
    return element("main", {"id": "main", "tabindex": -1}, *gaps, *map(section_html, parts))


def _gaps(gaps: Sequence[Gap], mend: str) -> Html:
    heading = element("h2", {"id": "gaps-title"}, text(GAPS_TITLE))
    items = [
        element("li", None, element("p", None, text(f"{gap.phase}: {gap.what}")), command_html(gap.command))
        for gap in gaps
    ]
    listed = element("ul", {"class": "gaps"}, *items)
    every = joined(element("p", None, text("All of it in order:")), command_html(mend))
    return element("section", {"id": "gaps", "aria-labelledby": "gaps-title"}, heading, every, listed)


def _foot(frame: Frame) -> Html:
    return element("footer", {"class": "foot"}, element("p", None, text(frame.made)), element("p", None, text(NOTICE)))
