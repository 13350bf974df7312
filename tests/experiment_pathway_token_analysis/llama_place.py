"""A synthetic Llama study, a tiny Llama with planted edges and its SAEs: everything that steps 0 to 5 read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiment_pathway_token_analysis.src.settings import CONFIG_FILE, load_settings
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.synthetic_study import SMALL, write_study
from tests.experiment_pathway_token_analysis import planted
from tests.experiment_pathway_token_analysis.runs import PLANTED_PROFILE


class LlamaPlace(NamedTuple):
    """A profile, a file of settings, the data directory, and a run that names its files."""

    profile: Path
    settings: Path
    data: Path
    run: Run

    def words(self, *more: object) -> tuple[object, ...]:
        """Returns the command line of the analysis in this place."""
        places = ("--profile", self.profile, "--pathway-config", self.settings, "--data-dir", self.data)
        return ("pathway", *places, *more)


def make_llama_place(root: Path, *, sae: dict[str, Any] | None = None, **replay: Any) -> LlamaPlace:
    """Makes everything that the steps read under `root`; `replay` are settings of its section."""
    run = planted.planted_run(root, **(sae or {}))
    (root / "planted.toml").write_text(PLANTED_PROFILE.format(root=root), encoding="utf-8")
    settings = _settings_file(root, replay)
    write_study(run.study_root, load_settings("planted", [], settings).study, SMALL, width=64)
    prompts = json.loads(run.paths.prompts.read_text())
    for prompt in prompts["prompts"]:
        prompt["class"] = {"correct": "safe", "incorrect": "risky"}[prompt["class"]]
    run.paths.prompts.write_text(json.dumps(prompts))
    run.paths.causal_features.unlink()
    return LlamaPlace(root / "planted.toml", settings, root / "data", run)


def _settings_file(root: Path, replay: dict[str, Any]) -> Path:
    """Writes config.yaml with the Llama study's own section for everybody, and small numbers."""
    stated = yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))
    of_llama = stated["profiles"]["llama-3.1-8b"]["study"]
    stated["study"] |= {**of_llama, "expected_checkpoints": None, "expected_response_logs": None}
    stated["tokens"]["permutations"] = 500
    stated["replay"] |= {"controls_per_layer_pair": 40, "bootstrap_draws": 500, **replay}
    stated["gradient"]["top_sources"] = 8
    stated["profiles"] = {}
    path = root / "settings.yaml"
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return path
