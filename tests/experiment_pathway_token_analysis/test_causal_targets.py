"""What is refused of the prompts that a user gives, in one line that says which and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import PipelineError
from experiment_pathway_token_analysis.src.causal_targets import read_prompts
from tests.experiment_pathway_token_analysis.runs import run_in

pytestmark = pytest.mark.unit


def prompts() -> list[dict[str, Any]]:
    """Returns prompts that are as they should be."""
    return [
        {"id": f"{name}-{split}-{place}", "class": name, "prompt": f"{name} {split} {place}", "split": split}
        for name in ("correct", "incorrect")
        for split in ("select", "validate")
        for place in range(2)
    ]


def refused(tmp_path: Path, content: str) -> str:
    run = run_in(tmp_path)
    run.paths.prompts.parent.mkdir(parents=True)
    run.paths.prompts.write_text(content)
    with pytest.raises(PipelineError) as caught:
        read_prompts(run)
    assert str(run.paths.prompts) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_prompts_as_they_should_be_are_taken_in_order(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.paths.prompts.parent.mkdir(parents=True)
    run.paths.prompts.write_text(json.dumps({"prompts": prompts()}))
    found = read_prompts(run)
    assert [prompt.id for prompt in found.all] == [item["id"] for item in prompts()]
    assert [prompt.number for prompt in found.all] == [0] * 4 + [1] * 4
    assert found.rows(selects=True) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda all: all[3].pop("class"), "entry 3 has no class"),
        (lambda all: all.insert(0, "text"), "entry 0 has no id, class, prompt, split"),
        (lambda all: all[0].update({"class": "safe"}), "class 'safe' is none of correct, incorrect"),
        (lambda all: all[0].update({"class": ["correct"]}), "class ['correct'] is none of"),
        (lambda all: all[0].update(split="train"), "split 'train' is neither 'select' nor 'validate'"),
        (lambda all: all[0].update(prompt=" \n"), "prompt 'correct-select-0' is empty"),
        (lambda all: all[0].update(prompt="a\ud800b"), "prompt 'correct-select-0' holds half a character"),
        (lambda all: all[0].update(prompt=5), "prompt 'correct-select-0' is empty"),
        (lambda all: all[1].update(id=all[0]["id"]), "names a prompt twice"),
        (
            lambda all: all[6].update(prompt=all[0]["prompt"]),
            "and 'incorrect-validate-0' are the same text",
        ),
        (lambda all: all.__delitem__(slice(4, 8)), "has no prompt of class 'incorrect' in the split 'select'"),
        (lambda all: all.__delitem__(slice(6, 8)), "has no prompt of class 'incorrect' in the split 'validate'"),
        (lambda all: all.clear(), "has no prompt of class 'correct'"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(
    tmp_path: Path, spoil: Callable[[list[Any]], object], message: str
) -> None:
    given = prompts()
    spoil(given)
    assert message in refused(tmp_path, json.dumps({"prompts": given}))


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"prompts": null}', '{"prompt": []}', '{"prompts": 5}'])
def test_a_file_that_holds_no_prompts_is_refused(tmp_path: Path, content: str) -> None:
    assert "does not hold prompts" in refused(tmp_path, content)
