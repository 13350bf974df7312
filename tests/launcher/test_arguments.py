from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

import cli.parser
from cli.parser import phase_options, resolved_config, run_options
from common.phases import get_phase
from common.profiles import REPOSITORY
from common.runs.options import RunOptions
from common.runs.slices import Span
from launcher.arguments import Commands, build_parser, passed_on

pytestmark = pytest.mark.unit
EVERYTHING = {
    "--start": ["0"],
    "--end": ["31"],
    "--input": ["2.5={root}"],
    "--inputs-from": ["{root}"],
    "--split": ["hyperparams"],
    "--feature": ["correct=1:2", "incorrect=2:3"],
    "--select": ["correct=-3", "incorrect=suggested"],
    "--fresh": [],
    "--allow-partial": [],
    "--profile": ["organism"],
    "--model": ["some/model"],
    "--data-dir": ["{root}/data"],
    "--batch-size": ["16"],
    "--dtype": ["float32"],
    "--site": ["resid_pre"],
    "--prompt-format": ["chat"],
    "--sandbox": ["strict"],
    "--full": [],
    "--set": ["phase4_5_coefficients=-1,2"],
    "--config": ["{root}/settings.toml"],
}
MORE = ("--set", "seed=7", "--input", "3.6={root}")


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line with every option of a phase, once or twice."""
    (tmp_path / "settings.toml").write_text("max_retries = 1\n")
    words = [word for option, values in EVERYTHING.items() for word in (option, *values)]
    words = [word.format(root=tmp_path) for word in (*words, *MORE)]
    monkeypatch.setattr(sys, "argv", ["./multi_gpu_launcher.py", "--phase", "4.5", *words])
    return words


def commands(words: list[str]) -> Commands:
    return Commands(get_phase("4.5"), build_parser().parse_args(["--phase", "4.5", *words]))


def understood(command: tuple[str, ...]) -> argparse.Namespace:
    """What `run.py` makes of a command."""
    assert command[:2] == (sys.executable, str(REPOSITORY / "run.py"))
    return cli.parser.build_parser().parse_args(list(command[2:]))


def asked(parsed: argparse.Namespace) -> RunOptions:
    return run_options(parsed, resolved_config(parsed))


def test_the_command_line_of_the_test_has_every_option_of_a_phase() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    phase_options(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    assert known == {*EVERYTHING, "--dry-run", "--device"}


def test_every_option_reaches_the_process_that_opens_the_phase_and_the_one_that_merges(given: list[str]) -> None:
    made = commands(given)
    direct = understood((sys.executable, str(REPOSITORY / "run.py"), "phase", "4.5", *given))
    opening, merging = understood(made.opening("cuda:0")), understood(made.merging("cuda:0"))
    for parsed in (opening, merging):
        assert {**vars(parsed), "command": None} == {
            **vars(direct),
            **{"command": None, "device": "cuda:0", "go_on": made.go_on},
            **{"open": parsed is opening, "merge": parsed is merging, "fresh": parsed is opening},
        }
    assert asked(opening).open and asked(merging).merge


def test_a_worker_gets_its_slice_and_nothing_that_means_the_whole(given: list[str]) -> None:
    parsed = understood(
        commands(given).worker("cuda:0", Span(32, 63), 8, "--set", "evaluation_workers=3", "--sandbox", "2")
    )
    assert (parsed.start, parsed.end, parsed.worker, parsed.batch_size, parsed.device) == (32, 63, True, "8", "cuda:0")
    assert parsed.select is None and not (parsed.fresh or parsed.open or parsed.merge or parsed.dry_run)
    config = resolved_config(parsed).config
    assert (config.batch_size, config.evaluation_workers, config.seed, config.max_retries) == (8, 3, 7, 1)
    assert config.sandbox == "2"
    assert [item.phase for item in asked(parsed).inputs] == ["2.5", "3.6"]


def test_the_command_to_go_on_is_the_one_that_was_typed_without_fresh(given: list[str]) -> None:
    made = commands(given)
    words = [word for word in given if word != "--fresh"]
    assert made.go_on.split()[:4] == ["python3", "multi_gpu_launcher.py", "--phase", "4.5"]
    assert made.go_on.split()[4:] == words


def test_a_dry_run_stays_one(given: list[str]) -> None:
    made = commands([*given, "--dry-run"])
    assert understood(made.opening("cpu")).dry_run and understood(made.whole("cpu")).dry_run


def test_abbreviated_options_are_passed_on_in_full() -> None:
    parsed = build_parser().parse_args(["--phase", "4.5", "--allow", "--data", "here", "--verbose"])
    assert list(passed_on(parsed, ())) == ["--allow-partial", "--data-dir=here"]
    assert Commands(get_phase("4.5"), parsed).opening("cpu")[2:5] == ("--verbose", "phase", "4.5")
