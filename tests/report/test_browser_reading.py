"""The page in a real browser: its colours, without a script, on paper, by keyboard and by ear."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.report.browser import Open, faint, unfold
from tests.report.sample import FRAME, SECTIONS

pytestmark = pytest.mark.smoke

REFUSING = """
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("refused", "SecurityError"); } });
"""


# --- colours


def ground(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


LIGHT, DARK = "rgb(253, 252, 249)", "rgb(21, 23, 26)"


@pytest.mark.parametrize(("scheme", "colour"), [("light", LIGHT), ("dark", DARK)])
def test_the_colours_follow_the_system_until_they_are_chosen(sample: Open, scheme: str, colour: str) -> None:
    with sample(color_scheme=scheme) as one:
        button = one.page.locator("button.theme")
        assert (button.inner_text(), ground(one.page)) == ("Colours: auto", colour)
        button.click()
        assert (button.inner_text(), ground(one.page)) == ("Colours: light", LIGHT)
        button.click()
        assert (button.inner_text(), ground(one.page)) == ("Colours: dark", DARK)
        one.page.reload()
        assert (button.inner_text(), ground(one.page)) == ("Colours: dark", DARK)
        button.click()
        assert (button.inner_text(), ground(one.page)) == ("Colours: auto", colour)


def test_the_colours_can_be_chosen_where_storage_is_refused(sample: Open) -> None:
    with sample(init=REFUSING) as one:
        assert ground(one.page) == LIGHT
        for _ in range(2):
            one.page.locator("button.theme").click()
        assert ground(one.page) == DARK
        assert one.is_quiet()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(sample: Open, scheme: str) -> None:
    with sample(color_scheme=scheme) as one:
        unfold(one.page)
        assert faint(one.page) == []


def test_the_search_for_faint_texts_finds_them(sample: Open) -> None:
    with sample(bypass_csp=True) as one:
        one.page.add_style_tag(content="h1 { color: #aaa }")
        assert [text for _, _, text in faint(one.page)] == [FRAME.title[:30]]


def test_pictures_keep_a_white_ground_in_the_dark(sample: Open) -> None:
    with sample(color_scheme="dark") as one:
        card = one.page.locator(".card").first
        assert card.evaluate("(node) => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"
        drawn = one.page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth > 0)")
        assert drawn == [True] * 3


# --- without a script, on paper, by ear


def test_without_a_script_the_page_can_be_read_and_has_no_dead_controls(sample: Open) -> None:
    with sample(java_script_enabled=False) as one:
        assert one.page.locator("input:visible, select:visible, button:visible").count() == 0
        assert one.page.get_by_role("table", name="Features, n = 6").is_visible()
        change = one.page.locator("details.change").first
        change.locator("summary").click()
        assert change.get_by_role("table").is_visible()
        assert one.page.locator("nav a").first.is_visible()


def printed(page: Page) -> dict[str, Any]:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page.evaluate(
        """() => {
          const visible = (names) => [...document.querySelectorAll(names)].filter((node) => node.checkVisibility());
          return {
          controls: visible("nav, .controls, .theme, .anchor").length,
          folds: [...document.querySelectorAll(".fold")].map((fold) => fold.open),
          changes: visible(".change").length,
          note: visible(".print-only").length,
          cut: visible(".scroll").filter((node) => node.scrollHeight > node.clientHeight + 1).length,
          ground: getComputedStyle(document.documentElement).colorScheme,
        }}"""
    )


def test_on_paper_there_are_no_controls_and_nothing_is_folded_or_cut_unsaid(sample: Open) -> None:
    with sample(color_scheme="dark") as one:
        one.page.locator("details.change > summary").first.click()
        found = printed(one.page)
        assert found == {
            **{"controls": 0, "folds": [True] * 4, "changes": 1, "note": 1, "cut": 0},
            "ground": "light",
        }
        one.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert one.page.locator(".fold[open]").count() == 0


def test_the_page_prints(sample: Open) -> None:
    with sample() as one:
        data = one.page.pdf(format="A4")
        assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF") and len(data) > 20_000
        assert one.page.locator(".fold[open]").count() == 0


def test_the_parts_of_the_page_have_their_roles_and_names(sample: Open) -> None:
    with sample() as one:
        page = one.page
        for role in ("banner", "main", "contentinfo"):
            assert page.get_by_role(role).count() == 1  # type: ignore[arg-type]
        assert page.get_by_role("navigation", name="Contents").count() == 1
        assert page.get_by_role("heading", level=1).inner_text() == FRAME.title
        assert page.get_by_role("heading", level=2).count() == len(SECTIONS) + 1
        assert page.get_by_role("region", name="How strongly?").count() == 1
        assert page.get_by_role("img", name="One dot, wide.").count() == 1
        assert page.get_by_role("rowheader", name="100").count() == 1
        assert page.get_by_role("search", name="Solutions").count() == 1


def test_the_first_key_offers_a_way_past_the_contents(sample: Open) -> None:
    with sample() as one:
        one.page.keyboard.press("Tab")
        link = one.page.get_by_role("link", name="Skip to the findings")
        box = link.bounding_box()
        assert box and box["y"] >= 0
        one.page.keyboard.press("Enter")
        assert one.page.evaluate("document.activeElement.id") == "main"


def test_the_contents_lead_to_a_section_and_say_where_the_reader_is(sample: Open) -> None:
    with sample() as one:
        one.page.get_by_role("navigation").get_by_role("link", name="How strongly?").click()
        current = one.page.locator("nav [aria-current]")
        expect(current).to_have_text("How strongly?")
        assert one.page.url.endswith("#coefficients")


def test_the_contents_are_folded_on_a_phone_and_open_beside_the_text(sample: Open) -> None:
    for width, is_open in ((390, False), (1440, True)):
        with sample(width=width) as one:
            assert one.page.locator("nav a").first.is_visible() is is_open
