"""`docs/performance.md` says what the kept runs say, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.timing import Row, not_measured

pytestmark = pytest.mark.unit

ROWS = [
    Row("P9", "answers", 0.1234, "s", "≤ 0.15 s", True, {"status": 0.1234}, (0.11, 0.1234, 0.14), None, 1.5),
    Row("P1", "whole | work", 12.0, "×", "≥ 20×", False, {"same": True, "parts": [1, 2.5]}, (11.0, 13.0)),
    not_measured("P2", "share of the floor", "≥ 45%", "no CUDA device"),
]
RUN: dict[str, Any] = {
    **{"created": "2026-01-01T00:00:00+00:00", "commit": "0123456789abcdef", "dirty": False},
    **{"versions": {"python": "3.11", "nnsight": None}, "rows": [row._asdict() for row in ROWS]},
    "machine": {"cores": 4, "machine": "x86_64", "processor": "A processor", "memory_gb": 8.0, "load": 0.5},
}


def other(**changes: Any) -> dict[str, Any]:
    """Returns a later run of P9 and P2 alone."""
    run = copy.deepcopy(RUN)
    run["rows"] = [{**row, **changes.get(row["name"], {})} for row in run["rows"] if row["name"] != "P1"]
    return {**run, "commit": "fedcba9876543210", "dirty": True}


def lines(text: str, start: str) -> list[str]:
    """Returns the lines of a page that begin so."""
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_row_shows_its_figure_goal_repeats_spread_and_load() -> None:
    page = report.page([RUN])
    assert lines(page, "| P9") == ["| P9 | answers | 0.123 s | ≤ 0.15 s | yes | 3 | 0.11 – 0.14 | 1.5 | A |"]
    assert lines(page, "| P1") == ["| P1 | whole / work | 12 × | ≥ 20× | **no** | 2 | 11 – 13 | – | A |"]


def test_a_row_without_a_figure_says_why_and_has_no_number() -> None:
    (line,) = lines(report.page([RUN]), "| P2")
    assert line == "| P2 | share of the floor | not measured: no CUDA device | ≥ 45% | – | – | – | – | A |"


def test_rows_stand_in_the_order_of_the_specification() -> None:
    page = report.page([RUN])
    assert [page.index(f"| {name} |") for name in ("P1", "P2", "P9")] == sorted(
        page.index(f"| {name} |") for name in ("P1", "P2", "P9")
    )


def test_the_page_says_on_what_it_ran() -> None:
    (line,) = lines(report.page([RUN]), "**A**")
    assert "commit 0123456789ab;" in line and "A processor, 4 cores, 8.0 GB, no accelerator; load 0.5 before" in line
    assert "python 3.11" in line and "nnsight" not in line
    (changed,) = lines(report.page([other()]), "**A**")
    assert "commit fedcba987654 with changes" in changed


def test_details_are_told_in_words() -> None:
    page = report.page([RUN])
    assert "- whole | work (A): same: yes; parts: 1, 2.5" in page


def test_a_later_run_takes_the_place_of_the_rows_that_it_measured() -> None:
    runs = report.merged([RUN, other(P9={"value": 0.05})])
    assert [[row["name"] for row in run["rows"]] for run in runs] == [["P1", "P2"], ["P9"]]
    page = report.page(runs)
    assert "| 0.05 s |" in lines(page, "| P9")[0] and lines(page, "| P9")[0].endswith("| B |")


def test_a_row_that_could_not_be_measured_takes_the_place_of_none_that_was() -> None:
    measured = other(P2={"value": 50.0, "unit": "%", "not_measured": None, "reached": True})
    runs = report.merged([measured, RUN])
    assert [[row["name"] for row in run["rows"]] for run in runs] == [["P2"], ["P9", "P1"]]
    assert report.merged([RUN, measured])[1]["rows"][1]["value"] == 50.0


def test_the_page_is_written_with_its_json_and_made_again_from_it(tmp_path: Path) -> None:
    results = tmp_path / "latest.json"
    results.write_text(json.dumps(RUN), "utf-8")
    assert report.main([str(results), "--page", str(tmp_path / "performance.md")]) == 0
    kept = json.loads((tmp_path / "performance.json").read_text("utf-8"))
    assert report.page(kept["runs"]) == (tmp_path / "performance.md").read_text("utf-8")


@pytest.mark.parametrize(("content", "said"), [(None, "does not exist; make it"), ({"rows": []}, "lacks created")])
def test_what_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str) -> None:
    results = tmp_path / "latest.json"
    if content is not None:
        results.write_text(json.dumps(content), "utf-8")
    assert report.main([str(results), "--page", str(tmp_path / "performance.md")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "performance.md").exists()


def test_the_page_of_the_documentation_is_the_one_that_its_runs_make() -> None:
    kept = json.loads(report.KEPT.read_text("utf-8"))
    assert report.page(kept["runs"]) == report.PAGE.read_text("utf-8")
