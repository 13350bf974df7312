"""`clean_data.py` in child processes, on a terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.clean import build_parser, main
from common.profiles import REPOSITORY
from tests.cli.helpers import Answer, Directory, environment, refusal, segments, start, tree, wait_until

pytestmark = pytest.mark.smoke


def words(place: Directory, *more: object) -> list[str]:
    return [sys.executable, str(REPOSITORY / "clean_data.py"), *map(str, (*place.options, *more))]


def clean(place: Directory, *more: object) -> Answer:
    """Runs the command without a terminal."""
    done = subprocess.run(
        *(words(place, *more),),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def answer_on_a_terminal(place: Directory, answer: bytes) -> Answer:
    """Runs the command on a terminal of its own and types an answer."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        words(place), env=environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        os.write(ours, answer)
        out, err = command.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    return Answer(command.returncode, out, err)


@pytest.fixture
def place(finished: Directory) -> Iterator[Directory]:
    """Phases 0, 0.1 and 1.0, done, beside files that are nobody's to delete."""
    for name in ("mbpp.jsonl", "phase1_0/notes.txt", "models/x.safetensors"):
        (finished.data / name).parent.mkdir(exist_ok=True)
        (finished.data / name).write_text("mine")
    yield finished


LEFT = ["mbpp.jsonl", "models/x.safetensors", "phase1_0/notes.txt"]


def test_a_dry_run_lists_sizes_and_states_and_changes_nothing(place: Directory) -> None:
    before = tree(place.data)
    answer = clean(place, "--dry-run")
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0].endswith(f"data directory {place.data}")
    assert [line.split()[0] for line in lines[3:6]] == ["0", "0.1", "1.0"]
    assert all(" complete " in line for line in lines[3:6])
    assert f"stays: {place.data}/phase1_0/notes.txt (no phase wrote it)" in lines
    assert "nothing deleted" in lines
    assert tree(place.data) == before


def test_without_a_terminal_it_refuses_unless_forced(place: Directory) -> None:
    before = tree(place.data)
    assert "there is no terminal to ask on, so nothing was deleted; add --force" in refusal(clean(place))
    assert tree(place.data) == before
    answer = clean(place, "--force")
    assert answer.code == 0
    assert "deleted: " in answer.out
    assert "of 3 phases" in answer.out
    assert sorted(tree(place.data)) == LEFT
    assert "nothing to delete" in clean(place, "--force").out


@pytest.mark.parametrize("word", [b"n\n", b"\n", b"\x04", b"yess\n"])
def test_any_answer_but_yes_deletes_nothing(place: Directory, word: bytes) -> None:
    before = tree(place.data)
    answer = answer_on_a_terminal(place, word)
    assert answer.code == 0
    assert "delete " in answer.out
    assert "? [y/N] " in answer.out
    assert "nothing deleted" in answer.out
    assert tree(place.data) == before


def test_yes_deletes_and_the_pipeline_starts_anew(place: Directory) -> None:
    answer = answer_on_a_terminal(place, b"y\n")
    assert answer.code == 0
    assert sorted(tree(place.data)) == LEFT
    assert place.phase("0").code == 0
    assert json.loads((place.data / "phase0" / "metadata.json").read_text())["generation"] == 1


def test_control_c_at_the_question_is_130_and_deletes_nothing(place: Directory) -> None:
    before = tree(place.data)
    leader = "import os, sys; os.setsid(); import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    leader += "os.execv(sys.argv[1], sys.argv[1:])"
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-c", leader, *words(place)],
        env=environment(PYTHONUNBUFFERED="1"),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert command.stdout is not None
        said = b""
        while b"[y/N]" not in said:
            said += os.read(command.stdout.fileno(), 4096)
        while command.poll() is None:  # a busy machine may not wait for it yet
            os.write(ours, b"\x03")
            time.sleep(0.5)
        _, err = command.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert command.returncode == 130
    assert err.decode().startswith("error: interrupted")
    assert tree(place.data) == before


def test_only_what_fresh_put_aside_goes_with_superseded(place: Directory) -> None:
    before = tree(place.data)
    assert place.phase("1.0", "--fresh", "--set", "max_new_tokens=8").code == 0
    assert any("superseded" in name for name in tree(place.data))
    answer = clean(place, "--superseded", "--force")
    assert answer.code == 0
    left = tree(place.data)
    assert not any("superseded" in name and not name.endswith("notes.txt") for name in left)
    assert "phase1_0/metadata.json" in left
    assert {name for name in before if name.startswith("phase0")} <= set(left)


def test_a_phase_that_is_being_run_is_refused_and_nothing_goes(untouched: Directory) -> None:
    child = start("phase", "1.0", *untouched.options, "--batch-size", 1, "--set", "max_new_tokens=400")
    try:
        wait_until(lambda: len(segments(untouched.data)) >= 1, child)
        line = refusal(clean(untouched, "--force"))
        assert f"positions 0 to 15 are being worked on by process {child.pid} on host" in line
        assert (untouched.data / "phase0" / "metadata.json").is_file()
    finally:
        os.killpg(child.pid, 9)
        child.communicate()
    assert clean(untouched, "--force").code == 0
    assert tree(untouched.data) == {}


def test_unusable_arguments_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (("--data-dir", tmp_path / "nowhere"), "nowhere is no directory"),
        (("--profile", "unknown"), "profile 'unknown' is unknown"),
        (("--frce",), "unrecognized arguments: --frce; did you mean '--force'?"),
    ):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert said in refusal(Answer(code, out, err))


def test_it_answers_without_loading_what_is_heavy(tmp_path: Path) -> None:
    program = "import sys; from cli.clean import main; main(['--data-dir', sys.argv[1], '--dry-run']); "
    program += "print({'torch', 'numpy', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_its_help_names_what_it_takes() -> None:
    text = build_parser().format_help()
    assert all(option in text for option in ("--dry-run", "--force", "--superseded", "--profile", "--data-dir"))
