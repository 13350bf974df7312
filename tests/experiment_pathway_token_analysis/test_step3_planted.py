from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiment_pathway_token_analysis.src import step2_pathway_prototype, step3_pathway_discovery
from experiment_pathway_token_analysis.src.steps import Run
from tests.experiment_pathway_token_analysis import planted

pytestmark = pytest.mark.numeric


class Found(NamedTuple):
    run: Run
    results: dict[str, Any]

    def edge(self, name: str) -> dict[str, Any]:
        return next(edge for edge in self.results["edges"] if edge["edge_id"] == name)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    run = planted.planted_run(tmp_path_factory.mktemp("planted"))
    assert step3_pathway_discovery.run_step(run).passed
    return Found(run, json.loads(run.paths.validated.read_text()))


def strength(*numbers: int) -> float:
    return float(np.prod([planted.EDGES[number].strength for number in numbers]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("L0-1->L1-9", strength(0)),
        ("L1-9->L2-10", strength(1)),
        ("L0-1->L2-10", strength(0, 1)),
        ("L0-2->L1-12", strength(2)),
        ("L0-2->L2-11", strength(3) + strength(2, 4)),
        ("L1-2->L2-11", strength(3)),
        ("L1-12->L2-11", strength(4)),
    ],
)
def test_a_planted_edge_is_found_with_its_sign_and_strength(found: Found, name: str, expected: float) -> None:
    edge = found.edge(name)
    assert edge["validated"] and edge["label"] == "computation"
    assert edge["gradient"]["mean"] == pytest.approx(expected, rel=0.1)
    assert np.sign(edge["replay"]["mean_delta"]) == np.sign(expected)
    assert edge["replay"]["slope"] == pytest.approx(1, abs=0.05)


def test_what_merely_stays_in_the_stream_is_called_persistence(found: Found) -> None:
    edge = found.edge("L1-9->L3-9")
    assert edge["label"] == "persistence" and edge["skip_share"] > 0.99
    assert edge["gradient"]["mean"] == pytest.approx(1, rel=0.05)


def test_every_validated_edge_is_one_that_was_planted(found: Found) -> None:
    planted_ends = {1: {9, 10, 12, 11}, 2: {11, 12}, 9: {9, 10}, 12: {11}, 10: {10}}
    for edge in found.results["edges"]:
        if edge["validated"]:  # feature 32 + k reads the same direction as k, from the other side
            assert edge["target_id"] in planted_ends[edge["source_id"] % planted.D], edge["edge_id"]


def test_no_edge_leads_from_a_layer_to_the_same_or_an_earlier_one(found: Found) -> None:
    assert found.results["edges"]
    assert all(edge["source_layer"] < edge["target_layer"] for edge in found.results["edges"])


def test_the_small_step_limit_of_replay_is_the_gradient(found: Found) -> None:
    tested = [edge["replay"] for edge in found.results["edges"] if edge["replay"]["tested"]]
    assert len(tested) > 10
    assert all(abs(replay["small_step_slope"] - 1) < 0.02 and replay["linear_ok"] for replay in tested)


def test_matched_random_sources_pass_in_at_most_five_percent(found: Found) -> None:
    rate = found.results["metadata"]["matched_null"]["false_positive_rate"]
    assert rate["denominator"] >= 100
    assert rate["value"] <= 0.05


def test_shuffled_class_labels_validate_at_most_five_percent(found: Found, tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path, "replay.controls_per_layer_pair=40")
    tested = validated = moved = 0
    for seed in range(6):
        planted.write_prompts(run, shuffled=seed)
        shutil.rmtree(run.paths.pathways, ignore_errors=True)
        step3_pathway_discovery.run_step(run)
        edges = json.loads(run.paths.validated.read_text())["edges"]
        tested += sum(edge["replay"]["tested"] for edge in edges)
        validated += sum(edge["validated"] for edge in edges)
        moved += sum(edge["replay"]["p_effect"] < 1e-6 for edge in edges)
    assert tested > 60
    assert moved > 0.9 * tested, "the sources move the targets whatever the labels say"
    assert validated <= 0.05 * tested


def test_a_chain_whose_middle_is_frozen_loses_its_effect(found: Found) -> None:
    chain = chain_of(found, "L0-1", "L1-9", "L2-10")
    assert chain["mediated"] and chain["mediated_share"] == pytest.approx(1, abs=0.05)


def test_a_chain_that_bypasses_its_middle_keeps_most_of_its_effect(found: Found) -> None:
    chain = chain_of(found, "L0-2", "L1-12", "L2-11")
    assert not chain["mediated"]
    indirect = strength(2, 4)
    assert chain["mediated_share"] == pytest.approx(indirect / (indirect + strength(3)), abs=0.03)


def test_an_edge_measured_on_too_few_prompts_is_reported_untested(found: Found, tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path)
    planted.write_prompts(run, per_class=8)
    step3_pathway_discovery.run_step(run)
    edges = json.loads(run.paths.validated.read_text())["edges"]
    assert edges and not any(edge["validated"] or edge["replay"]["tested"] for edge in edges)
    assert "8 prompts, 20 are needed" in edges[0]["replay"]["reason"]


def test_the_targets_say_what_became_of_them(tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path)
    planted.write_targets(run, ((0, 1), (2, 11), (2, 32)))
    step3_pathway_discovery.run_step(run)
    targets = json.loads(run.paths.validated.read_text())["targets"]
    assert [target["status"] for target in targets] == ["skipped", "ok", "inactive"]
    assert targets[0]["reason"] == "no earlier layer has an SAE"
    assert targets[2]["n_active_prompts"] == 0


def test_no_causal_feature_at_all_is_a_valid_outcome(tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path)
    planted.write_targets(run, ())
    assert step2_pathway_prototype.run_step(run).passed
    assert step3_pathway_discovery.run_step(run).passed
    results = json.loads(run.paths.validated.read_text())
    assert results["edges"] == results["targets"] == results["chains"] == []


def chain_of(found: Found, source: str, middle: str, target: str) -> dict[str, Any]:
    names = (source, middle, target)
    return next(one for one in found.results["chains"] if (one["source"], one["middle"], one["target"]) == names)
