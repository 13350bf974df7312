from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.config import Config, resolve_config
from common.errors import PipelineError
from common.runs.metadata import Extent
from report import build as building
from report.blocks import Missing, Section
from report.build import build, made
from report.run import Run
from report.sections import SECTIONS, sae_fit
from tests.report.helpers import publish
from tests.report.parsed import Node, parsed

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return resolve_config({"profile": "organism", "data_dir": str(tmp_path / "data")}).config


def only(monkeypatch: pytest.MonkeyPatch, *sections: object) -> None:
    monkeypatch.setattr(building, "SECTIONS", sections)


def whole(run: Run) -> Section:
    return Section("whole", "Is it whole?", "It is.")


def damaged(run: Run) -> Section:
    raise PipelineError(
        "data/x.json is damaged: its SHA-256 is not the recorded one;\nrun the phase again with --fresh"
    )


def gaps_of(root: Node) -> list[str]:
    return [item.text for item in root.one("ul", class_="gaps").all("li")]


def test_every_section_makes_something_of_a_run_of_one_phase_or_does_not_apply(config: Config) -> None:
    publish(config, "2.2", {})
    run = Run(config)
    parts = {section.__module__.rpartition(".")[2]: section(run) for section in SECTIONS}
    assert len(parts) == 13 and all({"ID", "TITLE"} <= vars(sys.modules[make.__module__]).keys() for make in SECTIONS)
    without = {name for name, part in parts.items() if part is None}
    assert without <= {"pathway", "known_answers", "summary"}
    for name, part in parts.items():
        assert part is None or isinstance(part, Section) or part.command.startswith("python3 run.py "), name


def test_a_damaged_part_is_named_in_its_place_and_the_others_stay(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damaged, "__module__", sae_fit.__name__)
    only(monkeypatch, damaged, whole)
    report = build(Run(config), NOW)
    one = "data/x.json is damaged: its SHA-256 is not the recorded one; run the phase again with --fresh"
    assert report.damaged == (one,)
    first, second = parsed(report.html).one("main").all("section")[1:]
    assert first.one("h2").text == f"{sae_fit.TITLE}#" and one in first.text
    assert first.attributes["id"] == sae_fit.ID
    assert second.one("h2").text == "Is it whole?#"
    assert report.sections == 1


def test_what_does_not_apply_leaves_no_trace(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, lambda run: None, whole)
    assert [one.text for one in parsed(build(Run(config), NOW).html).one("main").all("h2")] == [
        "What is not complete",
        "Is it whole?#",
    ]


def test_phases_that_are_not_complete_are_named_with_their_commands(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, whole)
    publish(config, "0", {})
    publish(config, "1.0", {}, Extent(10, 4))
    report = build(Run(config), NOW)
    said = gaps_of(parsed(report.html))
    assert len(said) == len(report.gaps) == 12
    partial = next(text for text in said if text.startswith("Phase 1.0"))
    assert partial.startswith("Phase 1.0, dataset building: partial, 4 of 10 problems (the rest has not been run).")
    assert partial.endswith(f"python3 run.py phase 1.0 --profile organism --data-dir {config.data_dir}")
    assert any(text.startswith("Phase 4.8, steering effects: not run.") for text in said)
    assert not any(text.startswith("Phase 0,") for text in said)


def test_phases_of_a_model_that_the_profile_does_not_name_are_not_missing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, whole)
    alone = replace(config, phase7_3_model_name=None)
    publish(alone, "0", {})
    report = build(Run(alone), NOW)
    assert not any(gap.phase.startswith("Phase 7") for gap in report.gaps) and len(report.gaps) == 10
    assert "1 of 11 phases complete and current." in parsed(report.html).one("header").text


def test_a_stale_phase_and_an_unreadable_one_are_named_with_the_reason(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, whole)
    publish(config, "0", {})
    (config.phase_dir("0") / "metadata.json").write_text("{}")
    said = gaps_of(parsed(build(Run(config), NOW).html))[0]
    assert said.startswith("Phase 0, difficulty analysis: unreadable (") and "schema version" in said


def test_the_page_says_which_model_and_when_it_was_made(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, whole)
    root = parsed(build(Run(config), NOW).html)
    assert root.one("h1").text == "Program validity awareness in organism/instance/base"
    assert config.data_dir in root.one("header").text
    assert "2026-03-01 12:30 UTC" in root.one("footer").text


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ({"commit": "0123456789abcdef", "dirty": False}, "at commit 0123456789ab, 2026"),
        ({"commit": "0123456789abcdef", "dirty": True}, "at commit 0123456789ab with uncommitted changes, 2026"),
        (
            {"commit": None, "dirty": None, "commit_reason": "not a git checkout"},
            "at a version without a commit (not a git checkout), 2026",
        ),
    ],
)
def test_the_version_of_the_code_is_said(
    monkeypatch: pytest.MonkeyPatch, version: dict[str, object], said: str
) -> None:
    monkeypatch.setattr(building, "code_version", lambda: version)
    assert said in made(NOW)


def test_the_same_run_gives_the_same_page(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, whole, lambda run: Missing("m", "M?", "Not run.", "x"))
    publish(config, "0", {})
    assert build(Run(config), NOW).html == build(Run(config), NOW).html
