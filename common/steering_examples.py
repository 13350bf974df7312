"""Readable examples of what steering did to single problems: JSON for programs, Markdown with diffs for people.

The code in them was written by a model and is not trusted: in Markdown it stands inside fences longer than any row of
backticks in it, with every character that does not print (also those that reorder text) written as an escape. The JSON
holds it as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from common.runs.files import write_bytes, write_json

Flip = Literal["fix", "break", "none"]

NO_CODE = "(no code)"
SIMILARITIES = ("token_similarity", "char_similarity", "length_ratio")
_STATE = {True: "passed", False: "failed", None: "was not judged"}


def flip_of(row: Mapping[str, Any]) -> Flip:
    """Returns whether steering turned a failure into a pass (`fix`), a pass into a failure (`break`), or neither.

    A row that was not judged in one of the arms is neither.
    """
    before, after = row["baseline_passed"], row["test_passed"]
    if before is None or after is None or before == after:
        return "none"
    return "fix" if after else "break"


def pick(rows: Sequence[Mapping[str, Any]], flip: Flip, most: int) -> list[Mapping[str, Any]]:
    """Returns the first `most` rows of a flip by task id, of those that enter rates (not left out, judged)."""
    judged = [row for row in rows if row["left_out"] is None and row["test_passed"] is not None]
    return _ordered([row for row in judged if flip_of(row) == flip])[:most]


def write_examples(directory: Path, name: str, title: str, note: str, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Writes `{name}.json` and, with diffs, `{name}.md` into `directory` and returns both paths.

    `rows` are those of a steering phase's results with their problem's `text` and `test_list`, and similarities where
    given; they are written in order of task id and condition. `note` is one line that says how many of how many are
    shown.
    """
    examples = [_example(row) for row in _ordered(rows)]
    as_json, as_markdown = directory / f"{name}.json", directory / f"{name}.md"
    write_json(as_json, examples)
    write_bytes(as_markdown, _markdown(title, note, examples).encode("utf-8"))
    return [as_json, as_markdown]


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: (row["task_id"], row["condition"]))


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task_id": row["task_id"],
        "text": row["text"],
        "tests": list(row["test_list"]),
        "condition": row["condition"],
        "coefficient": row["coefficient"],
        "baseline_passed": row["baseline_passed"],
        "steered_passed": row["test_passed"],
        "flip": flip_of(row),
        "left_out": row["left_out"],
        "outcome": row["outcome"],
        "failure_mode": row["failure_mode"],
        "error_message": row["error_message"],
        **{name: row[name] for name in SIMILARITIES if name in row},
        "baseline_code": row["baseline_code"],
        "generated_code": row["generated_code"],
    }


def _markdown(title: str, note: str, examples: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"# {_plain(title)}", _plain(note)]
    for example in examples:
        parts += [f"## Task {example['task_id']}: {_what_happened(example)}", *_section(example)]
    return "\n\n".join(parts) + "\n"


def _what_happened(example: Mapping[str, Any]) -> str:
    before, after = _STATE[example["baseline_passed"]], _STATE[example["steered_passed"]]
    change = {"fix": "fixed", "break": "broken", "none": "no change"}[example["flip"]]
    if None in (example["baseline_passed"], example["steered_passed"]):
        change = "not compared"
    mode = example["failure_mode"]
    how = f" ({_plain(mode)})" if example["steered_passed"] is False and mode else ""
    return f"{change} — baseline {before}, steered {after}{how}"


def _section(example: Mapping[str, Any]) -> list[str]:
    lines = [f"Condition {_plain(example['condition'])}, coefficient {example['coefficient']:g}.{_similar(example)}"]
    if example["left_out"] is not None:
        lines.append(f"Left out of every rate: {_plain(example['left_out'])}.")
    lines += [_fenced("text", example["text"]), _fenced("python", "\n".join(example["tests"]))]
    if example["error_message"]:
        lines += ["Steered code ended with:", _fenced("text", example["error_message"])]
    return [*lines, *_changed(_code_lines(example["baseline_code"]), _code_lines(example["generated_code"]))]


def _similar(example: Mapping[str, Any]) -> str:
    given = [f"{name.replace('_', ' ')} {example[name]:.2f}" for name in SIMILARITIES if example.get(name) is not None]
    return f" Against the baseline: {', '.join(given)}." if given else ""


def _code_lines(code: str | None) -> list[str]:
    return _visible(code).splitlines() if code and code.strip() else [NO_CODE]


def _changed(baseline: list[str], steered: list[str]) -> list[str]:
    """Returns the diff, all lines of both sides shown; where nothing changed, that and the code."""
    if baseline == steered:
        return ["The code did not change.", _fenced("python", "\n".join(steered))]
    whole = len(baseline) + len(steered)
    lines = difflib.unified_diff(baseline, steered, "baseline", "steered", n=whole, lineterm="")
    return [_fenced("diff", "\n".join(lines))]


def _fenced(language: str, text: str) -> str:
    shown = _visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _plain(text: str) -> str:
    """One line of running text in which nothing is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|&!~])", r"\\\1", " ".join(_visible(text).split()))


def _visible(text: str) -> str:
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)
