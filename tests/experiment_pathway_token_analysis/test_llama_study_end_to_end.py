"""Steps 0 to 5 on the other kind of input: a synthetic Llama study, a tiny Llama, SAEs in LlamaScope's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli import helpers
from tests.experiment_pathway_token_analysis.llama_place import make_llama_place

pytestmark = pytest.mark.slow
SAES: dict[str, dict[str, Any]] = {"jumprelu": {}, "topk": {"act_fn": "topk", "top_k": 16}}


@pytest.mark.parametrize("kind", SAES)
def test_a_llama_study_goes_through_every_step(kind: str, tmp_path: Path) -> None:
    place = make_llama_place(tmp_path, sae=SAES[kind])
    run = place.run
    answer = helpers.run(*place.words())
    assert answer.code == 0, answer
    manifests = [json.loads(run.paths.manifest(step).read_text()) for step in range(6)]
    assert [manifest["status"] for manifest in manifests] == ["passed"] * 6
    assert json.loads(run.paths.causal_features.read_text())["features"]
    edges = json.loads(run.paths.validated.read_text())["edges"]
    assert edges and all(edge["source_layer"] < edge["target_layer"] for edge in edges)
    assert (run.paths.integrated / "summary.md").is_file()
    again = helpers.run(*place.words())
    assert again.code == 0 and again.err.count("complete and current") == 6 and again.out == answer.out
