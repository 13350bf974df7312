"""The page in a real browser: quiet, within its window, harmless, and what its tables and solutions do."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from report.page import page as whole
from tests.report.browser import WIDTHS, Open, opened, overflow, unfold
from tests.report.hostile import sections
from tests.report.sample import FRAME, NUMBERS, SECTIONS

pytestmark = pytest.mark.smoke


def column(table: Locator, number: int) -> list[str]:
    return [text.strip() for text in table.locator(f"tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()]


def header(table: Locator, name: str) -> Locator:
    return table.get_by_role("columnheader", name=name).get_by_role("button")


# --- quiet


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_says_nothing_to_the_console_and_asks_for_nothing(sample: Open, width: int, scheme: str) -> None:
    with sample(width=width, color_scheme=scheme) as one:
        unfold(one.page)
        one.page.wait_for_timeout(100)
        assert len(one.asked) >= 1 and one.is_quiet()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_moves_sideways(sample: Open, hostile: Open, width: int) -> None:
    for page in (sample, hostile):
        with page(width=width) as one:
            assert overflow(one.page) == []
            unfold(one.page)
            assert overflow(one.page) == []


def test_the_search_for_what_is_too_wide_finds_it(sample: Open) -> None:
    with sample(width=390, bypass_csp=True) as one:
        one.page.add_style_tag(content="h1 { width: 2000px }")
        assert overflow(one.page) == [f"H1.: {FRAME.title[:20]}"]


# --- hostile texts


def test_hostile_texts_run_nothing_and_load_nothing(hostile: Open) -> None:
    with hostile() as one:
        unfold(one.page)
        one.page.evaluate(
            "document.querySelectorAll('*').forEach((node) => node.dispatchEvent(new Event('mouseover')))"
        )
        one.page.locator("input").first.focus()
        one.page.wait_for_timeout(200)
        assert one.page.evaluate("window.reached") is None
        assert one.is_quiet()
        assert one.page.locator("main > section").count() == len(sections()) + 1


def test_even_a_script_that_stood_in_the_page_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    planted = (
        "<script>window.reached=true</script><img src=x onerror='window.reached=true'><h2 style='color:red'>x</h2>"
    )
    path.write_text(whole(FRAME, SECTIONS).replace("<h2", f"{planted}<h2", 1), encoding="utf-8")
    with opened(chromium, path) as one:
        one.page.wait_for_timeout(200)
        assert one.page.evaluate("window.reached") is None
        assert sum("Content Security Policy" in text for text in one.said) >= 3, one.said


# --- tables


def test_a_column_of_figures_sorts_as_figures_both_ways_with_the_missing_last(sample: Open) -> None:
    with sample() as one:
        table = one.page.get_by_role("table", name="Features, n = 6")
        button = header(table, "rate")
        button.click()
        assert column(table, 2) == ["-3.0", "0.0", "2.0", "9.5", "10.0", "–"]
        assert table.get_by_role("columnheader", name="rate").get_attribute("aria-sort") == "ascending"
        button.click()
        assert column(table, 2) == ["10.0", "9.5", "2.0", "0.0", "-3.0", "–"]
        assert table.get_by_role("columnheader", name="rate").get_attribute("aria-sort") == "descending"
        button.click()
        assert column(table, 1) == [name for name, _, _ in NUMBERS]
        assert table.locator("[aria-sort]").count() == 0


def test_a_column_of_words_sorts_with_the_numbers_in_them_in_order_and_the_empty_last(sample: Open) -> None:
    with sample() as one:
        table = one.page.get_by_role("table", name="Features, n = 6")
        header(table, "feature").click()
        assert column(table, 1) == ["8", "9", "10", "11", "12", "100"]
        header(table, "note").click()
        assert column(table, 3) == ["a", "a9", "a10", "b", "c", ""]
        header(table, "note").click()
        assert column(table, 3) == ["c", "b", "a10", "a9", "a", ""]
        assert table.locator("[aria-sort]").count() == 1


def test_rows_can_be_filtered_and_are_counted(sample: Open) -> None:
    with sample() as one:
        figure = one.page.locator("figure.table").first
        field = figure.get_by_label("Rows with")
        field.fill("A1")
        assert column(figure, 1) == ["11"]
        assert figure.get_by_role("status").inner_text() == "1 of 6 rows"
        header(figure, "rate").click()
        field.fill("")
        assert figure.get_by_role("status").inner_text() == "6 rows"
        assert column(figure, 2)[0] == "-3.0"
        field.fill("nothing like it")
        assert column(figure, 1) == [] and figure.get_by_role("status").inner_text() == "0 of 6 rows"


def test_the_keyboard_reaches_a_header_and_sorts(sample: Open) -> None:
    with sample() as one:
        assert focused_by_tab(one.page, "BUTTON", "rate (%)")
        one.page.keyboard.press("Enter")
        table = one.page.get_by_role("table", name="Features, n = 6")
        assert column(table, 2)[0] == "-3.0"
        one.page.keyboard.press("Space")
        assert column(table, 2)[0] == "10.0"
        outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def focused_by_tab(page: Page, name: str, text: str) -> bool:
    for _ in range(80):
        page.keyboard.press("Tab")
        found = page.evaluate("[document.activeElement.tagName, document.activeElement.textContent]")
        if found == [name, text]:
            return True
    return False


def test_boxes_that_scroll_can_be_reached_and_others_are_passed_over(sample: Open) -> None:
    with sample() as one:
        box = one.page.get_by_role("region", name="Table: Features, n = 6")
        expect(box).not_to_have_attribute("tabindex", "0")
        expect(one.page.get_by_role("region", name="Table: Many rows, n = 60")).to_have_attribute("tabindex", "0")
        one.page.set_viewport_size({"width": 300, "height": 900})
        expect(box).to_have_attribute("tabindex", "0")


# --- solutions


def shown(changes: Locator) -> list[str]:
    return changes.locator("details.change:not([hidden]) .problem").all_inner_texts()


def test_solutions_are_filtered_by_text_problem_condition_and_flip_with_a_live_count(sample: Open) -> None:
    with sample() as one:
        changes = one.page.locator("figure.changes")
        count = changes.get_by_role("status")
        assert count.inner_text() == "4 solutions" and count.get_attribute("aria-live") == "polite"
        changes.get_by_label("Problem").select_option("11")
        assert shown(changes) == ["Problem 11"] * 2 and count.inner_text() == "2 of 4 solutions"
        changes.get_by_label("Flip").select_option("fixed")
        assert shown(changes) == ["Problem 11"] and count.inner_text() == "1 of 4 solutions"
        changes.get_by_label("Problem").select_option("")
        changes.get_by_label("Flip").select_option("")
        changes.get_by_label("Condition").select_option("incorrect × 8.6")
        assert shown(changes) == ["Problem 11", "Problem 13"]
        changes.get_by_label("Condition").select_option("")
        changes.get_by_label("Text").fill("REVERSE")
        assert shown(changes) == ["Problem 12"]
        changes.get_by_label("Text").fill("nowhere to be found")
        assert shown(changes) == [] and changes.get_by_text("No solution fits these filters.").is_visible()
        changes.get_by_label("Text").fill("")
        assert len(shown(changes)) == 4 and not changes.get_by_text("No solution fits").is_visible()


def test_a_solution_opens_on_its_diff_by_mouse_and_by_keyboard(sample: Open) -> None:
    with sample() as one:
        first, second = one.page.locator("details.change").all()[:2]
        assert not first.get_by_role("table").is_visible()
        first.locator("summary").click()
        assert first.get_by_role("table").is_visible()
        assert first.locator("del").all_inner_texts() == ["0", "+"]
        assert first.locator("ins").all_inner_texts() == ["1", "-", "# done"]
        styles = "(node) => [getComputedStyle(node).textDecorationLine, getComputedStyle(node).backgroundColor]"
        assert first.locator("del").first.evaluate(styles)[0] == "line-through"
        assert first.locator("ins").first.evaluate(styles)[0] == "underline"
        second.locator("summary").focus()
        one.page.keyboard.press("Enter")
        assert second.get_by_role("table").is_visible()


def test_all_that_are_shown_open_and_close_together(sample: Open) -> None:
    with sample() as one:
        changes = one.page.locator("figure.changes")
        changes.get_by_label("Problem").select_option("11")
        changes.get_by_role("button", name="Open all").click()
        assert changes.locator("details[open]").count() == 2
        changes.get_by_label("Problem").select_option("")
        changes.get_by_role("button", name="Open all").click()
        assert changes.locator("details[open]").count() == 4
        changes.get_by_role("button", name="Close all").click()
        assert changes.locator("details[open]").count() == 0


def test_both_sides_of_a_diff_stand_beside_each_other_and_on_a_phone_below_each_other(sample: Open) -> None:
    for width, beside in ((1440, True), (390, False)):
        with sample(width=width) as one:
            change = one.page.locator("details.change").first
            change.locator("summary").click()
            removed, added = change.locator("del").first.bounding_box(), change.locator("ins").first.bounding_box()
            assert removed and added
            assert (abs(removed["y"] - added["y"]) < 2) is beside
