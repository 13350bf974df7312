from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.statistics.detection import classification_at
from common.statistics.detection_report import detection_report, rival_report
from phase3_8.summary_text import summary_text

pytestmark = pytest.mark.unit

SCORES = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1.5, 2.5])
POSITIVE = np.array([False, False, True, True, False, True, True, False])
GROUPS = np.arange(8)


def report(**changes: Any) -> dict[str, Any]:
    """One direction's report with two rivals, two temperatures and a difficulty without rows."""
    whole = detection_report(SCORES, POSITIVE, GROUPS, 2.0, 0, 100)
    empty = detection_report(SCORES[:0], POSITIVE[:0], GROUPS[:0], 2.0, 0, 100)
    many = rival_report(SCORES, np.column_stack([SCORES, -SCORES, SCORES**2]), POSITIVE, GROUPS, 0, 100)
    one = rival_report(SCORES, SCORES[:, None] % 3, POSITIVE, GROUPS, 0, 100)
    fields = {
        "feature": {"layer": 3, "index": 17},
        "positive": "failed",
        "threshold": {"threshold": 2.0, "n": 30, "f1": 0.7, "f1_all_positive": 0.6, "reason": None},
        "validation": whole,
        "by_temperature": [{"group": 0.0, **whole}, {"group": 0.6, **whole}],
        "by_difficulty": [{"group": "1", **whole}, {"group": "4+", **empty}],
        "rivals": {"prompt length": {**one, "detection": whole}, "random directions": many},
    }
    return {**fields, **changes}


def text(**changes: Any) -> str:
    return summary_text({"directions": {"incorrect": report(**changes)}})


def tables(said: str) -> list[list[list[str]]]:
    """The tables of a summary: per table its lines, cut at the columns that the ruler shows."""
    lines, found = said.splitlines(), []
    for number, line in enumerate(lines):
        if line.startswith("─"):
            widths = [len(part) for part in line.split("  ")]
            starts = [sum(widths[:column]) + 2 * column for column in range(len(widths))]
            rows = [lines[number - 1]]
            for row in lines[number + 1 :]:
                if not row:
                    break
                rows.append(row)
            found.append(
                [[row[at : at + size].strip() for at, size in zip(starts, widths, strict=True)] for row in rows]
            )
    return found


def test_every_row_of_every_table_has_its_number_of_rows() -> None:
    found = tables(text())
    assert [len(table) for table in found] == [4, 3, 3]
    for header, *rows in found:
        for row in rows:
            assert row[header.index("n")] in ("8", "0"), row


def test_f1_stands_beside_the_f1_of_calling_everything_positive() -> None:
    at = classification_at(SCORES, POSITIVE, 2.0)
    for header, *rows in tables(text()):
        assert header.index("all") == header.index("F1") + 1
        for row in rows:
            f1, trivial = row[header.index("F1")], row[header.index("all")]
            assert (f1 in ("", "–")) == (trivial in ("", "–"))
            if f1 not in ("", "–"):
                assert (f1, trivial) == (f"{at.f1:.3f}", f"{at.f1_all_positive:.3f}")


def test_the_figures_stand_under_their_names() -> None:
    header, feature, rival, random = tables(text())[0]
    at, row = classification_at(SCORES, POSITIVE, 2.0), dict(zip(header, feature, strict=True))
    named = {"precision": at.precision, "recall": at.recall, "balanced": at.balanced_accuracy, "MCC": at.matthews}
    assert {name: row[name] for name in named} == {name: f"{value:.3f}" for name, value in named.items()}
    assert (feature[0], rival[0]) == ("the feature", "prompt length")
    assert random[0] == "random directions (3): median [range]"
    assert row["feature ahead by"] == "" and rival[-1] != ""


def test_a_group_without_rows_has_dashes_and_no_zeros() -> None:
    header, _, empty = tables(text())[2]
    assert empty[0] == "complexity 4+"
    assert empty[1:4] == ["0", "0", "0"]
    assert set(empty[4:]) == {"–"} and len(empty) == len(header)


def test_a_threshold_that_was_not_chosen_says_why_and_leaves_figures_out() -> None:
    nothing = {"threshold": None, "reason": "no positive row among 30", "n": 30, "f1": None, "f1_all_positive": None}
    said = text(threshold=nothing, validation=detection_report(SCORES, POSITIVE, GROUPS, None, 0, 100))
    assert "threshold not chosen: no positive row among 30" in said
    header, feature, *_ = tables(said)[0]
    assert feature[header.index("F1")] == feature[header.index("all")] == "–"
    assert feature[header.index("AUROC")].startswith("0.")


def test_the_threshold_comes_with_its_split_and_both_f1_on_it() -> None:
    said = text()
    assert "incorrect-preferring feature: layer 3, feature 17" in said
    assert "positive: solutions that failed; threshold 2 (hyperparameter split, n = 30: F1 0.700" in said
    assert "everything positive 0.600" in said
