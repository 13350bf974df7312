from __future__ import annotations

import base64
from typing import Any

import pytest

from report.blocks import (
    Cell,
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
from report.html import LONG, block_html, blocks_html, section_html
from report.markup import readable
from tests.report.hostile import SVG, TEXTS, block_of
from tests.report.parsed import Node, parsed

pytestmark = pytest.mark.unit

COLUMNS = (Column("name"), Column("rate (%)", "share that passes", numeric=True))
# What blocks are made of, and what their elements may carry; nothing here loads, sends or runs.
ELEMENTS = {
    *("#root", "p", "strong", "dl", "div", "dt", "dd", "figure", "figcaption", "img", "pre", "code", "details"),
    *("summary", "table", "thead", "tbody", "tr", "th", "td", "label", "input", "select", "option", "button", "output"),
    *("span", "colgroup", "col", "del", "ins", "a"),
}
ATTRIBUTES = {
    *("class", "src", "alt", "width", "height", "tabindex", "aria-label", "role", "data-sort", "data-value", "scope"),
    *("type", "data-filter", "autocomplete", "spellcheck", "hidden", "aria-live", "data-problem", "data-condition"),
    *("data-flip", "data-action", "value", "colspan", "href", "rel"),
}


def table(*rows: tuple[Cell, ...], **more: Any) -> Node:
    return parsed(block_html(Table("A caption, n = 3", COLUMNS, rows, **more)))


def change(**more: Any) -> Change:
    given = {"problem": 7, "asked": "Add one.", "condition": "correct × 9", "flip": "fixed", "outcome": "passed"}
    return Change(**{**given, "baseline": "a = 1", "steered": "a = 2", **more})


@pytest.mark.parametrize("content", TEXTS)
def test_no_text_of_a_block_becomes_an_element_or_an_attribute(content: str) -> None:
    root = parsed(blocks_html(block_of(content)))
    assert {node.name for node in root.walk()} <= ELEMENTS
    assert {name for node in root.walk() for name in node.attributes} <= ATTRIBUTES
    assert root.all("a") == []
    assert readable(content).strip() in root.text


def test_text_is_a_paragraph_and_a_warning_says_so_in_words() -> None:
    made = [parsed(block_html(Text("It is so.", kind))).one("p") for kind in ("plain", "note", "warning")]
    assert [node.attributes.get("class") for node in made] == [None, "note", "warning"]
    assert [node.text for node in made] == ["It is so.", "It is so.", "Take care. It is so."]
    with pytest.raises(AssertionError):
        block_html(Text("x", "shout"))


def test_a_table_carries_its_figures_beside_their_texts_for_sorting() -> None:
    made = table(("a", Number(0.123, "12.3 %")), ("b", Number(None, "none: no problem")), ("c", "no figure"))
    assert [cell.attributes.get("data-value") for cell in made.all("td")] == ["0.123", "", None]
    assert [cell.text for cell in made.all("td")] == ["12.3 %", "none: no problem", "no figure"]
    assert [head.attributes["data-sort"] for head in made.one("thead").all("th")] == ["text", "number"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_sorts_as_missing(value: float) -> None:
    assert table(("a", Number(value, "–"))).one("td").attributes["data-value"] == ""


def test_a_table_is_named_by_its_caption_and_its_rows_by_their_first_cell() -> None:
    made = table(("a", Number(1, "1")))
    assert made.one("figcaption").text == "A caption, n = 3"
    assert made.one("table").attributes["aria-label"] == "A caption, n = 3"
    assert made.one("div", class_="scroll").attributes["tabindex"] == "0"
    assert made.one("tbody").one("th").attributes["scope"] == "row"


def test_meanings_of_columns_are_said_where_there_are_some() -> None:
    made = table(("a", Number(1, "1")))
    assert made.one("details").one("dt").text == "rate (%)" and made.one("dd").text == "share that passes"
    assert parsed(block_html(Table("c", (Column("x"),), (("a",),)))).all("details") == []


def test_only_a_searchable_table_has_a_field_and_only_a_long_one_a_box_of_its_own() -> None:
    assert table(("a", "b")).all("input") == []
    assert table(("a", "b"), searchable=True).one("div", class_="controls").attributes["hidden"] is None
    assert table(("a", "b"), searchable=True).one("output").text == "1 rows"
    boxes = [table(*[("a", "b")] * n).one("div", class_="scroll").attributes["class"] for n in (LONG, LONG + 1)]
    assert boxes == ["scroll", "scroll long"]


def test_cells_are_broken_into_lines_by_the_length_of_what_is_read() -> None:
    there = "https://neuronpedia.org/gemma-2-2b/16-gemmascope-res-16k/42"
    rows = (
        (Link("x" * 22, there), "y" * 22),
        (Link("x" * 32, there), "y" * 9),
        ("x" * 33, "y" * 10),
        ("x" * 61, "y" * 61),
    )
    made = table(*rows)
    assert [cell.attributes.get("class") for cell in made.one("tbody").all("th")] == ["short", "name", None, "prose"]
    assert [cell.attributes["class"] for cell in made.all("td")] == ["num", "num figure", "num", "num"]


def test_a_row_of_another_length_than_the_columns_is_a_mistake_of_the_section() -> None:
    with pytest.raises(AssertionError):
        table(("a",))


def test_links_stand_in_cells_and_facts() -> None:
    there = Link("42", "https://neuronpedia.org/gemma-2-2b/16/42")
    assert table((there, "x")).one("a").attributes["href"] == there.target
    assert parsed(block_html(Facts((("feature", there),)))).one("a").text == "42"


def test_a_picture_is_an_image_of_its_own_size_with_its_words() -> None:
    image = parsed(block_html(Figure(SVG, "n = 3", "Two bars."))).one("img")
    assert image.attributes["alt"] == "Two bars."
    head, _, data = (image.attributes["src"] or "").partition(",")
    assert head == "data:image/svg+xml;base64" and base64.b64decode(data).decode() == SVG
    assert (image.attributes["width"], image.attributes["height"]) == ("126", "63")
    assert parsed(block_html(Figure("<svg></svg>", "c", "a"))).one("img").attributes.keys() == {"src", "alt"}


def test_pictures_that_follow_each_other_share_a_row() -> None:
    one = Figure(SVG, "c", "a")
    root = parsed(blocks_html((Text("x"), one, one, Text("y"), one)))
    assert [len(row.all("figure")) for row in root.all("div", class_="figures")] == [2, 1]


def test_code_keeps_the_line_ends_that_it_begins_with() -> None:
    pre = parsed(block_html(Code("\n\n  x\n"))).one("pre")
    # The parser of a browser drops the first line end of a `pre`.
    assert pre.text == "\n\n\n  x\n"


def test_details_hold_blocks_under_a_line() -> None:
    made = parsed(block_html(Details("More", (Text("a"), Code("b"))))).one("details", class_="fold")
    assert made.one("summary").text == "More" and made.one("p").text == "a" and made.one("code").text == "b"


def test_a_change_says_in_words_and_signs_what_became_of_the_solution() -> None:
    made = parsed(block_html(Changes("c", (change(), change(problem=3, flip="broken")))))
    assert [one.text for one in made.all("span", class_="flip")] == ["✓ fixed", "✗ broken"]
    attributes = made.all("details")[1].attributes
    assert (attributes["data-problem"], attributes["data-condition"], attributes["data-flip"]) == (
        *("3", "correct × 9"),
        "broken",
    )
    assert made.all("p", class_="asked")[0].text == "Add one."
    assert [one.text for one in made.all("table")[0].all("ins")] == ["2"]


def test_filters_offer_what_there_is_with_how_many() -> None:
    items = (change(problem=12), change(problem=3, flip="broken"), change(problem=3, condition="other"))
    made = parsed(block_html(Changes("c", items)))
    offered = {node.attributes["data-filter"]: [one.text for one in node.all("option")] for node in made.all("select")}
    assert offered == {
        "problem": ["all", "3 (2)", "12 (1)"],
        "condition": ["all", "correct × 9 (2)", "other (1)"],
        "flip": ["all", "fixed (2)", "broken (1)"],
    }
    assert made.one("div", class_="controls").one("output").text == "3 solutions"


def test_a_flip_that_is_none_is_a_mistake_of_the_section() -> None:
    with pytest.raises(AssertionError):
        block_html(Changes("c", (change(flip="bent"),)))


def test_a_section_has_a_heading_an_anchor_and_its_lead() -> None:
    made = parsed(section_html(Section("pass-rate", "How often?", "51 %.", (Text("x"),)))).one("section")
    assert made.attributes == {"id": "pass-rate", "aria-labelledby": "pass-rate-title"}
    assert made.one("h2").text == "How often?#"
    assert made.one("a").attributes["href"] == "#pass-rate"
    assert made.one("p", class_="lead").text == "51 %."


def test_a_missing_section_names_the_command_that_fills_it() -> None:
    made = parsed(section_html(Missing("x", "What?", "Phase 3.8 has not been run.", "python3 run.py phase 3.8")))
    assert "Phase 3.8 has not been run." in made.text
    assert made.one("pre", class_="command").text == "python3 run.py phase 3.8"
    assert parsed(section_html(Missing("x", "What?", "It is damaged.", ""))).all("pre") == []


@pytest.mark.parametrize("name", ['x"', "a b", "", "1", "É"])
def test_the_name_of_a_section_is_a_constant_of_the_program(name: str) -> None:
    with pytest.raises(AssertionError):
        section_html(Section(name, "t", "l"))


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(TypeError, match="no block of the report"):
        block_html("text")  # type: ignore[arg-type]
