from __future__ import annotations

from pathlib import Path

import pytest

from cli.parser import build_parser, resolved_config, run_options
from common.errors import UsageError
from common.runs.options import RunOptions
from tests.cli.helpers import Here, refusal

pytestmark = pytest.mark.unit


def options(*words: str) -> RunOptions:
    parsed = build_parser().parse_args(["phase", "4.5", *words])
    return run_options(parsed, resolved_config(parsed))


# --- --select


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--select", "correct=30", "incorrect=100"], {"correct": 30.0, "incorrect": 100.0}),
        (["--select", "incorrect=0.5"], {"incorrect": 0.5}),
        (["--select", "correct=-3"], {"correct": -3.0}),
        (["--select", "correct=1e3"], {"correct": 1000.0}),
        (["--select", "correct=0"], {"correct": 0.0}),
        (["--select", "correct=suggested", "incorrect=7"], {"correct": None, "incorrect": 7.0}),
        (["--select", "correct=1", "--select", "incorrect=2"], {"correct": 1.0, "incorrect": 2.0}),
        ([], {}),
    ],
)
def test_a_coefficient_is_chosen_for_either_direction(words: list[str], chosen: dict[str, float | None]) -> None:
    found = options(*words)
    assert dict(found.select) == chosen and len(found.select) == len(chosen)


@pytest.mark.parametrize(
    "text",
    [
        *("correct", "correct=", "=30", "right=30", "correct:30", "correct=strong", "correct=nan", "correct=inf"),
        *("correct=-inf", "correct=1e999", "correct=3,5", "correct=Suggested", "Correct=30", "30"),
    ],
)
def test_what_is_no_choice_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        options("--select", text)
    assert str(caught.value) == f"--select {text}: write --select correct=30 incorrect=100, or correct=suggested"


@pytest.mark.parametrize("words", [["correct=1", "correct=2"], ["correct=1", "--select", "correct=suggested"]])
def test_two_choices_for_one_direction_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"give each direction \(correct, incorrect\) one coefficient"):
        options("--select", *words)


@pytest.mark.parametrize("phase", ["3.8", "4.8", "7.6"])
def test_phases_that_choose_nothing_refuse_a_choice(phase: str, tmp_path: Path, here: Here) -> None:
    answer = here("phase", phase, "--profile", "organism", "--data-dir", tmp_path, "--select", "correct=3")
    assert refusal(answer) == f"error: phase {phase} chooses no coefficient: leave --select out"


# --- --full


@pytest.mark.parametrize("command", [["phase", "4.8"], ["pipeline"], ["plan"], ["status"], ["show-config"]])
def test_every_command_that_reads_settings_can_be_full(command: list[str]) -> None:
    for words, full in (([], False), (["--full"], True)):
        parsed = build_parser().parse_args([*command, "--profile", "organism", *words])
        resolved = resolved_config(parsed)
        assert resolved.config.full is full
        assert resolved.sources["full"] == ("command line" if full else "default")


def test_without_the_option_what_the_environment_says_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVA_SAE_FULL", "1")
    parsed = build_parser().parse_args(["plan", "--profile", "organism"])
    assert resolved_config(parsed).config.full is True
    assert resolved_config(build_parser().parse_args(["plan", "--set", "full=false"])).config.full is False
