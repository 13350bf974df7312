"""Debian's Chromium, driven headless: pages opened from disk, with everything that they say, load or throw noted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WIDTHS = (390, 820, 1440)
LUMINANCE = """
() => {
  const found = [];
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({ opacityProperty: true })) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, `${node.tagName}.${node.className}`, node.textContent.slice(0, 30)]);
  }
  return found;
}
"""


class Opened(NamedTuple):
    """A page, and what it said, threw and asked for."""

    page: Page
    said: list[str]
    asked: list[str]

    def is_quiet(self) -> bool:
        """Says whether there was no error and no request but for the page itself."""
        outside = [url for url in self.asked[1:] if not url.startswith("data:")]
        assert (self.said, outside) == ([], []), (self.said, outside)
        return True


Open = Callable[..., AbstractContextManager[Opened]]


@contextmanager
def browser() -> Iterator[Browser]:
    """Yields a headless Chromium; skips where there is none."""
    path = CHROMIUM if os.access(CHROMIUM, os.X_OK) else shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium here (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@contextmanager
def opened(chromium: Browser, path: Path, width: int = 1440, init: str = "", **context: Any) -> Iterator[Opened]:
    """Yields the page in `path` in a window `width` wide."""
    made = chromium.new_context(viewport={"width": width, "height": 900}, **context)
    if init:
        made.add_init_script(init)
    page = made.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"thrown: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield Opened(page, said, asked)
    made.close()


def unfold(page: Page) -> None:
    """Opens everything that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def overflow(page: Page) -> list[str]:
    """Returns what makes the page wider than its window, but for what lies in a box that scrolls."""
    return page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          const isBoxed = (node) => node !== document.body
            && (getComputedStyle(node).overflowX !== "visible" || isBoxed(node.parentElement));
          return [...document.querySelectorAll("body *")]
            .filter((node) => node.getBoundingClientRect().right > width + 1 && !isBoxed(node.parentElement))
            .map((node) => `${node.tagName}.${node.className}: ${node.textContent.slice(0, 20)}`).slice(0, 10);
        }"""
    )


def faint(page: Page, least: float = 4.5) -> list[Any]:
    """Returns the texts whose contrast with their ground is below `least` (WCAG 2.2, 1.4.3)."""
    found = page.evaluate(LUMINANCE)
    assert len(found) > 20
    return [one for one in found if one[0] < least]
