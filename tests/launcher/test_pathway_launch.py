"""The launcher on step 3 of the pathway analysis: the commands that it starts, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cli.parser
from common.phases import PATHWAY
from common.profiles import REPOSITORY
from common.runs.slices import Span
from launcher.arguments import Commands, build_parser
from launcher.main import main

pytestmark = pytest.mark.unit
GIVEN = (
    *("--profile", "organism", "--data-dir", "somewhere", "--set", "replay.alpha=0.01", "--set", "max_retries=1"),
    *("--limit", "5", "--force", "--pathway-config", "mine.yaml", "--dtype", "float32", "--batch-size", "8"),
)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    words = ["--phase", "pathway", *GIVEN, "--fresh"]
    monkeypatch.setattr(sys, "argv", ["./multi_gpu_launcher.py", *words])
    return Commands(PATHWAY, build_parser().parse_args(words))


def test_every_process_runs_step_3_under_the_same_options(commands: Commands) -> None:
    for command in (commands.opening("cpu"), commands.worker("cpu", Span(5, 9), 32), commands.merging("cpu")):
        assert command[:2] == (sys.executable, str(REPOSITORY / "run.py"))
        parsed = cli.parser.build_parser().parse_args(list(command[2:]))
        assert (parsed.first, parsed.last, parsed.limit, parsed.force) == (3, 3, 5, True)
        assert parsed.set == ["replay.alpha=0.01", "max_retries=1"] and parsed.data_dir == "somewhere"
        assert parsed.pathway_config == Path("mine.yaml") and parsed.batch_size == "8" and parsed.device == "cpu"
        assert "--phase pathway" in parsed.go_on and "--fresh" not in parsed.go_on


def test_only_opening_puts_aside_and_only_workers_have_a_span(commands: Commands) -> None:
    opening, worker, merging = (
        cli.parser.build_parser().parse_args(list(command[2:]))
        for command in (commands.opening("cpu"), commands.worker("cpu", Span(5, 9), 32), commands.merging("cpu"))
    )
    assert (opening.open, opening.fresh) == (True, True) and (merging.merge, merging.fresh) == (True, False)
    assert (worker.worker, worker.fresh, worker.start, worker.end) == (True, False, 5, 9)
    assert (opening.start, merging.start) == (None, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--phase", "pathway", "--split", "sae"], "--split: it means nothing to the pathway analysis"),
        (["--phase", "pathway", "--site", "resid_pre"], "--site: it means nothing to the pathway analysis"),
        (["--phase", "pathway", "--allow-partial", "--select", "correct=3"], "--allow-partial, --select: it means"),
        (["--phase", "1.0", "--limit", "3"], "--limit: it means something to --phase pathway alone"),
        (["--phase", "1.0", "--force"], "--force: it means something to --phase pathway alone"),
        (["--phase", "pathway"], "step 3 needs step 0 (data audit), which has not run"),
        (["--phase", "pathway", "--start", "3", "--end", "2"], "--start 3 comes after --end 2"),
        (["--phase", "pathway", "--set", "replay.alph=1"], "unknown key 'alph'"),
    ],
)
def test_what_cannot_be_launched_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--profile", "organism", "--data-dir", str(tmp_path), "--devices", "cpu,cpu"])
    err = capsys.readouterr().err
    assert code == 2 and message in err and len(err.splitlines()) == 1
