"""Chromium, and two pages that it opens: one with every kind of block, and one of hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Browser

from report.page import page as whole
from tests.report.browser import Open, browser, opened
from tests.report.hostile import sections
from tests.report.sample import FRAME, SECTIONS


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def sample(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Open:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(whole(FRAME, SECTIONS), encoding="utf-8")
    return partial(opened, chromium, path)


@pytest.fixture(scope="module")
def hostile(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Open:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(whole(FRAME, sections()), encoding="utf-8")
    return partial(opened, chromium, path)
