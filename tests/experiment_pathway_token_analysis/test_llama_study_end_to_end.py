"""Steps 0 to 5 on the other kind of input: a synthetic Llama study, a tiny Llama, SAEs in LlamaScope's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment_pathway_token_analysis.src.settings import CONFIG_FILE, load_settings
from experiment_pathway_token_analysis.synthetic_study import SMALL, write_study
from tests.cli import helpers
from tests.experiment_pathway_token_analysis import planted
from tests.experiment_pathway_token_analysis.runs import PLANTED_PROFILE

pytestmark = pytest.mark.slow
SAES: dict[str, dict[str, Any]] = {"jumprelu": {}, "topk": {"act_fn": "topk", "top_k": 16}}


def settings_file(root: Path) -> Path:
    """Writes config.yaml with the Llama study's own section for everybody, and small numbers."""
    stated = yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))
    of_llama = stated["profiles"]["llama-3.1-8b"]["study"]
    stated["study"] |= {**of_llama, "expected_checkpoints": None, "expected_response_logs": None}
    stated["tokens"]["permutations"] = 500
    stated["replay"] |= {"controls_per_layer_pair": 40, "bootstrap_draws": 500}
    stated["gradient"]["top_sources"] = 8
    stated["profiles"] = {}
    path = root / "settings.yaml"
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", SAES)
def test_a_llama_study_goes_through_every_step(kind: str, tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path, **SAES[kind])
    (tmp_path / "planted.toml").write_text(PLANTED_PROFILE.format(root=tmp_path), encoding="utf-8")
    settings = settings_file(tmp_path)
    study = load_settings("planted", [], settings).study
    truth = write_study(tmp_path / "data" / "pathway" / "study", study, SMALL, width=64)
    prompts = json.loads(run.paths.prompts.read_text())
    for prompt in prompts["prompts"]:
        prompt["class"] = {"correct": "safe", "incorrect": "risky"}[prompt["class"]]
    run.paths.prompts.write_text(json.dumps(prompts))
    run.paths.causal_features.unlink()
    words = ("pathway", "--profile", tmp_path / "planted.toml", "--pathway-config", settings)
    answer = helpers.run(*words)
    assert answer.code == 0, answer
    manifests = [json.loads(run.paths.manifest(step).read_text()) for step in range(6)]
    assert [manifest["status"] for manifest in manifests] == ["passed"] * 6
    selected = json.loads(run.paths.causal_features.read_text())["features"]
    assert selected and truth
    edges = json.loads(run.paths.validated.read_text())["edges"]
    assert edges and all(edge["source_layer"] < edge["target_layer"] for edge in edges)
    assert (run.paths.integrated / "summary.md").is_file()
    again = helpers.run(*words)
    assert again.code == 0 and again.err.count("complete and current") == 6 and again.out == answer.out
