"""A tiny random model with its SAEs, problems and profile, and the outputs of phases 0 and 0.1 made from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.helpers import PROFILE, Directory, Here, logging_left_as_found, run
from tests.cli.steering_place import make_place
from tests.common_simplified.fixtures import mbpp_rows, write_jsonl, write_model, write_sae_lens


class Workspace(NamedTuple):
    """Where everything lies: the profile's file, the problems' file, a data directory with phases 0 and 0.1."""

    root: Path
    profile: Path
    problems: Path
    data: Path

    def copy(self, target: Path) -> Path:
        """Copies the data directory to `target`, so that a test may change it."""
        shutil.copytree(self.data, target)
        return target


@pytest.fixture(scope="session")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("problems") / "problems.jsonl", mbpp_rows(26))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    write_model(root / "model")
    write_sae_lens(root / "saes")
    problems = write_jsonl(root / "problems.jsonl", mbpp_rows(26))
    profile = root / "tiny.toml"
    profile.write_text(PROFILE.format(root=root), encoding="utf-8")
    for phase in ("0", "0.1"):
        answer = run("phase", phase, "--profile", profile)
        assert answer.code == 0, answer
    return Workspace(root, profile, problems, root / "data")


@pytest.fixture(scope="session")
def steering_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a place in which everything that steering stands on has run, phase 4.5 too."""
    return make_place(tmp_path_factory.mktemp("steering"))


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    """Gives back what a command sets up for its own process."""
    with logging_left_as_found():
        yield


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Here:
    return Here(lambda: tuple(capfd.readouterr()))  # type: ignore[arg-type, return-value]


@pytest.fixture(scope="session")
def whole(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which phase 1.0 ran through undisturbed."""
    data = workspace.copy(tmp_path_factory.mktemp("whole") / "data")
    answer = run("phase", "1.0", "--profile", workspace.profile, "--data-dir", data)
    assert answer.code == 0, answer
    return data


@pytest.fixture
def untouched(workspace: Workspace, tmp_path: Path, here: Here) -> Directory:
    return Directory(workspace.profile, workspace.copy(tmp_path / "data"), here)


@pytest.fixture
def finished(workspace: Workspace, whole: Path, tmp_path: Path, here: Here) -> Directory:
    shutil.copytree(whole, tmp_path / "data")
    return Directory(workspace.profile, tmp_path / "data", here)
