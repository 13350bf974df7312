from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.runs.features import Feature
from experiment_pathway_token_analysis.src.edges import (
    Effects,
    chain_figures,
    edge_figures,
    edge_head,
    effect_figures,
    passing,
)
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.validation import build_results, combined_p, is_valid

pytestmark = pytest.mark.unit

SETTINGS = load_settings("organism")
RULE = SETTINGS.replay
GOOD: dict[str, Any] = {
    **{"ci_low": 0.5, "ci_high": 1.0, "slope": 1.0, "sign_agreement": 0.9},
    **{"matched_p": 0.02, "mean_delta": 0.7},
}


@pytest.mark.parametrize(
    "change",
    [
        *({"matched_p": 0.06}, {"matched_p": None}, {"sign_agreement": 0.79}, {"sign_agreement": None}),
        *({"ci_low": -0.1}, {"ci_low": None}, {"slope": 0.49}, {"slope": 2.01}, {"slope": None}, {"slope": -1.0}),
        {"mean_delta": 0.04},
    ],
)
def test_every_part_of_the_rule_can_fail_an_edge_alone(change: dict[str, Any]) -> None:
    assert is_valid(GOOD, 1.0, RULE, True)
    assert not is_valid({**GOOD, **change}, 1.0, RULE, True)
    assert not is_valid(GOOD, 1.0, RULE, False)
    assert not is_valid(GOOD, 20.0, RULE, True)


def test_a_negative_edge_is_as_good_as_a_positive_one() -> None:
    assert is_valid({**GOOD, "mean_delta": -0.7, "ci_low": -1.0, "ci_high": -0.5}, 1.0, RULE, True)


def test_both_nulls_must_be_rejected() -> None:
    assert combined_p({"p_effect": 1e-9, "p_class": 0.3}) == 0.3
    assert combined_p({"p_effect": 0.2, "p_class": 0.001}) == 0.2
    assert combined_p({"p_effect": 0.2, "p_class": None}) == 1.0


def effects_of(n: int = 30, gain: float = 2.0) -> tuple[Effects, np.ndarray]:
    """Returns a linear edge: the source is 3 on the first class and 1 on the second, the target moves `gain` × it."""
    classes = np.arange(n) % 2
    current = np.where(classes == 0, 3.0, 1.0) + np.linspace(-0.2, 0.2, n)
    values = {"opposite": np.where(classes == 0, 1.0, 3.0) - current, "midpoint": 2.0 - current, "ablation": -current}
    values |= {"plus": 0.1 * values["opposite"], "minus": -0.1 * values["opposite"]}
    before = np.ones(n)
    return Effects(
        values, {name: gain * item for name, item in values.items()}, np.full(n, gain), before, before - 2 * classes
    ), classes


def test_the_figures_of_a_linear_edge_are_those_computed_by_hand() -> None:
    effects, classes = effects_of()
    figures = edge_figures(effects, classes, RULE, 1)
    assert figures["n"] == 30
    assert figures["mean_delta"] == pytest.approx(2.0 * np.abs(effects.amounts["opposite"]).mean())
    assert figures["predicted_delta"] == pytest.approx(figures["mean_delta"])
    assert figures["slope"] == pytest.approx(1) and figures["small_step_slope"] == pytest.approx(1)
    assert figures["sign_agreement"] == 1.0 and figures["gate_flip_rate"] == 0.5
    assert figures["class_delta"] == pytest.approx(2.0 * 1.0, rel=0.02), "half the classes' difference, times the gain"
    assert figures["ci_low"] <= figures["mean_delta"] <= figures["ci_high"]
    assert max(figures["p_effect"], figures["p_class"]) < 1e-6


def test_an_edge_between_features_that_do_not_tell_the_classes_has_an_effect_but_no_class_effect() -> None:
    effects, _ = effects_of()
    classes = np.random.default_rng(1).permutation(np.arange(30) % 2)
    figures = effect_figures(effects, classes, RULE, 1)
    assert figures["p_effect"] < 1e-6 < 0.05 < figures["p_class"]


def test_prompts_on_which_the_patch_changes_nothing_are_left_out() -> None:
    effects, classes = effects_of()
    effects.amounts["opposite"][:10] = 0
    assert effect_figures(effects, classes, RULE, 1)["n"] == 20


def test_pass_through_is_split_off_by_share_or_by_direction() -> None:
    gradient = SETTINGS.gradient
    assert passing(1.0, 0.95, 0.0, gradient) == (0.95, 0.0, "persistence")
    assert passing(1.0, 0.1, 0.9, gradient).label == "persistence"
    assert passing(1.0, 0.1, 0.2, gradient) == (pytest.approx(0.1), 0.2, "computation")
    assert passing(-1.0, 0.5, 0.0, gradient).skip_share == pytest.approx(0.25)
    assert passing(0.0, 0.0, 0.0, gradient).skip_share is None


def test_a_chain_loses_what_its_frozen_middle_carried() -> None:
    amounts = np.array([1.0, -1.0, 0.0])
    figures = chain_figures(np.array([2.0, -2.0, 9.0]), np.array([0.5, -0.5, 9.0]), amounts)
    assert figures == {"n": 2, "total_effect": 2.0, "frozen_effect": 0.5, "mediated_share": 0.75}
    assert chain_figures(np.zeros(3), np.zeros(3), amounts)["mediated_share"] is None


def edge(source: Feature, target: Feature, **changes: Any) -> dict[str, Any]:
    figures = {
        **{key: value for key, value in GOOD.items() if key != "matched_p"},
        **{"n": 40, "predicted_delta": 0.7, "pearson": 1.0, "spearman": 1.0, "small_step_slope": 1.0},
        **{"p_effect": 1e-9, "p_class": 1e-6, "class_delta": 0.2},
    }
    head = {"gradient": {"mean": 1.0, "sd": 0.1}, "attribution": 2.0, "rank": 1}
    more = {"skip_share": 0.1, "decoder_cosine": 0.0, "label": "computation"}
    return {**edge_head(source, target), **head, **more, "figures": {**figures, **changes}}


def record(target: Feature, edges: list[dict[str, Any]], sizes: list[float], chains: Any = ()) -> dict[str, Any]:
    figures = edge(Feature(0, 0), target)["figures"]
    controls = [
        {"source": f"L0-{100 + number}", "source_layer": 0, "figures": {**figures, "mean_delta": size, "p_class": 0.5}}
        for number, size in enumerate(sizes)
    ]
    names = {"feature": f"L{target.layer}-{target.index}", "layer": target.layer, "feature_id": target.index}
    return {
        **{**names, "class": "correct", "n_active_prompts": 40, "scale": 1.0, "n_candidates": 1, "n_kept": 1},
        **{"status": "ok", "reason": None, "edges": edges, "controls": controls, "chains": list(chains)},
    }


def test_half_of_the_matched_sources_sets_the_threshold_and_the_other_half_is_measured() -> None:
    target, sizes = Feature(2, 5), [0.9, 5.0] * 25
    results = build_results([record(target, [edge(Feature(0, 1), target)], sizes)], RULE, {})
    null = results["metadata"]["matched_null"]
    assert null["n_setting"] == null["n_measured"] == 25
    assert null["pairs"] == [{"source_layer": 0, "target_layer": 2, "n": 25, "p95": 0.9}]
    assert results["edges"][0]["replay"]["matched_p"] == 1.0 and not results["edges"][0]["validated"]
    assert null["false_positive_rate"]["numerator"] == 0, "large effects whose class effect is nothing do not pass"
    weak = build_results([record(target, [edge(Feature(0, 1), target)], [0.1] * 50)], RULE, {})
    assert weak["edges"][0]["replay"]["matched_p"] == 1 / 26 and weak["edges"][0]["validated"]


def test_controls_that_pass_the_whole_rule_are_counted_as_false_positives() -> None:
    target = Feature(2, 5)
    found = record(target, [edge(Feature(0, 1), target)], [0.1, 3.0] * 25)
    for control in found["controls"]:
        control["figures"]["p_class"] = 1e-7
    rate = build_results([found], RULE, {})["metadata"]["matched_null"]["false_positive_rate"]
    assert (rate["numerator"], rate["denominator"]) == (25, 25)


def test_edges_beyond_the_limit_and_with_too_few_prompts_are_reported_untested() -> None:
    target = Feature(2, 5)
    edges = [edge(Feature(0, 1), target), edge(Feature(0, 2), target, n=19), edge(Feature(0, 3), target)]
    edges[2]["figures"] = None
    found = build_results([record(target, edges, [0.1] * 50)], RULE, {})["edges"]
    assert [item["replay"]["tested"] for item in found] == [True, False, False]
    assert [item["validated"] for item in found] == [True, False, False]
    assert "19 prompts, 20 are needed" in found[1]["replay"]["reason"]
    assert found[2]["replay"]["reason"] == "beyond replay.max_edges"


def test_q_values_are_over_all_tested_edges() -> None:
    target = Feature(2, 5)
    edges = [edge(Feature(0, index), target, p_class=p) for index, p in enumerate((0.01, 0.04, 0.5))]
    found = build_results([record(target, edges, [0.1] * 50)], RULE, {})
    assert [item["replay"]["q"] for item in found["edges"]] == pytest.approx([0.03, 0.06, 0.5])
    assert found["metadata"]["p_threshold"] == 0.01


def test_a_chain_needs_its_three_edges_and_half_of_its_effect() -> None:
    source, middle, target = Feature(0, 1), Feature(1, 2), Feature(2, 5)
    chain = {"source": "L0-1", "middle": "L1-2", "target": "L2-5", "n": 40, "total_effect": 1.0, "frozen_effect": 0.4}
    first = record(middle, [edge(source, middle)], [0.1] * 50)
    edges = [edge(source, target), edge(middle, target)]

    def chains(share: float, edges: list[dict[str, Any]]) -> Any:
        second = record(target, edges, [0.1] * 50, [{**chain, "mediated_share": share}])
        second["controls"] += [{**item, "source_layer": 1} for item in second["controls"]]
        return build_results([first, second], RULE, {})["chains"]

    assert [item["mediated"] for item in chains(0.6, edges)] == [True]
    assert [item["mediated"] for item in chains(0.4, edges)] == [False]
    assert chains(0.6, edges[:1]) == []
