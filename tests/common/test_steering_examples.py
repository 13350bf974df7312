from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common.steering_examples import NO_CODE, flip_of, pick, write_examples

pytestmark = pytest.mark.unit

BEFORE = "def double(x):\n    return x + 2\n"
AFTER = "def double(x):\n    return x * 2\n"


def row(task_id: int = 7, **other: Any) -> dict[str, Any]:
    return {
        "position": 0,
        "task_id": task_id,
        "text": "Write a function to double a number.",
        "test_list": ["assert double(3) == 6", "assert double(0) == 0"],
        "condition": "correct_30",
        "coefficient": 30.0,
        "baseline_passed": False,
        "test_passed": True,
        "left_out": None,
        "outcome": "passed",
        "failure_mode": "passed",
        "error_message": None,
        "baseline_code": BEFORE,
        "generated_code": AFTER,
        **other,
    }


def written(directory: Path, *rows: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    as_json, as_markdown = write_examples(directory, "correct_30", "Correct, 30", "1 of 12 fixes", rows)
    return json.loads(as_json.read_text(encoding="utf-8")), as_markdown.read_text(encoding="utf-8")


def blocks(markdown: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block by CommonMark: a fence closes with one at least as long."""
    found: list[tuple[str, str]] = []
    opening, language, content = "", "", []
    for line in re.split(r"\r\n|\n|\r", markdown):
        fence = re.match(r" {0,3}(`{3,}|~{3,})([^`]*)$", line)
        if not opening and fence:
            opening, language, content = fence[1], fence[2], []
        elif opening and fence and fence[1][0] == opening[0] and len(fence[1]) >= len(opening) and not fence[2].strip():
            found.append((language, "\n".join(content)))
            opening = ""
        elif opening:
            content.append(line)
    assert not opening, "a fence stays open"
    return found


def outside(markdown: str) -> str:
    for _, content in blocks(markdown):
        markdown = markdown.replace(content, "", 1)
    return markdown


def test_the_json_holds_what_happened_to_each_problem(tmp_path: Path) -> None:
    given = row(error_message="", char_similarity=0.5)
    (example,), _ = written(tmp_path, given)
    assert example == {
        "task_id": 7,
        "text": "Write a function to double a number.",
        "tests": ["assert double(3) == 6", "assert double(0) == 0"],
        "condition": "correct_30",
        "coefficient": 30.0,
        "baseline_passed": False,
        "steered_passed": True,
        "flip": "fix",
        "left_out": None,
        "outcome": "passed",
        "failure_mode": "passed",
        "error_message": "",
        "char_similarity": 0.5,
        "baseline_code": BEFORE,
        "generated_code": AFTER,
    }


def test_the_markdown_shows_problem_tests_and_a_diff_of_the_whole_code(tmp_path: Path) -> None:
    _, text = written(tmp_path, row(token_similarity=0.875))
    assert text.startswith("# Correct, 30\n\n1 of 12 fixes\n\n## Task 7: fixed — baseline failed, steered passed\n")
    assert "coefficient 30. Against the baseline: token similarity 0.88." in text
    assert blocks(text) == [
        ("text", "Write a function to double a number."),
        ("python", "assert double(3) == 6\nassert double(0) == 0"),
        (
            "diff",
            "--- baseline\n+++ steered\n@@ -1,2 +1,2 @@\n def double(x):\n-    return x + 2\n+    return x * 2",
        ),
    ]


def test_every_line_of_long_code_is_shown(tmp_path: Path) -> None:
    before = "\n".join(f"line_{number} = 0" for number in range(60))
    _, text = written(tmp_path, row(baseline_code=before, generated_code=before.replace("line_59 = 0", "line_59 = 1")))
    diff = blocks(text)[-1][1]
    assert all(f" line_{number} = 0" in diff for number in range(59)) and diff.count("@@") == 2


@pytest.mark.parametrize("empty", [None, "", " \n"])
def test_missing_code_is_said(empty: str | None, tmp_path: Path) -> None:
    failing = row(generated_code=empty, test_passed=False, outcome="no_function", failure_mode="no_code")
    (example,), text = written(tmp_path, failing)
    assert example["generated_code"] == empty
    assert f"\n+{NO_CODE}" in blocks(text)[-1][1]
    assert "## Task 7: no change — baseline failed, steered failed (no\\_code)" in text
    _, both = written(tmp_path, row(generated_code=empty, baseline_code=empty))
    assert "The code did not change." in both and blocks(both)[-1] == ("python", NO_CODE)


def test_unchanged_code_is_shown_once(tmp_path: Path) -> None:
    _, text = written(tmp_path, row(generated_code=BEFORE, test_passed=False))
    assert blocks(text)[-1] == ("python", BEFORE.rstrip("\n")) and "The code did not change." in outside(text)


@pytest.mark.parametrize(
    "attack",
    [
        "```\n# heading\n<script>x</script>",
        "`````\n[link](http://example.org)",
        "x = 1\r```\r# heading",
        "~~~\n# heading",
        "a\x0b```\x0c# heading\u2028```\x85",
        "\x1b[31mcrimson\x00\x07",
        "access = 'user\u202e \u2066# admin\u2069 \u2066'",
    ],
)
@pytest.mark.parametrize("where", ["generated_code", "baseline_code", "error_message", "text", "test_list"])
def test_nothing_untrusted_leaves_its_fence(where: str, attack: str, tmp_path: Path) -> None:
    hostile = [attack] if where == "test_list" else attack
    (example,), text = written(tmp_path, row(error_message="plain").copy() | {where: hostile})
    assert example["tests" if where == "test_list" else where] == hostile, "the JSON holds the text as it is"
    assert [language for language, _ in blocks(text)] == ["text", "python", "text", "diff"]
    for piece in ("heading", "script", "link", "crimson", "admin"):
        assert piece not in outside(text)
    assert all(one.isprintable() or one == "\n" for one in text), "no character that hides or reorders text"


def test_running_text_is_no_markup(tmp_path: Path) -> None:
    names = row(left_out="baseline longer\n# than <b>", failure_mode="a*b*", test_passed=False)
    _, text = written(tmp_path, names)
    assert "Left out of every rate: baseline longer \\# than \\<b\\>." in text
    assert "(a\\*b\\*)" in text


@pytest.mark.parametrize(
    ("before", "after", "flip"),
    [
        (False, True, "fix"),
        (True, False, "break"),
        (True, True, "none"),
        (False, False, "none"),
        (None, True, "none"),
        (True, None, "none"),
    ],
)
def test_flips_are_named_by_what_changed(before: bool | None, after: bool | None, flip: str) -> None:
    assert flip_of(row(baseline_passed=before, test_passed=after)) == flip


def test_an_unjudged_row_is_not_called_unchanged(tmp_path: Path) -> None:
    excluded = row(test_passed=None, outcome=None, failure_mode=None, generated_code=None, left_out="generation failed")
    _, text = written(tmp_path, excluded)
    assert "## Task 7: not compared — baseline failed, steered was not judged\n" in text


def test_the_first_of_a_flip_by_task_id_are_picked_from_the_rows_that_enter_rates() -> None:
    rows = [
        row(9),
        row(3),
        row(1, left_out="baseline longer than the limit"),
        row(2, test_passed=False),
        row(4, baseline_passed=True, test_passed=False),
        row(5, baseline_passed=True, test_passed=None),
        row(6),
    ]
    assert [one["task_id"] for one in pick(rows, "fix", 2)] == [3, 6]
    assert [one["task_id"] for one in pick(rows, "fix", 99)] == [3, 6, 9]
    assert [one["task_id"] for one in pick(rows, "break", 99)] == [4]
    assert [one["task_id"] for one in pick(rows, "none", 99)] == [2]
    assert pick(rows, "fix", 0) == []


def test_the_order_is_that_of_task_ids_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(9), row(3, condition="b"), row(3, condition="a")]
    examples, text = written(tmp_path / "one", *rows)
    assert [(one["task_id"], one["condition"]) for one in examples] == [(3, "a"), (3, "b"), (9, "correct_30")]
    assert written(tmp_path / "two", *reversed(rows)) == (examples, text)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["correct_30.json", "correct_30.md"]


def test_no_rows_give_an_empty_list_and_the_note(tmp_path: Path) -> None:
    assert written(tmp_path) == ([], "# Correct, 30\n\n1 of 12 fixes\n")
