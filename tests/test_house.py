from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from common.phases import PHASES
from common.profiles import REPOSITORY

pytestmark = pytest.mark.unit

PACKAGES = (
    *("cli", "common", "common_simplified", "experiment_pathway_token_analysis", "launcher", "organism", "report"),
    *(spec.runner.split(".")[0] for spec in PHASES),
)
MAX_LINES = 400
MACHINE_PATH = re.compile(r"(?<![\w./{}:-])/(?:home|Users|root|mnt|scratch)(?:/\w|\b(?=[\s\"'`]))")


def modules() -> list[Path]:
    folders = [REPOSITORY / name for name in (*PACKAGES, "tests", "benchmarks")]
    found = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted([*found, *REPOSITORY.glob("*.py")])


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in done.stdout.split("\0") if name]


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_every_room_of_the_house_is_there() -> None:
    rooms = (*PACKAGES, "common/runs", "common/execution", "common/statistics")
    assert [room for room in rooms if not (REPOSITORY / room / "__init__.py").is_file()] == []
    assert [room for room in ("profiles", "tests") if not (REPOSITORY / room).is_dir()] == []
    assert (REPOSITORY / "run.py").is_file() and (REPOSITORY / "multi_gpu_launcher.py").is_file()


def test_every_module_says_what_it_is() -> None:
    product = [path for path in modules() if not named(path).startswith("tests/")]
    assert len(product) > 50
    silent = [named(path) for path in product if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_of_the_product_annotates_the_future_way() -> None:
    lacking = []
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if re.search(r"^(def|class) ", text, re.MULTILINE) and "from __future__ import annotations" not in text:
            lacking.append(named(path))
    assert lacking == []


def test_every_public_thing_of_the_product_has_a_docstring() -> None:
    lacking = []
    for path in modules():
        if named(path).startswith("tests/"):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            public = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if public and not node.name.startswith("_") and not ast.get_docstring(node):  # type: ignore[union-attr]
                lacking.append(f"{named(path)}:{node.lineno}")
    assert lacking == []


def test_no_tracked_file_names_a_place_on_somebodys_machine() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{named(path)}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("line", ['path = "/home/me/x"', "under /Users/me", "`/root`"])
def test_the_search_for_places_finds_them(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["https://x.org/mnt/a", "data/mnt/x", "a/home/b", "framework/x", "{root}/mnt"])
def test_the_search_for_places_leaves_addresses_and_relative_paths_alone(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_every_profile_name_is_a_file_name_that_any_system_knows() -> None:
    assert all(re.fullmatch(r"[a-z0-9.-]+\.toml", path.name) for path in (REPOSITORY / "profiles").iterdir())


def test_no_product_module_pickles() -> None:
    found = []
    for path in modules():
        if named(path).startswith(("tests/", "benchmarks/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = [node.module]
            found += [f"{named(path)}: {name}" for name in imported if name.split(".")[0] in ("pickle", "shelve")]
    assert found == []
