from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from importlinter import configuration
from importlinter.application.use_cases import lint_imports

from common.phases import PHASES
from common.profiles import REPOSITORY

pytestmark = pytest.mark.unit

PATHWAY = "experiment_pathway_token_analysis"
ROOMS = ("cli", "common", "common_simplified", "launcher", "organism", "report")
HEAVY = {"torch", "transformers", "sae_lens", "transformer_lens", "accelerate", "safetensors"}
LIGHT = ("common/__init__.py", "common/errors.py", "common/config.py", "common/phases.py", "common/profiles.py")


def module_level_imports(path: Path) -> set[str]:
    """Names the top-level packages that importing `path` imports, those under `if TYPE_CHECKING` left out."""
    names: set[str] = set()
    waiting: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.If):
            waiting += node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else [*node.body, *node.orelse]
        elif isinstance(node, ast.Try):
            waiting += [*node.body, *node.orelse, *node.finalbody]
        elif isinstance(node, ast.With | ast.ClassDef):
            waiting += node.body
    return names


def product(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def contracts() -> str:
    """Returns the contracts in import-linter's form, with every phase that has a directory.

    Imports inside functions count too, those under TYPE_CHECKING do not; the few that are meant are listed.
    """
    phases = sorted(path.parent.name for path in REPOSITORY.glob("phase*/__init__.py"))
    assert len(phases) >= 4, phases
    return f"""
[tool.importlinter]
root_packages = {json.dumps([*ROOMS, PATHWAY, *phases])}
include_external_packages = true
exclude_type_checking_imports = true

[[tool.importlinter.contracts]]
name = "common, the report and the launcher need no torch"
type = "forbidden"
source_modules = ["common", "launcher", "report"]
forbidden_modules = ["torch", "transformers", "sae_lens", "transformer_lens"]
allow_indirect_imports = true
ignore_imports = ["common.utils -> torch"]

[[tool.importlinter.contracts]]
name = "common <- common_simplified <- phases <- cli <- launcher"
type = "layers"
layers = ["launcher", "cli", "{" | ".join([*phases, PATHWAY])}", "common_simplified", "common"]

[[tool.importlinter.contracts]]
name = "the launcher computes nothing itself"
type = "forbidden"
source_modules = ["launcher"]
forbidden_modules = {json.dumps(["common_simplified", PATHWAY, *phases])}
allow_indirect_imports = true

[[tool.importlinter.contracts]]
name = "common <- report <- cli, and nothing between"
type = "layers"
layers = ["cli", "report", "common"]

[[tool.importlinter.contracts]]
name = "the report reads artifacts only"
type = "forbidden"
source_modules = ["report"]
forbidden_modules = {json.dumps(["common_simplified", PATHWAY, *phases])}

[[tool.importlinter.contracts]]
name = "nothing that computes knows the report"
type = "forbidden"
source_modules = {json.dumps(["common_simplified", PATHWAY, *phases])}
forbidden_modules = ["report"]

[[tool.importlinter.contracts]]
name = "no phase imports another"
type = "independence"
modules = {json.dumps([*phases, PATHWAY])}

[[tool.importlinter.contracts]]
name = "the pipeline does not need the maker of the bundled model"
type = "forbidden"
source_modules = {json.dumps(["common", "common_simplified", "report", PATHWAY, *phases])}
forbidden_modules = ["organism"]
"""


def test_the_contracts_of_the_house_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text(contracts(), encoding="utf-8")
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY))
    configuration.configure()
    kept = lint_imports(config_filename=str(tmp_path / "pyproject.toml"), cache_dir=None)
    assert kept, capsys.readouterr().out


def test_nothing_in_common_the_report_or_the_launcher_loads_torch_when_it_is_imported() -> None:
    files = [*product("common"), *product("report"), *product("launcher")]
    found = {path.name: module_level_imports(path) & HEAVY for path in files}
    assert {name: packages for name, packages in found.items() if packages} == {}


def test_common_loads_nothing_of_the_rooms_that_stand_on_it() -> None:
    above = {"common_simplified", "organism", *(spec.runner.split(".")[0] for spec in PHASES)}
    found = {path.name: module_level_imports(path) & above for path in product("common")}
    assert {name: packages for name, packages in found.items() if packages} == {}


@pytest.mark.parametrize("name", LIGHT)
def test_configuration_and_registry_need_the_standard_library_only(name: str) -> None:
    import sys

    outside = module_level_imports(REPOSITORY / name) - set(sys.stdlib_module_names) - {"common"}
    assert outside == set()


def test_the_search_sees_imports_that_run_and_only_those(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nimport os.path\n"
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import zlib\n"
        "try:\n    import json\nfinally:\n    pass\n\ndef f():\n    import numpy\n"
    )
    assert module_level_imports(path) == {"typing", "os", "zlib", "json"}
