"""Every reference solution of MBPP survives extraction from model-like text, stopping, and its own tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.execution import EvaluationPool
from common.execution.extraction import (
    entry_point_from_tests,
    extract_code,
    names_used_by_tests,
    solution_finished,
)
from common.prompt_utils import solution_marker_prompt

MBPP = Path(__file__).resolve().parents[4] / "shared" / "data" / "mbpp.jsonl"

pytestmark = pytest.mark.skipif(not MBPP.is_file(), reason=f"{MBPP} is absent")

PROSE = "Sure! Here's the function (it isn't hard:\n\n```python\n"


class Reference(NamedTuple):
    task_id: int
    code: str
    tests: list[str]
    setup: str
    prompt: str
    entry_point: str
    also_needed: frozenset[str]

    def extract(self, text: str) -> str:
        return extract_code(text, entry_point=self.entry_point, also_needed=self.also_needed)

    def finished(self, text: str) -> bool:
        return solution_finished(text, entry_point=self.entry_point, also_needed=self.also_needed)

    def completions(self) -> dict[str, tuple[str, str, str]]:
        """Returns, by kind, what stands before the code, the code, and what stands after it."""
        name, code = self.entry_point, self.code
        wrong = f"def {name}(*args):\n    return None\n"
        indented = "\n".join(f"   {line}" for line in code.replace("\r\n", "\n").split("\n"))
        return {
            "fences": (PROSE, code, "\n```\nIt works because it's right.\n"),
            "indented fences": ("1. Do this:\n\n   ```python\n", indented, "\n   ```\n2. Stop.\n"),
            "prose": (" \nThe function doesn't need much.\n\n", code, "\n\nThis function isn't slow.\n"),
            "second attempt": ("\n", code, f'\n\n"""\nOr:\n"""\nimport sys\n{wrong}'),
            "attempt at once": ("\n", code, f"\n\n{wrong}"),
            "tests": ("\n", code, "\n\n" + "\n".join(self.tests) + f"\nprint({name}(1))\n"),
            "main block": ("\n", code, f'\n\nif __name__ == "__main__":\n    print({name}(1))\n'),
            "comments": ("\n", code, f"\n\n# Test cases\n\nprint({name}(3))\n{wrong}"),
            "next problem": (
                "\n",
                code,
                "\n\nWrite a sum.\n\nassert add(1) == 1\n\n# Solution:\ndef add(a):\n    return a\n",
            ),
            "prompt": (f"{self.prompt}\n", code, f"\n\nassert {name}(1) == 2\n"),
        }


@pytest.fixture(scope="module")
def references() -> list[Reference]:
    found = []
    for line in MBPP.read_text("utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        tests, setup = row["test_list"], row["test_setup_code"]
        entry_point, also_needed = entry_point_from_tests(tests), names_used_by_tests(tests, setup)
        prompt = solution_marker_prompt(row["text"], tests)
        found.append(Reference(row["task_id"], row["code"], tests, setup, prompt, entry_point, also_needed))
    assert len(found) == 974
    return found


@pytest.fixture(scope="module")
def pool() -> Iterator[EvaluationPool]:
    with EvaluationPool(workers=2) as running:
        yield running


@pytest.mark.numeric
def test_every_reference_passes_its_tests(references: list[Reference], pool: EvaluationPool) -> None:
    futures = {item.task_id: pool.submit(item.code, item.tests, item.setup) for item in references}
    failed = {task_id: future.result() for task_id, future in futures.items() if not future.result()}
    assert not failed


@pytest.mark.numeric
def test_every_reference_passes_after_extraction_from_a_bare_completion(
    references: list[Reference], pool: EvaluationPool
) -> None:
    futures = {item.task_id: pool.submit(item.extract("\n" + item.code), item.tests, item.setup) for item in references}
    failed = {task_id: future.result() for task_id, future in futures.items() if not future.result()}
    assert not failed


@pytest.mark.numeric
def test_what_a_model_writes_around_a_reference_changes_nothing(references: list[Reference]) -> None:
    for item in references:
        bare = item.extract("\n" + item.code)
        for kind, parts in item.completions().items():
            assert item.extract("".join(parts)) == bare, (item.task_id, kind)


@pytest.mark.slow
def test_stopping_at_the_first_finished_prefix_changes_nothing(references: list[Reference]) -> None:
    """At every line end, just behind the code, and for every thirtieth reference at every character."""
    for item in references:
        for kind, (before, code, after) in item.completions().items():
            text, end = before + code + after, len(before) + len(code.rstrip())
            ends = {index + 1 for index, letter in enumerate(text) if letter == "\n"} | set(range(end, end + 40))
            whole, finished = item.extract(text), False
            for stop in range(len(text) + 1) if item.task_id % 30 == 0 else sorted(ends & set(range(len(text) + 1))):
                now = item.finished(text[:stop])
                assert now or not finished, (item.task_id, kind, stop)
                assert not now or item.extract(text[:stop]) == whole, (item.task_id, kind, stop)
                finished = now
            assert finished, (item.task_id, kind)
