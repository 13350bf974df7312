from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from common.errors import PipelineError
from common.profiles import REPOSITORY
from common.runs import rescoring
from tests.cli.helpers import Directory, Here, dataset, environment, finish, record, refusal, run, start, stopped

pytestmark = pytest.mark.smoke

TESTS = ["assert add(1) == 2"]
RIGHT = "def add(x):\n    return x + 1"
WRONG = "def add(x):\n    return x"
QUICK = ("--set", "evaluation_workers=1")


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps({"task_id": 7, "test_list": TESTS, **row}) + "\n" for row in rows))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- what a phase published


def test_the_verdicts_of_phase_1_0_are_the_same_again(finished: Directory) -> None:
    path = finished.data / "phase1_0" / record(finished.data)["dataset"]
    labels = dataset(finished.data).column("test_passed").to_pylist()
    for more in ((), ("--extract",)):
        answer = finished.here("evaluate", "--input", path, *finished.options, *more)
        assert answer.code == 0, answer
        passing, n = labels.count(True), len(labels)
        said = answer.out.splitlines()
        assert said[0].startswith(f"{path}: tested at rung ") and said[0].endswith("; limits: 5 s of CPU time, 2048 MB")
        assert said[1] == f"{n} solutions: {passing} passed before, {passing} pass now; 0 verdicts changed"
        assert said[2].split() == ["before", "now", "solutions"]


def test_a_published_file_written_anew_is_the_same_and_none_is_overwritten(finished: Directory, tmp_path: Path) -> None:
    path = finished.data / "phase1_0" / record(finished.data)["dataset"]
    before = digest(path)
    answer = finished.here("evaluate", "--input", path, "--output", tmp_path / "deep" / "b.parquet", *finished.options)
    assert answer.out.splitlines()[-1] == f"written: {tmp_path / 'deep' / 'b.parquet'}"
    assert pq.read_table(tmp_path / "deep" / "b.parquet").equals(dataset(finished.data))
    for target in (path, path.parent / "timings.parquet"):
        said = refusal(finished.here("evaluate", "--input", path, "--output", target, *finished.options))
        assert said.endswith("choose another name")
    assert digest(path) == before


def test_rows_without_tests_take_them_from_phase_0_of_the_configuration(finished: Directory, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"task_id": 3, "test_list": None, "completion": "def add_3(x):\n return x + 3"})
    answer = finished.here("evaluate", "--input", path, *finished.options)
    assert answer.out.splitlines()[1] == "1 solutions: no earlier verdicts, 1 pass now"


# --- what is said and written


def test_changed_verdicts_are_told_with_their_reason_and_written_where_asked(tmp_path: Path, here: Here) -> None:
    rows = ({"code": RIGHT, "passed": True}, {"code": WRONG, "passed": True}, {"excluded_reason": "out of memory"})
    path = lines(tmp_path / "a.jsonl", *rows)
    answer = here("evaluate", "--input", path, "--output", tmp_path / "b.jsonl", *QUICK)
    assert answer.code == 0
    assert answer.out.splitlines()[1:] == [
        "2 solutions: 2 passed before, 1 pass now; 1 verdicts changed, 1 of them between passing and failing; "
        "a second evaluation agrees with 1 of 1; excluded and left as they are: 1",
        "before  now           solutions",
        "──────  ────────────  ─────────",
        "passed  passed        1",
        "passed  wrong_answer  1",
        "line 2, task_id 7: passed → wrong_answer (add(1) gave 1); earlier settings not recorded "
        "(rung, timeout, memory limit); a second evaluation agrees",
        f"written: {tmp_path / 'b.jsonl'}",
    ]
    assert [json.loads(line).get("test_passed") for line in (tmp_path / "b.jsonl").open()] == [True, False, None]
    assert here("evaluate", "--input", path, *QUICK).out.splitlines() == answer.out.splitlines()[:-1]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_no_more_than_forty_changes_are_listed(tmp_path: Path, here: Here) -> None:
    path = lines(tmp_path / "a.jsonl", *[{"code": "", "passed": True}] * 43)
    said = here("evaluate", "--input", path, *QUICK).out.splitlines()
    assert len([line for line in said if line.startswith("line ")]) == 40
    assert said[-2].startswith("line 40, ") and said[-1] == "and 3 more"


def test_the_limits_are_those_of_the_configuration(tmp_path: Path, here: Here) -> None:
    path = lines(tmp_path / "a.jsonl", {"code": "def add(x):\n    while True:\n        pass", "passed": True})
    limits = ("--set", "evaluation_timeout_seconds=0.1", "--set", "evaluation_memory_mb=100")
    said = here("evaluate", "--input", path, *QUICK, *limits).out
    assert "limits: 0.1 s of CPU time, 100 MB" in said and "passed → timeout (" in said


# --- what cannot be used


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "the following arguments are required: --input"),
        ("--input nowhere.jsonl", "--input nowhere.jsonl: no such file; check the path"),
        ("--input .", "--input . is neither .parquet nor .jsonl"),
        ("--input a.csv", "--input a.csv is neither .parquet nor .jsonl"),
        ("--input folder.jsonl", "--input folder.jsonl: not a file"),
        ("--input a.jsonl --output b.csv", "--output b.csv is neither .parquet nor .jsonl"),
        ("--input a.jsonl --output a.jsonl", "--output a.jsonl is the input; choose another name"),
        ("--input a.jsonl --output link.jsonl", "--output link.jsonl is the input; choose another name"),
        ("--input a.jsonl --output folder.jsonl", "--output folder.jsonl is not a file"),
        ("--input a.jsonl --output a.jsonl/b.jsonl", "cannot be written to; choose another place"),
        ("--input a.jsonl --ouput b.jsonl", "unrecognized arguments: --ouput b.jsonl; did you mean '--output'?"),
        ("--input a.jsonl --set evaluation_timeout_seconds=0", "evaluation_timeout_seconds = 0"),
        ("--input a.jsonl --sandbox 9", "sandbox = 9: must be one of"),
        ("--input bad.jsonl", "bad.jsonl line 2 is not valid JSON"),
        ("--input empty.jsonl", "empty.jsonl holds no rows"),
        ("--input a.jsonl --extract", "a.jsonl line 1, task_id 7: it has no text to extract from"),
        ("--input torn.parquet", "torn.parquet is not a readable parquet file"),
        ("--input untested.jsonl", "untested.jsonl line 1, task_id 7: it carries no test_list"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    arguments: str, said: str, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(Path("a.jsonl"), {"code": RIGHT})
    Path("link.jsonl").symlink_to("a.jsonl")
    Path("folder.jsonl").mkdir()
    Path("empty.jsonl").write_text("")
    Path("bad.jsonl").write_text(Path("a.jsonl").read_text() + "{\n")
    Path("torn.parquet").write_bytes(b"PAR1")
    lines(Path("untested.jsonl"), {"code": RIGHT, "test_list": None})
    before = {path: path.lstat().st_mtime_ns for path in Path().iterdir()}
    assert said in refusal(here("evaluate", *arguments.split()))
    assert {path: path.lstat().st_mtime_ns for path in Path().iterdir()} == before


def test_a_broken_sandbox_ends_it_before_anything_is_written(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: object) -> None:
        raise PipelineError("the sandbox does not work")

    monkeypatch.setattr(rescoring, "evaluation_pool", broken)
    path = lines(tmp_path / "a.jsonl", {"code": RIGHT})
    answer = here("evaluate", "--input", path, "--output", tmp_path / "b.jsonl")
    assert stopped(answer, 1) == "error: the sandbox does not work"
    assert not (tmp_path / "b.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the children of a process from /proc")
def test_an_interruption_ends_it_in_one_line(number: signal.Signals, tmp_path: Path) -> None:
    sleeper = "import time\ndef add(x):\n    time.sleep(60)"
    path = lines(tmp_path / "a.jsonl", *[{"code": sleeper, "passed": True}] * 300)
    child = start("evaluate", "--input", path, "--output", tmp_path / "b.jsonl", *QUICK)
    for _ in range(3000):
        if workers(child.pid):
            break
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(number)
    assert stopped(finish(child), 130) == f"error: interrupted; {path} is as it was, run the same command again"
    assert not (tmp_path / "b.jsonl").exists()


def workers(process: int) -> list[str]:
    """Returns the children of a process, whichever of its threads started them."""
    return [child for file in Path(f"/proc/{process}/task").glob("*/children") for child in file.read_text().split()]


# --- speed

PROGRAM = """
import sys
from cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("heavy:", *sorted({"torch", "numpy", "pandas", "pyarrow", "transformers", "sae_lens"}.intersection(sys.modules)))
"""


@pytest.mark.parametrize("arguments", ["--help", "--input nowhere.jsonl", "--input a.csv"])
def test_help_and_refusals_load_nothing_heavy(arguments: str) -> None:
    assert heavy("evaluate", *arguments.split()) == []


def test_testing_loads_no_torch(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"code": RIGHT})
    assert "torch" not in heavy("evaluate", "--input", str(path), *QUICK)


def heavy(*arguments: str) -> list[str]:
    """Returns which large packages a command loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_help_names_what_can_be_asked() -> None:
    said = run("evaluate", "--help").out
    assert all(option in said for option in ("--input FILE", "--output FILE", "--extract", "--sandbox", "--set"))
