"""`run.py report` as it is typed, on the problems' phases."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from cli import report
from tests.cli.helpers import Here, refusal, run
from tests.report.parsed import parsed

pytestmark = pytest.mark.smoke


@pytest.fixture
def data(problems: Path, tmp_path: Path, here: Here) -> Path:
    """A data directory with phases 0 and 0.1."""
    data = tmp_path / "data"
    assert here("phase", "0", "--input", problems, "--data-dir", data).code == 0
    assert here("phase", "0.1", "--data-dir", data).code == 0
    return data


def test_a_report_is_written_beside_the_data_and_says_what_is_missing(data: Path) -> None:
    answer = run("report", "--data-dir", data)
    assert answer.code == 0, answer.err
    first, *missing = answer.out.splitlines()
    assert first.startswith(f"{data}/report.html: ") and " MB, " in first
    assert len(missing) == 11 and all(line.startswith("not complete: Phase ") for line in missing)
    command = f"python3 run.py phase 1.0 --data-dir {data}"
    assert f"not complete: Phase 1.0, dataset building: not run. To fill it: {command}" in missing
    root = parsed((data / "report.html").read_text(encoding="utf-8"))
    assert root.one("section", id="difficulty").all("table")
    assert command in [node.text for node in root.one("section", id="gaps").all("pre")]


def test_the_report_is_written_where_it_is_wanted_and_whole(data: Path, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "new" / "page.html"
    assert here("report", "--data-dir", data, "--out", out).code == 0
    before = out.read_text()
    assert here("report", "--data-dir", data, "--out", out).code == 0
    assert out.read_text().startswith("<!DOCTYPE html>") and len(out.read_text()) == len(before)
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert not (data / "report.html").exists()


def test_no_run_and_a_directory_for_a_file_are_refused_in_one_line(data: Path, tmp_path: Path, here: Here) -> None:
    said = refusal(here("report", "--data-dir", tmp_path / "none"))
    assert "none holds no run; run: python3 run.py pipeline --data-dir" in said
    assert not (tmp_path / "none").exists()
    said = refusal(here("report", "--data-dir", data, "--out", tmp_path))
    assert f"--out {tmp_path} is a directory; name a file, such as {tmp_path / 'report.html'}" in said


def test_a_damaged_file_leaves_the_rest_of_the_page_and_an_exit_code(data: Path, here: Here) -> None:
    summary = next((data / "phase0").glob("*_histogram.svg"))
    summary.write_text("<svg>")
    answer = here("report", "--data-dir", data)
    assert answer.code == 1
    (line,) = (line for line in answer.out.splitlines() if line.startswith("not shown: "))
    assert f"{summary} is damaged" in line and "--fresh" in line
    root = parsed((data / "report.html").read_text())
    assert "This part cannot be shown" in root.one("section", id="difficulty").text
    assert root.one("section", id="provenance").all("table")


def test_the_report_is_opened_where_there_is_a_display(data: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(report, "has_display", lambda: True)
    answer = here("report", "--data-dir", data, "--open")
    assert answer.code == 0 and opened == [(data / "report.html").resolve().as_uri()]
    assert "open it yourself" not in answer.out


def test_without_a_display_nothing_is_started_and_the_place_is_said(
    data: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("started something"))
    monkeypatch.setattr(report.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    answer = here("report", "--data-dir", data, "--open")
    assert answer.code == 0
    assert f"no browser could be opened here; open it yourself: {(data / 'report.html').resolve()}" in answer.out


@pytest.mark.parametrize(("variable", "expected"), [("DISPLAY", True), ("WAYLAND_DISPLAY", True), ("NONE", False)])
def test_a_display_is_what_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: bool
) -> None:
    monkeypatch.setattr(report.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, ":0")
    assert report.has_display() is expected


def test_a_pipeline_can_end_with_the_report(data: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "has_display", lambda: False)
    answer = here("pipeline", "--to", "0.1", "--data-dir", data, "--report")
    assert answer.code == 0, answer.err
    assert (data / "report.html").is_file() and f"{data}/report.html: " in answer.out
