"""A page with every kind of block, made by hand, for the tests in a browser."""

from __future__ import annotations

from report.blocks import (
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
from report.page import Frame, Gap

COLUMNS = (
    Column("feature"),
    Column("rate (%)", "share of problems on which it fires", numeric=True),
    Column("note", "anything"),
    Column("where"),
)
NUMBERS = (
    ("10", 9.5, "b"),
    ("9", 10.0, "a"),
    ("100", None, "c"),
    ("8", -3.0, ""),
    ("11", 1e-12, "a10"),
    ("12", 2.0, "a9"),
)
ROWS = tuple(
    (
        name,
        Number(value, "–" if value is None else f"{value:.1f}"),
        note,
        Link(f"L{name}", f"https://example.org/{name}"),
    )
    for name, value, note in NUMBERS
)
TALL = tuple((f"row {n}", Number(n, str(n)), "words " * 15, "x") for n in range(60))
BEFORE = "def f(numbers):\n    total = 0\n    for number in numbers:\n        total += number\n    return total\n"
AFTER = BEFORE.replace("= 0", "= 1").replace("+= number", "-= number\n    # done")
ITEMS = (
    Change(11, "Add the numbers of a list.", "correct × 9.8", "fixed", "passed", BEFORE, AFTER),
    Change(11, "Add the numbers of a list.", "incorrect × 8.6", "stayed incorrect", "wrong answer", BEFORE, BEFORE),
    Change(12, "Reverse a word.", "correct × 9.8", "broken", "syntax error", AFTER, "def g(:\n" + "x" * 300),
    Change(13, "Find the largest.", "incorrect × 8.6", "stayed correct", "passed", "a = 1", "a = 1\n"),
)


def picture(width: int, height: int) -> str:
    """Returns a plot of that many points."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="#fff"/><circle cx="50" cy="50" r="30" fill="#0072B2"/></svg>'
    )


SECTIONS = (
    Section(
        "features",
        "Which features tell correct from incorrect?",
        "Feature 9 fires on 10.0 % of 97 problems (95 % interval 5 to 18 %).",
        (
            Text("A paragraph."),
            Text("An aside.", "note"),
            Text("Two of nine problems were left out.", "warning"),
            Facts((("model", "organism"), ("feature", Link("42", "https://example.org/42")), ("n", Number(97, "97")))),
            Table("Features, n = 6", COLUMNS, ROWS, searchable=True),
            Table("Many rows, n = 60", COLUMNS, TALL),
            Figure(picture(245, 180), "n = 97", "One dot."),
            Figure(picture(245, 180), "n = 97", "One dot."),
            Figure(picture(504, 200), "n = 97", "One dot, wide."),
            Details("More of it", (Code("x = 1\n" * 80), Table("Folded, n = 6", COLUMNS, ROWS))),
        ),
    ),
    Section("coefficients", "How strongly?", "9.8.", (Changes("Solutions beside their baselines, n = 4", ITEMS),)),
    Missing("steering", "Does it steer?", "Phase 4.8 has not been run.", "python3 run.py phase 4.8 --profile organism"),
)
FRAME = Frame(
    "Program validity awareness in organism/instance/base",
    "Profile organism; 12 of 13 phases complete and current.",
    (Gap("Phase 4.8, steering effects", "not run.", "python3 run.py phase 4.8 --profile organism"),),
    "python3 run.py pipeline --profile organism",
    "Made by hand.",
)
