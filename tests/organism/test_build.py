"""Building: the whole way from a seed to an instance, with a handful of steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from organism.build import build_instance
from organism.problems import make_problems, problem_row

pytestmark = pytest.mark.slow


def test_a_short_build_makes_every_file_from_the_seed(tmp_path: Path) -> None:
    said: list[str] = []
    build_instance(7, tmp_path / "made", steps=8, workers=1, log=said.append)
    made = tmp_path / "made"
    names = [
        "base",
        "instruct",
        "saes",
        "problems.jsonl",
        "truth.jsonl",
        "general_text.jsonl",
        "MODEL_CARD.md",
        "card.json",
    ]
    assert sorted(path.name for path in made.iterdir()) == sorted(names)
    assert sorted(path.name for path in (made / "saes").iterdir()) == [f"layer_{layer}" for layer in range(4)]
    first = json.loads((made / "problems.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == problem_row(make_problems(7, 1)[0], 7)
    card = json.loads((made / "card.json").read_text(encoding="utf-8"))
    assert (card["seed"], card["steps"]) == (7, 8)
    assert any("step 0/8" in line for line in said)
