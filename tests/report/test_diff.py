from __future__ import annotations

import difflib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.diff import MAX_CHARACTERS, MAX_LINES, pairs, rows, side_by_side
from report.markup import readable
from tests.report.hostile import TEXTS
from tests.report.parsed import Node, parsed

pytestmark = pytest.mark.unit

PROGRAMS = st.lists(st.sampled_from(["a = 1", "a = 2", "b = a", "    return a", "", "x", "while True:"]), max_size=12)


def table(baseline: str, steered: str) -> Node:
    return parsed(side_by_side(baseline, steered)).one("table")


def body(node: Node) -> list[list[str]]:
    return [[cell.text for cell in row.all("td")] for row in node.one("tbody").all("tr")]


def marked(node: Node, name: str) -> list[str]:
    return [one.text for one in node.all(name)]


def test_a_changed_word_is_marked_on_both_sides_beside_a_sign() -> None:
    made = table("def f(x):\n    return x + 1\n", "def f(x):\n    return x - 1\n")
    assert body(made) == [
        ["1", "def f(x):", "1", "def f(x):"],
        ["2 −", "    return x + 1", "2 +", "    return x - 1"],
    ]
    assert (marked(made, "del"), marked(made, "ins")) == (["+"], ["-"])
    assert [row.attributes.get("class") for row in made.one("tbody").all("tr")] == [None, "changed"]
    assert [head.text for head in made.all("th")] == ["− Baseline", "+ Steered"]


def test_an_added_line_stands_beside_nothing_and_its_indentation_is_not_marked() -> None:
    made = table("a\nb\n", "a\n    new\nb\n")
    assert body(made) == [["1", "a", "1", "a"], ["", "2 +", "    new"], ["2", "b", "3", "b"]]
    assert marked(made, "ins") == ["new"]
    assert made.one("td", class_="none").attributes["colspan"] == "2"


def test_a_removed_line_is_marked_as_a_whole() -> None:
    made = table("a\nold\nb", "a\nb")
    assert body(made) == [["1", "a", "1", "a"], ["2 −", "old", ""], ["3", "b", "2", "b"]]
    assert marked(made, "del") == ["old"] and marked(made, "ins") == []


def test_a_replaced_line_stands_beside_the_one_that_took_its_place() -> None:
    made = table("import math\n", "print('hello', file=None)\n")
    assert body(made) == [["1 −", "import math", "1 +", "print('hello', file=None)"]]
    assert marked(made, "del") == ["import math"]


def test_a_rewritten_line_is_paired_with_the_line_that_it_was_and_not_with_its_neighbour() -> None:
    before = ["total = 0", "return total + first"]
    after = ["count = len(numbers)", "total = 1", "return total - first"]
    assert pairs(before, after) == [(None, 0), (0, 1), (1, 2)]


def test_blank_lines_and_indentation_alone_are_differences() -> None:
    made = table("if x:\n  y\n\n", "if x:\n    y\n")
    assert body(made) == [["1", "if x:", "1", "if x:"], ["2 −", "  y", "2 +", "    y"], ["3 −", "", ""]]
    assert marked(made, "del") == ["  "] and marked(made, "ins") == ["    "]


@pytest.mark.parametrize(("other", "said"), [("a\nb\n", "are the same;"), ("a\nb", "are the same, but for the last")])
def test_equal_texts_are_shown_once(other: str, said: str) -> None:
    root = parsed(side_by_side("a\nb\n", other))
    assert said in root.one("p").text
    assert body(root.one("table", class_="one")) == [["1", "a"], ["2", "b"]]
    assert [head.text for head in root.all("th")] == ["Both"]


def test_no_text_at_all_is_said() -> None:
    assert "There is no text." in parsed(side_by_side("", "")).text
    assert body(table("", "a")) == [["", "1 +", "a"]]


def test_line_ends_of_other_systems_are_differences_that_can_be_seen() -> None:
    assert body(table("a\r\nb", "a\nb")) == [["1 −", "a␍", "1 +", "a"], ["2", "b", "2", "b"]]


@given(PROGRAMS, PROGRAMS)
def test_both_texts_can_be_read_back_whole_and_in_order(left: list[str], right: list[str]) -> None:
    made = list(rows(left, right))
    shown = [(row.left, row.right) for row in made]
    assert [parsed(a.content).text for a, _ in shown if a] == left
    assert [parsed(b.content).text for _, b in shown if b] == right
    assert [a.number for a, _ in shown if a] == list(range(1, len(left) + 1))
    assert [b.number for _, b in shown if b] == list(range(1, len(right) + 1))
    same = sum(a is not None and b is not None and not a.sign and not b.sign for a, b in shown)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    assert same == sum(block.size for block in matcher.get_matching_blocks())
    assert all((a.sign == "−" and b.sign == "+") or (a.sign, b.sign) == ("", "") for a, b in shown if a and b)


@pytest.mark.parametrize("content", TEXTS)
def test_hostile_programs_are_shown_as_texts(content: str) -> None:
    made = parsed(side_by_side(content, f"{content}\nmore"))
    names = {node.name for node in made.walk()}
    assert names <= {"#root", "p", "table", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "del", "ins"}
    first = readable(content.split("\n")[0])
    assert any(cell.text == first for cell in made.all("td"))


def test_long_programs_are_cut_and_the_page_says_so() -> None:
    root = parsed(side_by_side("x\n" * (MAX_LINES + 50), "y" * (MAX_CHARACTERS + 5)))
    assert f"Of the baseline the first {MAX_LINES} of {MAX_LINES + 50} lines" in root.text
    assert f"Of the steered solution the first 1 of 1 lines ({MAX_CHARACTERS + 5:,} characters)" in root.text
    assert len(root.one("tbody").all("tr")) == MAX_LINES


def test_programs_that_agree_only_in_what_is_shown_are_not_called_the_same() -> None:
    made = parsed(side_by_side("x" * MAX_CHARACTERS + "a", "x" * MAX_CHARACTERS + "b"))
    assert "the same" not in made.text and "are shown" in made.text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ab " * 6000, "ba " * 6000),
        ("\n".join(f"line {n}" for n in range(300)), "\n".join(f"row {n} x" for n in range(300))),
        ("(" * 20_000, ")" * 20_000),
        ("a b\n" * 300, "b a\n" * 300),
        ("(" * 1990, "()" * 995),
        ("a\n" * 300, "a\nb\n" * 150),
        ("( ) " * 70, ") ( " * 70),
        ("\n".join(["f(x, y)"] * 50), "\n".join(["g(y, x)"] * 49)),
        ("(\n" * 290, "()\n" * 290),
        ("x = (a, b)\n" * 150, "x = (b, a)\n" * 150),
    ],
)
def test_no_pair_of_programs_takes_long(left: str, right: str) -> None:
    started = time.monotonic()
    made = side_by_side(left, right)
    assert time.monotonic() - started < 10
    assert re.search("<table", made)
