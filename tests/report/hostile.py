"""Texts as a model might write them to break a page, or to mislead its reader."""

from __future__ import annotations

from report.blocks import (
    Block,
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

MARK = "window.reached=true"
TEXTS = (
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"<img src=x onerror='{MARK}'>",
    f'" onmouseover="{MARK}" autofocus onfocus="{MARK}',
    f"' onmouseover='{MARK}",
    f"</details></section></main><script>{MARK}</script>",
    f"</title><script>{MARK}</script>",
    f"</style><script>{MARK}</script>",
    f"<svg onload={MARK}></svg>",
    "<style>*{display:none}</style><link rel=stylesheet href=https://example.org/x.css>",
    f"<meta http-equiv=refresh content='0;url=javascript:{MARK}'>",
    "<iframe src='https://example.org/'></iframe><form action='https://example.org/'>",
    "<!-- a comment --><![CDATA[ data ]]>&amp;&lt;&#60;&nbsp;&copy",
    "NUL \x00 BEL \x07 ESC \x1b[31m DEL \x7f C1 \x85 CR \r end",
    "lone \ud800 surrogates \udfff",
    "right \u202eot tfel\u202c, marks \u200f\u200e, isolate \u2066x\u2069, zero\u200bwidth, bom \ufeff, tag \U000e0041",
    "שלום עולם and العربية",
    "\ufffe\uffff\u2028\u2029",
    "a" * 5_000,
    "word " * 2_000,
    "\n\nstarts and ends with line ends\n\n",
    "{{ 7*7 }} ${7*7} %s {0}",
)
TARGETS = (
    f"javascript:{MARK}",
    f"JaVaScRiPt:{MARK}",
    f" javascript:{MARK}",
    f"java\nscript:{MARK}",
    f"data:text/html,<script>{MARK}</script>",
    "vbscript:x",
    "http://example.org/",
    "//example.org/",
    "/etc/passwd",
    "file:///etc/passwd",
    "https://",
    "https://user:word@example.org/",
    "https://example.org\\@other.org/",
    "https://example.org/\u202egpj.exe",
    "https://exa mple.org/",
    "https://[::1",
    'https://example.org/" onclick="x',
    "#x y",
    '#"><script>',
    "#",
    "",
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">'
    f"<script>{MARK}</script><rect width='72' height='36' fill='red' onclick='{MARK}'/></svg>"
)


def block_of(text: str) -> tuple[Block, ...]:
    """Returns every kind of block with `text` wherever a text may stand."""
    change = Change(7, text, text, "fixed", text, f"def f():\n    {text}\n", f"def f():\n    return {text}\n")
    return (
        Text(text),
        Text(text, "note"),
        Text(text, "warning"),
        Facts(((text, text), (text, Number(1.0, text)), (text, Link(text, text)))),
        Table(text, (Column(text, text), Column(text, numeric=True)), ((text, Number(None, text)),), searchable=True),
        Figure(SVG, text, text),
        Code(text),
        Changes(text, (change,)),
        Details(text, (Text(text), Code(text))),
    )


def sections() -> tuple[Section | Missing, ...]:
    """Returns a section for each hostile text, and one that is missing."""
    made: list[Section | Missing] = [
        Section(f"s{number}", text, text, block_of(text)) for number, text in enumerate(TEXTS)
    ]
    return (*made, Missing("gone", TEXTS[0], TEXTS[1], TEXTS[3]))
