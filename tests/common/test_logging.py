from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.logging import ROOT, add_log_file, capped_warnings, get_logger, remove_log_file, setup_console

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_root() -> Iterator[logging.Logger]:
    """Gives the project's logger back as it was found."""
    root = logging.getLogger(ROOT)
    before = (list(root.handlers), root.level, root.propagate)
    yield root
    root.handlers[:], root.level, root.propagate = before


def test_loggers_stand_under_the_projects_own() -> None:
    assert get_logger("common.runs.records").name == "pva_sae.common.runs.records"


def test_the_console_is_set_up_once_and_dated_where_it_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    setup_console()
    setup_console()
    get_logger("a").info("hello %d", 3)
    get_logger("a").debug("unheard")
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO hello 3\n", said.err)


def test_verbose_says_more(capsys: pytest.CaptureFixture[str]) -> None:
    setup_console(verbose=True)
    get_logger("a").debug("heard")
    assert capsys.readouterr().err.endswith("DEBUG heard\n")


def test_a_log_file_takes_dated_lines_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "phase.log"
    logging.getLogger(ROOT).setLevel(logging.INFO)
    for word in ("first", "second"):
        handler = add_log_file(path)
        get_logger("a").info("%s ä", word)
        remove_log_file(handler)
        get_logger("a").info("unheard")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split(" INFO ")[1] for line in lines] == ["first ä", "second ä"]


def test_a_log_file_on_a_full_disk_never_prints_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no full device here")
    logging.getLogger(ROOT).setLevel(logging.INFO)
    logging.getLogger(ROOT).propagate = False
    handler = add_log_file(Path("/dev/full"))
    get_logger("a").info("lost")
    remove_log_file(handler)
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_opened_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        add_log_file(tmp_path / "nowhere" / "phase.log")


def test_the_console_shows_the_first_warnings_of_a_kind_and_counts_the_rest_while_the_file_keeps_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_console()
    path, log = tmp_path / "all.log", get_logger("a")
    handler = add_log_file(path)
    with capped_warnings(10, path):
        for number in range(25):
            log.warning("batch %d failed", number)
            log.info("batch %d is done", number)
            log.warning("one of %s", "many", extra={"kind": f"many {number % 3}"})
        log.error("the end")
    log.warning("batch %d failed", 99)
    remove_log_file(handler)
    said = [line.partition(",")[2][4:] for line in capsys.readouterr().err.splitlines()]
    failed = [line for line in said if line.endswith("failed")]
    assert failed == [*(f"WARNING batch {number} failed" for number in range(10)), "WARNING batch 99 failed"]
    assert sum("is done" in line for line in said) == 25 and "ERROR the end" in said
    assert sum(line.endswith("one of many") for line in said) == 25, "none of three kinds is more than nine"
    assert f'WARNING 15 more warnings like "batch 0 failed", in {path}' in said
    assert sum("more warnings" in line for line in said) == 1
    assert sum("failed" in line for line in path.read_text().splitlines()) == 27


def test_ten_warnings_of_a_kind_need_no_closing_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_console()
    with capped_warnings(10, tmp_path / "all.log"):
        for number in range(10):
            get_logger("a").warning("batch %d failed", number)
    assert len(capsys.readouterr().err.splitlines()) == 10
