"""The report of a real run, of the size of a small one and of a full one, in a real browser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.organism_runs.conftest import run
from tests.organism_runs.steering import QUICK
from tests.organism_runs.steering_runs import Effects
from tests.report.browser import WIDTHS, browser, faint, opened, overflow, unfold
from tests.report.full_size import full_size
from tests.report.parsed import Node, parsed

pytestmark = pytest.mark.smoke

SECTIONS = {
    *("summary", "provenance", "difficulty", "solutions", "sae_fit", "features", "detection", "temperature"),
    *("coefficients", "steering", "instruct"),
}


def report(data: Path, out: Path) -> Node:
    """Writes the report of `data` to `out` with the command, and returns it as it was parsed."""
    done = run("report", "--profile", "organism", "--data-dir", data, *QUICK, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{out}: "), done.stdout
    return parsed(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(effects: Effects, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Node, float]:
    """The report of a run whose last phase is partial: where it lies, how it parses, and the seconds that it took."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    started = time.monotonic()
    root = report(effects.data, out)
    return out, root, time.monotonic() - started


def test_every_phase_has_its_section_and_none_is_missing(made: tuple[Path, Node, float]) -> None:
    sections = {node.attributes["id"]: node for node in made[1].one("main").all("section")}
    assert sections.keys() >= SECTIONS
    assert [name for name in SECTIONS if "missing" in (sections[name].attributes.get("class") or "")] == []
    assert all(node.one("p", class_="lead").text for name, node in sections.items() if name in SECTIONS)


def test_a_partial_phase_is_named_with_the_command_that_completes_it(made: tuple[Path, Node, float]) -> None:
    said = [item.text for item in made[1].one("ul", class_="gaps").all("li")]
    assert any(text.startswith("Phase 7.6") and "partial, 32 of 388" in text for text in said), said


def test_the_report_is_small_and_soon_made(made: tuple[Path, Node, float]) -> None:
    out, _, seconds = made
    assert out.stat().st_size < 5e6
    assert seconds < 60  # about three alone; a bound for busy machines


def test_the_report_of_a_full_run_stays_below_fifteen_megabytes(effects: Effects, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    root = report(full_size(effects.data, tmp_path / "data"), out)
    assert 3e6 < out.stat().st_size < 15e6
    assert len(root.one("section", id="sae_fit").all("table")[0].one("tbody").all("tr")) == 26
    assert len(root.one("section", id="coefficients").all("details", class_="change")) > 100


def test_a_browser_shows_it_whole_and_quietly_at_every_width(made: tuple[Path, Node, float]) -> None:
    with browser() as chromium:
        for width in WIDTHS:
            with opened(chromium, made[0], width=width) as one:
                assert overflow(one.page) == []
                unfold(one.page)
                assert overflow(one.page) == [] and one.is_quiet()
                drawn = one.page.evaluate("[...document.images].map((image) => image.naturalWidth > 0)")
                assert len(drawn) > 10 and all(drawn)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_it_stands_out_from_its_ground(made: tuple[Path, Node, float], scheme: str) -> None:
    with browser() as chromium, opened(chromium, made[0], color_scheme=scheme) as one:
        unfold(one.page)
        assert faint(one.page) == []
