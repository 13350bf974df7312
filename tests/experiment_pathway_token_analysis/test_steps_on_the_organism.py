from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config import Config
from common.profiles import REPOSITORY, load_profile
from experiment_pathway_token_analysis.src import step2_pathway_prototype, step3_pathway_discovery
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run

pytestmark = pytest.mark.smoke

SMALL = ("replay.min_prompts=8", "replay.controls_per_layer_pair=20", "replay.bootstrap_draws=200")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The bundled Gemma-2 with its trained SAEs, on prompts whose classes are arbitrary and targets that fire there."""
    profile = load_profile("organism")
    paths = PathwayPaths(tmp_path_factory.mktemp("organism"))
    config = Config(profile="organism", model_name=profile.model, device="cpu")
    run = Run(config, profile, load_settings("organism", SMALL), paths)
    lines = (REPOSITORY / "organism/instance/problems.jsonl").read_text(encoding="utf-8").splitlines()[:32]
    prompts = [
        {
            **{
                "id": f"p{row}",
                "class": ("correct", "incorrect")[row % 2],
                "split": ("select", "validate")[row // 2 % 2],
            },
            "prompt": f"{json.loads(line)['text']}\n\n# Solution:\n",
        }
        for row, line in enumerate(lines)
    ]
    write(paths.prompts, {"schema_version": 1, "prompts": prompts})
    write_targets(paths, [(3, 0)])
    step2_pathway_prototype.run_step(run)
    candidates = json.loads(paths.prototype.read_text())["upstream_candidates"]
    strongest = [next(item["source"] for item in candidates if item["source_layer"] == layer) for layer in (1, 2)]
    write_targets(paths, [(layer, int(name.split("-")[1])) for layer, name in zip((1, 2), strongest, strict=True)])
    return run


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_targets(paths: PathwayPaths, targets: list[tuple[int, int]]) -> None:
    features = [
        {"feature": f"L{layer}-{index}", "layer": layer, "feature_id": index, "cohen_d": 1.0, "class": "correct"}
        for layer, index in targets
    ]
    write(paths.causal_features, {"metadata": {}, "features": features})


def test_the_self_test_holds_on_a_gemma_2_with_trained_saes(run: Run) -> None:
    result = step2_pathway_prototype.run_step(run)
    assert result.passed, result.message
    report = json.loads(run.paths.prototype.read_text())
    fit = next(check for check in report["self_test"]["checks"] if check["name"] == "SAEs fit the stream")
    assert fit["worst_unexplained"] < 0.15
    assert 0 < report["memory_usage_gb"]["reserved"] < run.settings.memory_ceiling_gb


def test_replay_follows_the_gradient_on_a_gemma_2_with_trained_saes(run: Run) -> None:
    assert step3_pathway_discovery.run_step(run).passed
    found = json.loads(run.paths.validated.read_text())
    tested = [edge["replay"] for edge in found["edges"] if edge["replay"]["tested"]]
    assert len(tested) >= 5
    assert all(abs(replay["small_step_slope"] - 1) < 0.02 for replay in tested)
    assert sum(0.5 <= replay["slope"] <= 2 for replay in tested) >= 0.9 * len(tested)
    assert found["metadata"]["matched_null"]["false_positive_rate"]["value"] <= 0.05
