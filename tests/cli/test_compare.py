from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.helpers import Here, refusal, run, tree
from tests.common.made_runs import MadeRun, copied, whole_run

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return whole_run(tmp_path_factory.mktemp("made") / "a")


@pytest.fixture
def other(made: MadeRun, tmp_path: Path) -> MadeRun:
    changed = copied(made, tmp_path / "b")
    tasks = range(100, 112)
    changed.solutions("3.5", {0.0: {task: [task not in (100, 103)] for task in tasks}}, batch_size=8)
    return changed


def test_two_runs_are_shown_side_by_side(made: MadeRun, other: MadeRun, here: Here) -> None:
    before = tree(made.data), tree(other.data)
    answer = here("compare", made.data, other.data)
    assert answer.code == 0, answer
    said = answer.out.splitlines()
    assert said[:2] == [f"A  {made.data}", f"B  {other.data}"]
    (line,) = [line for line in said if line.startswith("batch size")]
    assert line.split() == ["batch", "size", "not", "recorded", "8", "3.5"]
    (line,) = [line for line in said if line.startswith("validation, temperature 0 ")]
    assert "66.7 % of 12" in line and "83.3 % of 12" in line and "+16.7 [" in line
    assert line.endswith("] points  paired bootstrap, 12 problems in both")
    assert "  F1, correct predictor: F1 of calling everything positive: 0.800 and 0.800" in said
    assert "Complete in both: 0, 1.0, 2.5, 2.10, 3.6, 3.8, 4.5" in said
    assert (tree(made.data), tree(other.data)) == before


def test_what_cannot_be_computed_is_never_a_zero(made: MadeRun, other: MadeRun, here: Here) -> None:
    other.detection({task: 1.0 for task in range(100, 112)}, {task: True for task in range(100, 112)}, None)
    said = here("compare", made.data, other.data).out.splitlines()
    (line,) = [line for line in said if line.startswith("AUROC, correct predictor")]
    assert "not defined of 12" in line and line.endswith("B: no negative row among 12")
    (line,) = [line for line in said if line.startswith("correct: coefficient ")]
    assert line.endswith("+0.000  no interval: chosen, not estimated")


def test_everything_is_written_as_json_where_asked(made: MadeRun, other: MadeRun, here: Here, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.json"
    answer = here("compare", made.data, other.data, "--json", path)
    assert answer.code == 0 and answer.out.splitlines()[-1] == f"written: {path}"
    found = json.loads(path.read_text())
    assert (found["a"], found["b"]) == (str(made.data), str(other.data))
    (row,) = [row for row in found["figures"] if row["figure"] == "validation, temperature 0"]
    assert row["difference"] == pytest.approx(2 / 12) and row["low"] < row["difference"] < row["high"]


def test_two_copies_are_called_what_they_are(made: MadeRun, tmp_path: Path, here: Here) -> None:
    copy = copied(made, tmp_path / "copy")
    said = here("compare", made.data, copy.data).out
    assert "Made alike: the records of the phases that both have differ in nothing" in said
    assert "The very same output in both (one is a copy): 0, 1.0" in said


def test_a_damaged_file_is_a_row_and_not_the_end(made: MadeRun, other: MadeRun, here: Here) -> None:
    (other.root("3.8") / "scores.parquet").write_bytes(b"PAR1")
    answer = here("compare", made.data, other.data)
    assert answer.code == 0
    (line,) = [line for line in answer.out.splitlines() if line.startswith("phase 3.8")]
    assert "not compared: " in line and "scores.parquet is damaged" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{a}",), "the following arguments are required: DIR_B"),
        (("{a}", "{a}"), "are the same directory; give two runs"),
        (("{a}", "{tmp}/none"), "none does not exist"),
        (("{tmp}", "{a}"), "holds no output of any phase; give the data directory of a run"),
        (("{a}", "{b}", "--json", "{tmp}/x.txt"), "--json {tmp}/x.txt: give a file that ends in .json"),
        (("{a}", "{b}", "--json", "{a}/phase2_5/top_20_features.json"), "is a file of a phase; choose another name"),
        (("{a}", "{b}", "--json", "{a}/phase2_5/metadata.json"), "is a file of a phase; choose another name"),
        (("{a}", "{b}", "--json", "{a}/phase2_5/top_20_features.json/x.json"), "cannot be written to; choose another"),
        (("{a}", "{b}", "--jsn", "x"), "did you mean '--json'?"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    made: MadeRun, other: MadeRun, here: Here, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    places = {"a": made.data, "b": other.data, "tmp": tmp_path}
    before = tree(made.data)
    answer = here("compare", *(word.format(**places) for word in arguments))
    assert said.format(**places) in refusal(answer)
    assert tree(made.data) == before


def test_the_help_says_which_way_differences_go() -> None:
    answer = run("compare", "--help")
    assert "differences are B minus A" in " ".join(answer.out.split())
