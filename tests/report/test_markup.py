from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.markup import Html, element, is_safe, joined, link, readable, text
from tests.report.hostile import TARGETS, TEXTS
from tests.report.parsed import parsed

pytestmark = pytest.mark.unit


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=200))
def test_any_text_comes_back_from_a_parser_as_it_reads_and_makes_no_element(content: str) -> None:
    root = parsed(element("p", {"title": content}, text(content)))
    node = root.one("p")
    assert [one.name for one in root.walk()] == ["#root", "p"]
    assert node.text == readable(content)
    assert list(node.attributes) == ["title"] and (node.attributes["title"] or "") == readable(content)
    readable(content).encode("utf-8")


@pytest.mark.parametrize("content", TEXTS)
def test_hostile_texts_come_back_as_texts(content: str) -> None:
    assert parsed(element("td", None, text(content))).one("td").text == readable(content)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a␍b"),
        ("\x00\x07\x1b\x7f", "␀␇␛␡"),
        ("\x85", "⟨U+0085⟩"),
        ("\ud800!", "⟨U+D800⟩!"),
        ("\u202eabc\u202c", "⟨U+202E⟩abc⟨U+202C⟩"),
        ("\u2066\u200f\u200b\ufeff", "⟨U+2066⟩⟨U+200F⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("é – 中 🙂 👩\u200d🔬 ﷽", "é – 中 🙂 👩\u200d🔬 ﷽"),
        ("\ufffd\u00a0\u202f", "\ufffd\u00a0\u202f"),
    ],
)
def test_what_would_be_invisible_is_named_and_the_rest_stays(content: str, shown: str) -> None:
    assert readable(content) == shown


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_not_plainly_a_page_or_an_anchor_is_no_link(target: str) -> None:
    assert not is_safe(target)
    assert parsed(link("a <b>", target)).text == "a <b>"
    assert parsed(link("a <b>", target)).all("a") == []


@pytest.mark.parametrize(
    "target", ["https://neuronpedia.org/gemma-2-2b/16-res/3?a=b&c=%20d", "https://x.org:8443", "#s-1_a"]
)
def test_an_address_and_an_anchor_are_links(target: str) -> None:
    node = parsed(link("there", target)).one("a")
    assert node.text == "there" and node.attributes["href"] == target
    assert ("rel" in node.attributes) == target.startswith("https:")


def test_attributes_that_are_nothing_are_left_out_and_true_ones_stand_alone() -> None:
    made = element("input", {"type": "search", "hidden": True, "class": None, "data-n": 0, "disabled": False})
    assert made == '<input type="search" hidden data-n="0">'
    assert joined(made, Html("")) == made


@pytest.mark.parametrize("name", ["on click", 'x"', "onClick", ""])
def test_the_name_of_an_attribute_is_a_constant_of_the_program(name: str) -> None:
    with pytest.raises(AssertionError):
        element("p", {name: "x"})


def test_an_element_that_holds_nothing_takes_no_children() -> None:
    with pytest.raises(AssertionError):
        element("img", None, text("x"))
