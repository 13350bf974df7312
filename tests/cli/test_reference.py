"""`docs/cli.md`: every option that people write stands in it, and none that they do not."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from cli import reference
from common.config import Config
from common.phases import PHASES

pytestmark = pytest.mark.unit
PAGE = reference.cli_page()


def section(heading: str) -> str:
    """Returns what stands under a heading, up to the next of the same or a higher level."""
    start = PAGE.index(f"{heading}\n")
    level = heading.partition(" ")[0]
    ends = [PAGE.find(f"\n{mark} ", start + 1) for mark in ("#" * n for n in range(1, len(level) + 1))]
    return PAGE[start : min((end for end in ends if end > 0), default=len(PAGE))]


@pytest.mark.parametrize("words", [words for words, parser in reference.parsers().items() if parser.description])
def test_every_option_of_every_command_stands_under_it_and_no_hidden_one_does(words: str) -> None:
    parser = reference.parsers()[words]
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions) and words != "run.py":
        assert f"### {words}\n" not in PAGE  # its commands have sections of their own
        return
    text = section(f"{'##' if words in reference.PROGRAMS else '###'} {words}")
    common = section("## Options that become settings")
    for action in parser._actions:
        name = action.option_strings[0] if action.option_strings else action.metavar
        if action.help == argparse.SUPPRESS:
            assert f"`{name}" not in text
        elif name not in ("-h", None, "COMMAND"):
            assert f"`{name}" in text or (f"`{name}" in common and "options-that-become-settings" in text), name


@pytest.mark.parametrize("words", reference.parsers())
def test_every_option_says_what_it_does(words: str) -> None:
    for action in reference.parsers()[words]._actions:
        is_command = isinstance(action, argparse._SubParsersAction)
        assert is_command or action.help, f"{words}: {action.option_strings or action.dest}"


def test_every_setting_stands_with_its_default_and_whether_it_decides() -> None:
    text = section("## Settings")
    for item in fields(Config):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{item.name}` |")]
        assert item.metadata["doc"] in line and line.endswith("| yes |" if item.metadata["decides"] else "|  |")
    assert "| `phase4_5_coefficients` | list of float | `1.0,3.0,10.0,30.0,100.0,300.0,1000.0` |" in text
    assert "| `site` | text or none | `none` |" in text


def test_every_phase_stands_with_what_it_reads() -> None:
    text = section("## Phases")
    assert text.count("\n| ") == len(PHASES) + 2
    assert "| 3.5 | temperature robustness | 0.1, 2.5 | 2.10 | any | yes |" in text


def test_every_target_of_the_makefile_stands_with_what_it_does() -> None:
    targets = dict(reference.make_targets())
    assert {"`make demo`", "`make test`", "`make lint`", "`make docs`"} <= set(targets)
    assert all(targets.values())


def test_the_pages_are_written_where_the_documentation_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = reference.pages()
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(reference, "REPOSITORY", tmp_path)
    monkeypatch.setattr(reference, "pages", lambda: written)
    assert reference.main() == 0
    assert {path.name for path in (tmp_path / "docs").iterdir()} == set(written)
    assert capsys.readouterr().out.splitlines() == ["written: docs/cli.md", "written: docs/outputs.md"]
