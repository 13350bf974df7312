"""Evaluators in processes of their own: as another user, at another rung, under another Python, with calls refused.

Runs `scenarios.py` from a copy of `common/` that every user can read. Where that cannot be had the test is skipped
with a reason: only root can become another user, and that user needs a Python that it can read.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.common.execution.scenarios import NOT_HERE

REPOSITORY = Path(__file__).resolve().parents[3]
AS_ROOT = os.geteuid() == 0
# No account has it, and no process but those of this run: the kernel counts processes by user.
ORDINARY_USER = 50_000 + os.getpid() % 4_000
_OLDEST = (3, 11)
_MODULES = ("__init__.py", "errors.py", "execution/*.py")


class Place(NamedTuple):
    """A rung with the user under whom the evaluator runs, `root` or `user`; at rung 4 with or without bubblewrap."""

    user: str
    rung: str
    bubblewrap: bool = True

    def __str__(self) -> str:
        return f"{self.user} rung {self.rung}{'' if self.rung != '4' or self.bubblewrap else ' without bubblewrap'}"


PLACES = [
    *(Place(user, "4", bubblewrap) for user in ("root", "user") for bubblewrap in (True, False)),
    Place("root", "3"),
    *(Place(user, rung) for rung in ("2", "1", "0") for user in ("root", "user")),
]
BEST = Place("root" if AS_ROOT else "user", "auto")


class Started(NamedTuple):
    """A scenario that runs, with its own directories for temporary files."""

    process: subprocess.Popen[str]
    temporary: Path

    def answer(self, seconds: float = 600) -> Any:
        """Returns what the scenario prints; skips the test where its rung does not work here."""
        output, errors = self.process.communicate(timeout=seconds)
        if self.process.returncode == NOT_HERE:
            pytest.skip(errors.strip())
        assert self.process.returncode == 0, errors
        return json.loads(output)


class Circumstances(NamedTuple):
    """What else an evaluator is started with."""

    python: str | None = None
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = {}
    refused: str = ""
    directory: str | None = None


AS_USUAL = Circumstances()


@contextmanager
def started(place: Place, scenario: str, *, at: Circumstances = AS_USUAL, **arguments: Any) -> Iterator[Started]:
    """Starts a scenario at a place, and ends it with all that it left when the context does."""
    python = at.python or python_for(place)
    with tempfile.TemporaryDirectory(dir=shared_directory(), ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        owner = _owner(place, name)
        launcher = [python, *at.flags, str(copied("refuse.py")), at.refused, "--"] if at.refused else []
        command = [*launcher, python, *at.flags, str(copied("scenarios.py")), scenario]
        process = subprocess.Popen(
            command,
            **owner,
            env={**_environment(place, name), **at.environment},
            cwd=at.directory or name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"sandbox": place.rung, **arguments}))
            process.stdin.close()
            process.stdin = None
            yield Started(process, Path(name))
        finally:
            process.kill()
            process.communicate()


def ask(place: Place, scenario: str, *, at: Circumstances = AS_USUAL, **arguments: Any) -> Any:
    """Runs a scenario to its end and returns its answer."""
    with started(place, scenario, at=at, **arguments) as running:
        return running.answer()


def _owner(place: Place, directory: str) -> dict[str, Any]:
    if place.user != "user" or not AS_ROOT:
        return {}
    os.chown(directory, ORDINARY_USER, ORDINARY_USER)
    return {"user": ORDINARY_USER, "group": ORDINARY_USER, "extra_groups": []}


def _environment(place: Place, directory: str) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath) if place.bubblewrap else directory
    return {
        "PATH": path,
        "HOME": directory,
        "TMPDIR": directory,
        "PYTHONPATH": str(shared_directory()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def python_for(place: Place) -> str:
    """Returns a Python for an evaluator at `place`; skips the test where there is none."""
    if place.user == "root" and not AS_ROOT:
        pytest.skip("needs root")
    if not AS_ROOT or (place.user == "root" and place.rung != "3"):
        return sys.executable
    found = readable_python()
    if found is None:
        pytest.skip("no Python here can be read by a user without an account")
    return found


@cache
def readable_python() -> str | None:
    """Returns a Python that any user can run: this one, or one of the system's; None where there is none."""
    system = sorted(path for folder in ("/usr/bin", "/usr/local/bin") for path in Path(folder).glob("python3.*"))
    named = [str(path) for path in reversed(system) if re.fullmatch(r"python3\.\d+", path.name)]
    return next((path for path in (sys.executable, *named) if _runs_for_anyone(path)), None)


def _runs_for_anyone(python: str) -> bool:
    program = f"import sys, ctypes, colorsys, subprocess; sys.exit(sys.version_info < {_OLDEST})"
    try:
        done = subprocess.run(
            [python, "-c", program],
            user=ORDINARY_USER,
            group=ORDINARY_USER,
            extra_groups=[],
            cwd=shared_directory(),
            env={"PYTHONPATH": str(shared_directory())},
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@cache
def shared_directory() -> Path:
    """Returns a directory with `common/execution` and the scenarios in it, which any user can read."""
    directory = Path(tempfile.mkdtemp(prefix="pva-sae-tests-"))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    copy_sandbox(directory)
    return directory


def copy_sandbox(directory: Path) -> None:
    """Copies what an evaluator and the scenarios need."""
    here = Path(__file__).resolve().parent
    sources = [path for pattern in _MODULES for path in (REPOSITORY / "common").glob(pattern)]
    sources += [here / name for name in ("processes.py", "refuse.py", "scenarios.py")]
    for source in sources:
        target = directory / source.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def copied(name: str) -> Path:
    """Returns the readable copy of a helper of these tests."""
    return shared_directory() / "tests" / "common" / "execution" / name


_NUMPY = "class _Ones(list):\n    def sum(self): return sum(self[:])\ndef ones(n): return _Ones([1] * n)\n"


@contextmanager
def private_python(place: Place) -> Iterator[Path]:
    """Yields a virtual environment for an evaluator at `place`, with a small package called numpy in it."""
    with private_directory(place) as directory:
        base = readable_python() or sys.executable
        subprocess.run([base, "-m", "venv", "--without-pip", "--symlinks", str(directory)], check=True)
        (packages,) = directory.glob("lib/python3.*/site-packages")
        (packages / "numpy").mkdir()
        (packages / "numpy" / "__init__.py").write_text(_NUMPY)
        give(place, directory)
        yield directory


@contextmanager
def private_directory(place: Place) -> Iterator[Path]:
    """Yields a directory of its own that any user can read and the evaluator at `place` owns once it is given."""
    with tempfile.TemporaryDirectory(prefix="pva-sae-tests-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def give(place: Place, directory: Path) -> None:
    """Makes a directory with all in it readable for everyone, and the property of the user at `place`."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
        if AS_ROOT and place.user == "user":
            os.chown(path, ORDINARY_USER, ORDINARY_USER, follow_symlinks=False)


def other_pythons() -> list[str]:
    """Returns one Python of each supported version found on this machine, this one's own left out."""
    found: dict[tuple[int, int], str] = {}
    for minor in range(_OLDEST[1], 20):
        on_path = shutil.which(f"python3.{minor}")
        installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python3.{minor}"))
        for candidate in filter(None, (on_path, *map(str, installed))):
            if _version(candidate) == (3, minor):
                found.setdefault((3, minor), candidate)
    found.pop(sys.version_info[:2], None)
    return list(found.values())


def _version(python: str) -> tuple[int, int] | None:
    words = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", words], capture_output=True, text=True, check=False)
    return (int(done.stdout.split()[0]), int(done.stdout.split()[1])) if done.returncode == 0 else None
