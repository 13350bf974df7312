"""`docs/adding-a-phase.md`, followed literally in a copy of the repository."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.profiles import REPOSITORY
from tests.cli.helpers import environment
from tests.docs.pages import blocks

pytestmark = pytest.mark.smoke
PAGE = REPOSITORY / "docs" / "adding-a-phase.md"
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "data", "*.egg-info", "results")


class Followed:
    """A copy of the repository in which the page is followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(REPOSITORY, root, ignore=LEFT_OUT)
        self.text = PAGE.read_text(encoding="utf-8")

    def write(self) -> list[str]:
        """Puts every block where its first line says; returns the places."""
        places = []
        for block in blocks(self.text, "python"):
            first, _, body = block.partition("\n")
            match = re.fullmatch(r"# (\S+?)(?:, before (.+))?", first)
            assert match is not None, first
            path = self.root / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(inserted(path.read_text("utf-8"), match[2], body) if match[2] else body, "utf-8")
            places.append(match[1])
        return places

    def run(self, *words: str) -> str:
        """Runs a command that must succeed; returns all that it said."""
        words = (sys.executable, *words)
        where = {"cwd": self.root, "env": environment(), "timeout": 300}
        done = subprocess.run(words, capture_output=True, text=True, check=False, **where)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def inserted(text: str, place: str, body: str) -> str:
    """Returns a file with `body` before the line that holds `place`, or before the entry of a phase."""
    if place.startswith("phase ") and place[6:7].isdigit():
        match = re.search(rf'^ *PhaseSpec\(\n *id="{re.escape(place[6:])}"', text, re.MULTILINE)
    else:
        match = re.search(rf"^.*{re.escape(place)}.*$", text, re.MULTILINE)
    assert match is not None, place
    return text[: match.start()] + body + text[match.start() :]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    made = Followed(tmp_path_factory.mktemp("house") / "repository")
    made.write()
    return made


def test_the_page_gives_every_part_of_a_phase() -> None:
    text = PAGE.read_text(encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    firsts = [block.partition("\n")[0].removeprefix("# ").partition(",")[0] for block in blocks(text, "python")]
    assert {"common/phases.py", "common/config.py", "phase3_7/agreement_runner.py"} <= set(firsts)
    assert {"common/glossary/files.py", "common/glossary/records.py", "tests/phase3_7/test_agreement.py"} <= set(firsts)


def test_its_commands_make_a_phase_that_resumes_and_runs_in_slices(followed: Followed) -> None:
    (block,) = blocks(followed.text, "")
    said = [followed.run(*shlex.split(line)[1:]) for line in block.splitlines()]
    assert "8 of 97 problems" in said[3]
    record = json.loads((followed.root / "data" / "organism" / "phase3_7" / "metadata.json").read_text())
    assert (record["done"], record["complete"], len(record["workers"])) == (97, True, 2)
    found = record["agreement"]
    assert found == json.loads((followed.root / "data/organism/phase3_7/agreement.json").read_text())
    assert found["denominator"] == 97 and 0 < found["value"] <= 1
    (line,) = [line for line in said[5].splitlines() if "agreement of samples" in line]
    assert "complete" in line
    again = followed.run("run.py", "phase", "3.7", "--profile", "organism")
    assert "nothing to do" in again


def test_its_test_passes_and_so_do_those_of_the_registry_and_of_the_documentation(followed: Followed) -> None:
    followed.run("-m", "cli.reference")
    places = ("tests/phase3_7", "tests/common/test_phases.py", "tests/common/glossary")
    assert " passed" in followed.run("-m", "pytest", "-p", "no:cacheprovider", "-m", "unit", *places)
    assert "agreement.json" in (followed.root / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert "phase3_7_samples" in (followed.root / "docs" / "cli.md").read_text(encoding="utf-8")


def test_its_code_is_in_the_style_of_the_house(followed: Followed) -> None:
    paths = ("phase3_7", "tests/phase3_7", "common/phases.py", "common/config.py", "common/glossary")
    for words in (("check",), ("format", "--check")):
        followed.run("-m", "ruff", *words, *paths)
