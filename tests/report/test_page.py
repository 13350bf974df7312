from __future__ import annotations

import base64
import hashlib
import re

import pytest

from report.blocks import Missing, Section
from report.page import ASSETS, Frame, Gap, page
from tests.report.hostile import MARK, TEXTS, sections
from tests.report.parsed import Node, parsed

pytestmark = pytest.mark.unit

PARTS = (Section("one", "First?", "Yes."), Missing("two", "Second?", "Not run.", "python3 run.py phase 2.5"))
FRAME = Frame("A title", "About it.", (), "python3 run.py pipeline", "Made by hand.")


def made(frame: Frame = FRAME) -> Node:
    return parsed(page(frame, PARTS))


def policy(root: Node) -> dict[str, str]:
    (tag,) = (node for node in root.all("meta") if "http-equiv" in node.attributes)
    assert tag.attributes["http-equiv"] == "Content-Security-Policy"
    pairs = (part.strip().partition(" ") for part in (tag.attributes["content"] or "").split(";"))
    return {name: value for name, _, value in pairs}


def test_the_policy_allows_nothing_but_the_pages_own_style_script_and_pictures() -> None:
    root = made()
    allowed = policy(root)
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert allowed["img-src"] == "data:"
    assert set(allowed) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(root.one(kind).text.encode()).digest()).decode()
        assert allowed[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_policy_stands_before_what_it_governs() -> None:
    names = [node.name for node in made().one("head").walk()][1:]
    assert names[:2] == ["meta", "meta"] and names.index("style") > 1 and names.index("script") > 1


def test_nothing_is_named_that_would_have_to_be_fetched() -> None:
    text = page(FRAME, PARTS)
    assert re.findall(r"(?:src|href|action|poster|data)=\"(?!#|data:)[^\"]*\"", text) == []
    style = (ASSETS / "style.css").read_text()
    assert "url(" not in style and "@import" not in style
    script = (ASSETS / "script.js").read_text()
    assert (
        re.findall(r"fetch|XMLHttp|WebSocket|import\(|innerHTML|outerHTML|insertAdjacent|eval|document\.write", script)
        == []
    )


def test_what_is_not_complete_is_named_first_with_its_command() -> None:
    gap = Gap("Phase 4.8, steering effects", "partial, 3 of 9 problems.", "python3 run.py phase 4.8")
    root = made(Frame("t", "a", (gap,), "python3 run.py pipeline", "m"))
    first = root.one("main").all("section")[0]
    assert first.attributes["id"] == "gaps"
    assert "Phase 4.8, steering effects: partial, 3 of 9 problems." in first.text
    commands = [node.text for node in first.all("pre", class_="command")]
    assert commands == ["python3 run.py pipeline", "python3 run.py phase 4.8"]
    assert [link.text for link in root.one("nav").all("a")] == ["What is not complete", "First?", "Second? (missing)"]
    assert made().all("section", id="gaps") == []


def test_the_contents_lead_to_every_section() -> None:
    root = made()
    targets = [(link.attributes["href"] or "")[1:] for link in root.one("nav").all("a")]
    assert targets == [section.attributes["id"] for section in root.one("main").all("section")] == ["one", "two"]


def test_headings_are_in_order_and_the_landmarks_are_there() -> None:
    root = made()
    levels = [int(node.name[1]) for node in root.walk() if re.fullmatch("h[1-6]", node.name)]
    assert levels == [1, 2, 2]
    assert all(len(root.all(name)) == 1 for name in ("header", "nav", "main", "footer", "title"))
    assert root.one("html").attributes["lang"] == "en"
    assert root.one("body").all("a")[0].attributes["href"] == "#main"


def test_no_two_elements_have_one_id() -> None:
    ids = [node.attributes["id"] for node in parsed(page(FRAME, sections())).walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    with pytest.raises(AssertionError):
        page(FRAME, (PARTS[0], PARTS[0]))


def test_the_foot_says_how_the_page_was_made() -> None:
    assert "Made by hand." in made().one("footer").text


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_texts_around_the_sections_stay_texts(text: str) -> None:
    root = parsed(page(Frame(text, text, (Gap(text, text, text),), text, text), ()))
    assert len(root.all("script")) == 1 and MARK not in root.one("script").text
    assert root.all("iframe") == root.all("form") == root.all("svg") == []
    assert not any(name.startswith("on") for node in root.walk() for name in node.attributes)


def test_a_page_of_hostile_sections_has_one_script_one_style_and_no_handlers() -> None:
    text = page(FRAME, sections())
    text.encode("utf-8")
    root = parsed(text)
    assert len(root.all("script")) == len(root.all("style")) == 1
    assert not any(name.startswith("on") for node in root.walk() for name in node.attributes)
    assert {node.attributes["href"] for node in root.all("a")} <= {f"#{part.id}" for part in sections()} | {"#main"}


def test_the_same_run_gives_the_same_page() -> None:
    assert page(FRAME, sections()) == page(FRAME, sections())
