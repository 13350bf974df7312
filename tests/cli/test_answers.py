from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import exit_code
from cli.parser import build_parser
from common.errors import UsageError
from common.phases import PHASES
from common.profiles import REPOSITORY
from tests.cli.helpers import environment, refusal, run

pytestmark = pytest.mark.smoke

COMMANDS = (
    "phase",
    "pipeline",
    "plan",
    "status",
    "show-config",
    "test-gpu",
    "fetch",
    "compare",
    "export",
    "evaluate",
    "organism",
    "organism train",
)


def test_help_lists_every_command() -> None:
    answer = run("--help")
    assert (answer.code, answer.err) == (0, "")
    assert all(f"    {command.split()[0]}" in answer.out for command in COMMANDS)
    assert "130 interrupted" in " ".join(answer.out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command: str) -> None:
    answer = run(*command.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: run.py {command}")


def test_the_help_of_phase_lists_the_phases_with_their_names() -> None:
    said = run("phase", "--help").out
    assert all(f"{spec.id:<5} {spec.name}" in said for spec in PHASES)


def test_no_command_shows_the_help_and_says_that_nothing_was_asked_for() -> None:
    answer = run()
    assert answer.code == 2
    assert answer.out.startswith("usage: run.py")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("phse 1.0", "invalid choice: 'phse'"),
        ("phse 1.0", "did you mean 'phase'?"),
        ("phase", "the following arguments are required: N"),
        ("phase 1.0 --strat 3", "unrecognized arguments: --strat 3; did you mean '--start'?"),
        ("phase 9.9", "phase '9.9' is unknown (phases: 0, 0.1, 1.0"),
        ("phase 2.1", "phase '2.1' is unknown"),
        ("phase 1.0 --start x", "argument --start: invalid int value: 'x'"),
        ("phase 1.0 --start -1", "--start -1: positions count from 0"),
        ("phase 1.0 --end -5", "--end -5: positions count from 0"),
        ("phase 2.5 --end 9", "phase 2.5 works on all problems at once"),
        ("phase 0 --profile organsm", "profile 'organsm' is unknown"),
        ("phase 0 --profile organsm", "did you mean 'organism'?"),
        ("phase 0 --set batchsize=3", "unknown setting 'batchsize'; did you mean 'batch_size'?"),
        ("phase 0 --set batch_size", "--set batch_size: write --set FIELD=VALUE"),
        ("phase 0 --set batch_size=-1", "batch_size = -1: must lie between 0 and 4096"),
        ("phase 0 --batch-size many", "batch_size = 'many' is not a whole number"),
        ("phase 0 --dtype float8", "dtype = float8: must be one of"),
        ("phase 0 --site resid", "site = resid: must be one of"),
        ("phase 0 --prompt-format poem", "prompt_format = poem: must be one of"),
        ("phase 0 --config nowhere.toml", "configuration file nowhere.toml does not exist"),
        ("phase 0 --input nowhere.jsonl", "--input nowhere.jsonl: no such file or directory"),
        ("phase 2.5 --input 9.9=run.py", "--input 9.9=run.py: phase '9.9' is unknown"),
        ("phase 0.1 --data-dir nowhere", "nowhere/phase0/metadata.json is missing; run: python3 run.py phase 0"),
        ("phase 2.5 --data-dir nowhere", "phase 2.5 reads phase 1.0: nowhere/phase1_0/metadata.json is missing"),
        ("phase 0.1 --inputs-from nowhere", "--inputs-from nowhere: no such directory"),
        ("pipeline --from 1.0 --to 0", "--from 1.0 comes after --to 0"),
        ("pipeline --from x", "phase 'x' is unknown"),
        ("status --set seed=x", "seed = 'x' is not a whole number"),
        ("organism", "the following arguments are required: ACTION"),
        ("organism train --seed 1", "the following arguments are required: --out"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(arguments: str, said: str, tmp_path: Path) -> None:
    answer = run(*arguments.split(), cwd=tmp_path)
    assert said in refusal(answer)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_in_the_environment_is_refused_like_one_on_the_command_line() -> None:
    answer = run("show-config", PVA_SAE_BATCHSIZE="3")
    assert "unknown setting 'batchsize'; did you mean 'batch_size'?" in refusal(answer)


def test_every_setting_is_shown_with_its_value_and_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("snapshot_every = 7\n")
    answer = run("show-config", "--config", file, "--set", "seed=3", PVA_SAE_BATCH_SIZE="5")
    assert answer.code == 0
    rows = {line.split()[0]: line for line in answer.out.splitlines()}
    assert rows["seed"].split()[1:4] == ["3", "command", "line"]
    assert rows["batch_size"].split()[1:3] == ["5", "environment"]
    assert rows["snapshot_every"].split()[1:3] == ["7", "file"]
    assert rows["max_retries"].split()[1:3] == ["3", "default"]
    assert rows["model_revision"].split()[2:4] == ["profile", "gemma-2-2b"]


def test_status_and_plan_of_an_empty_directory_write_nothing(tmp_path: Path) -> None:
    status = run("status", "--data-dir", tmp_path / "data", "--profile", "gemma-2-2b")
    assert status.code == 0
    *of_phases, of_pathway = status.out.splitlines()[1:]
    assert [line.split()[0] for line in of_phases] == [spec.id for spec in PHASES]
    assert of_pathway.split() == ["pathway", "and", "token", "analysis", "missing"]
    assert status.out.count("missing") == len(PHASES) + 1
    plan = run("plan", "--data-dir", tmp_path / "data", HF_HUB_CACHE=str(tmp_path / "hub"))
    assert plan.code == 0
    assert "489 problems in 16 batches, 26 layers" in plan.out
    assert "blocked: google/gemma-2-2b is not in the hub's cache; run: python3 run.py fetch" in plan.out
    assert list(tmp_path.iterdir()) == []


# --- answers that need nothing heavy

HEAVY = ("torch", "numpy", "pandas", "pyarrow", "scipy", "transformers", "sae_lens", "matplotlib", "sklearn")
PROGRAM = """
import sys
sys.argv = ["run.py", *sys.argv[1:]]
from cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("heavy:", *sorted({heavy!r}.intersection(sys.modules)))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "phase --help",
        "status --data-dir nowhere",
        "plan --data-dir nowhere",
        "show-config",
        "phase 9.9",
        "phase 2.5 --data-dir nowhere",
        "phase 1.0 --data-dir nowhere",
        "phase 1.0 --start -1",
        "phase 1.0 --set batch_size=-1",
        "pipeline --from x",
    ],
)
def test_help_status_plan_and_refusals_import_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    program = PROGRAM.replace("{heavy!r}", repr(set(HEAVY)))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments.split()],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_commands_are_parsed_by_the_parser_that_is_documented() -> None:
    parsed = build_parser().parse_args(
        ["phase", "1.0", "--start", "0", "--end", "9", "--input", "0.1=a", "--input", "b"]
    )
    assert (parsed.phase, parsed.start, parsed.end, parsed.input) == ("1.0", 0, 9, ["0.1=a", "b"])


def test_a_missing_package_is_one_line_that_names_the_python_to_use(capsys: pytest.CaptureFixture[str]) -> None:
    def lacking() -> int:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.parquet")

    assert exit_code(lacking) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the package pyarrow.parquet is not installed for {sys.executable}; ")


def test_a_missing_module_of_our_own_is_a_bug_and_shows_where() -> None:
    def lacking() -> int:
        raise ModuleNotFoundError("No module named 'common.nowhere'", name="common.nowhere")

    with pytest.raises(ModuleNotFoundError):
        exit_code(lacking)


@pytest.mark.parametrize(
    "arguments, words",
    [("status --json x", "; --json belongs to compare"), ("status --profle organism", "did you mean '--profile'?")],
)
def test_an_option_of_another_command_is_said_to_be_its_own(arguments: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        build_parser().parse_args(arguments.split())
    assert words in str(refused.value)
