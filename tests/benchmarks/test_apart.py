"""What is measured in a process of its own comes back as JSON, and a failure as one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import apart
from common.errors import PipelineError

pytestmark = pytest.mark.unit

MODULE = """
import json, os, sys, time
if sys.argv[1] == "fail":
    sys.exit(1)
print("said before")
started = time.time()
time.sleep(float(sys.argv[1]))
print(json.dumps({"given": sys.argv[1:], "own": os.environ.get("OWN"), "started": started, "ended": time.time()}))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "measuring.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "measuring"


def test_the_last_line_is_the_answer(module: str) -> None:
    found = apart.measured_apart(module, "0", "more", environment={"OWN": "yes"})
    assert (found["given"], found["own"]) == (["0", "more"], "yes")


def test_a_failure_is_one_line_that_names_the_module(module: str) -> None:
    with pytest.raises(PipelineError, match="measuring could not be measured; mend"):
        apart.measured_apart(module, "fail")


def test_several_run_at_the_same_time_and_answer_in_order(module: str) -> None:
    first, second = apart.measured_together(module, [("1.5", "a"), ("1.5", "b")], {})
    assert (first["given"][1], second["given"][1]) == ("a", "b")
    assert max(first["started"], second["started"]) < min(first["ended"], second["ended"])


def test_an_answer_is_said_as_json_and_a_refusal_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert apart.answer(lambda: {"seconds": 1.5}) == 0
    assert json.loads(capsys.readouterr().out) == {"seconds": 1.5}

    def refuse() -> None:
        raise PipelineError("no model; fetch it")

    assert apart.answer(refuse) == 1
    assert capsys.readouterr().err == "error: no model; fetch it\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not tie processes to cores")
def test_a_process_can_be_kept_to_a_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert apart.keep_to_cores(1) == 1 == len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)
