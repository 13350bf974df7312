"""Runs of the analysis in a temporary directory, and steps that only write what they are told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.config import resolve_config
from common.runs.files import write_json
from experiment_pathway_token_analysis.src import orchestrator
from experiment_pathway_token_analysis.src.orchestrator import MODULES, PACKAGE
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run, StepResult

# The model and SAEs that `planted.planted_run` writes under `root`.
PLANTED_PROFILE = """
model = "{root}/model"
model_local = true
n_layers = 4
d_model = 32
data_dir = "{root}/data"
[sae]
release = "{root}/saes"
id_pattern = "L{{layer}}R"
format = "llama_scope"
site = "resid_post"
width = 64
local = true
[dataset]
name = "none"
local = true
[corpus]
name = "none"
local = true
"""


def run_in(
    root: Path, *given: str, profile: str = "organism", settings: dict[str, Any] | None = None, **options: Any
) -> Run:
    """Returns a run whose data directory is `root`."""
    resolved = resolve_config({"profile": profile, "data_dir": str(root), **(settings or {})}, environment={})
    paths = PathwayPaths(root / "pathway")
    return Run(resolved.config, resolved.profile, load_settings(profile, given), paths, **options)


def study_in(run: Run, text: str = "{}") -> None:
    """Writes the two files of a study."""
    for name in ("analysis/comprehensive_patching_checkpoint_final.json", "response_logs/responses_000.json"):
        path = run.study_root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class FakeSteps:
    """Steps in the place of the real ones: each notes that it ran and writes one file that depends on those before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[int] = []
        self.passes = dict.fromkeys(range(len(MODULES)), True)
        self.codes = dict.fromkeys(range(len(MODULES)), 0)
        self.raises: dict[int, Exception] = {}
        self.put_aside = 0
        self.features: list[dict[str, Any]] = [{"feature": "L1-2"}]
        monkeypatch.setattr(orchestrator, "require_room", lambda *_: None)  # they take none
        for step, name in enumerate(MODULES):
            module = ModuleType(name)
            module.run_step = self._step(step)  # type: ignore[attr-defined]
            module.Discovery = self._discovery  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, f"{PACKAGE}.{name}", module)

    def output(self, run: Run, step: int) -> Path:
        """Returns the file that a step writes."""
        return run.paths.causal_features if step == 1 else run.paths.results / f"made_by_{step}.json"

    def _step(self, step: int) -> Callable[[Run], StepResult]:
        def run_step(run: Run) -> StepResult:
            self.ran.append(step)
            if step in self.raises:
                raise self.raises[step]
            before = [self.output(run, other) for other in range(step) if self.output(run, other).is_file()]
            inputs = sorted(run.study_root.rglob("*.json")) if step == 0 else before
            write_json(self.output(run, step), {"features": self.features} if step == 1 else {"step": step})
            return StepResult(self.passes[step], f"did {step}", inputs, [self.output(run, step)], self.codes[step])

        return run_step

    def _discovery(self, run: Run, *, computes_here: bool = True) -> Any:
        steps = self

        class Discovery:
            def set_aside(self) -> None:
                steps.put_aside += 1

        return Discovery()
