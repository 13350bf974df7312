"""Steering the bundled tiny model: choosing in slices and by hand, effects held against pandas and scipy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from common.runs.artifacts import COEFFICIENT_RESULTS, STEERING_RESULTS
from tests.cli.steering_place import quietly
from tests.organism_runs.conftest import Detected
from tests.organism_runs.steering import Steered, recounted, steered
from tests.organism_runs.steering_runs import DIRECTIONS, SLICE, Chosen, Effects, final_results, ok, one_line, words


@pytest.fixture(params=["4.8", "7.6"])
def phase(request: pytest.FixtureRequest, effects: Effects) -> Iterator[Steered]:
    yield effects.whole if request.param == "4.8" else effects.instruct


# --- choosing


@pytest.mark.smoke
def test_a_slice_chooses_nothing_and_the_rest_of_the_grid_does(chosen: Chosen) -> None:
    assert "nothing is chosen before the whole split is done" in chosen.first.err
    assert "48 of 97 problems" in chosen.first.err and chosen.selected[0] is None
    line = one_line(chosen.refusal)
    assert "phase 4.8 reads phase 4.5, which is partial" in line and "run.py phase 4.5 --profile organism" in line
    assert chosen.selected[1] is not None and set(chosen.selected[1]) == set(DIRECTIONS)
    assert all(entry["chosen"] == "suggested" for entry in chosen.selected[1].values())


@pytest.mark.smoke
def test_choosing_again_does_nothing(chosen: Chosen) -> None:
    assert "nothing to do" in chosen.again.err and " loading " not in chosen.again.err
    assert (chosen.grids[2], chosen.selected[2]) == (chosen.grids[1], chosen.selected[1])


@pytest.mark.smoke
def test_a_choice_by_hand_evaluates_anew_leaves_the_grid_alone_and_stays(chosen: Chosen) -> None:
    assert set(chosen.grids[1:]) == {chosen.grids[1]}
    suggested, by_hand, kept, back = (found or {} for found in chosen.selected[2:])
    assert (by_hand["correct"]["coefficient"], by_hand["correct"]["chosen"]) == (5.0, "by hand")
    assert f"suggested was {suggested['correct']['coefficient']:g}" in by_hand["correct"]["rationale"]
    assert "nothing to do" in chosen.kept.err and kept == by_hand
    for name in ("coefficient", "chosen", "rationale", "layer", "feature_idx"):
        assert by_hand["incorrect"][name] == suggested["incorrect"][name], name
        assert back["correct"][name] == suggested["correct"][name], name


@pytest.mark.smoke
def test_the_suggestion_is_the_best_of_the_grid_by_hand(chosen: Chosen) -> None:
    """Never 0, however well it does."""
    rows = steered(chosen.data, "4.5").rows()
    for direction in DIRECTIONS:
        feature = steered(chosen.data, "4.5").record()["steering_features"][direction]
        layer, index, coefficient = best_by_hand(rows[rows["coefficient"] != 0], direction, [tuple(feature)])
        assert [layer, index] == feature
        assert (chosen.selected[1] or {})[direction]["coefficient"] == coefficient


@pytest.mark.smoke
def test_of_several_candidates_the_one_that_steers_best_goes_on_to_the_grid(detected: Detected, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(detected.data, data)
    asked = ("coefficient_unit=residual_norm", "coefficients=0.25", "candidates=4", "final_eval_problems=0")
    more = [word for setting in asked for word in ("--set", f"phase4_5_{setting}")]
    ok(quietly(*words(data, "4.5", *more)))
    phase = steered(data, "4.5")
    screened, grid = pd.read_parquet(phase.root / "screening" / COEFFICIENT_RESULTS), phase.rows()
    top = json.loads((data / "phase2_5" / "top_20_features.json").read_text())
    for direction in DIRECTIONS:
        ranked = [(item["layer"], item["feature_idx"]) for item in top[direction][:4]]
        own = screened[(screened["direction"] == direction) & (screened["kind"] == "target")]
        assert set(zip(own["layer"], own["target_idx"], strict=True)) == set(ranked) and len(own) == 4 * 6
        layer, index, _ = best_by_hand(screened, direction, ranked)
        went_on = grid[(grid["direction"] == direction) & (grid["kind"] == "target")]
        assert set(zip(went_on["layer"], went_on["target_idx"], strict=True)) == {(layer, index)}
        assert phase.record()["steering_features"][direction] == [layer, index]


def best_by_hand(rows: pd.DataFrame, direction: str, ranked: list[tuple[int, int]]) -> tuple[int, int, float]:
    """Returns layer, index and coefficient of the best trial of a direction, counted anew.

    Most fixes − breaks, or most breaks that parse beyond a random direction; of equally good ones the farthest beyond
    it, then the better ranked feature, then the smaller coefficient.
    """
    trials = []
    for place, (layer, index) in enumerate(ranked):
        here = rows[(rows["direction"] == direction) & (rows["layer"] == layer) & (rows["target_idx"] == index)]
        for coefficient, tried in here.groupby("coefficient"):
            kinds = {kind: recounted(of_kind, direction) for kind, of_kind in tried.groupby("kind")}
            own = kinds["target"]
            beyond = own - kinds["random_direction"]
            merit = own if direction == "correct" else beyond
            trials.append((-merit, -beyond, place, abs(float(coefficient)), (layer, index, float(coefficient))))
    return min(trials)[-1]


@pytest.mark.smoke
def test_choosing_and_final_evaluation_use_different_problems(chosen: Chosen) -> None:
    grid = steered(chosen.data, "4.5").rows()
    final = pd.read_parquet(final_results(chosen.data))
    assert len(set(grid["task_id"])) == 6 and len(set(final["task_id"])) == 8
    assert not set(grid["task_id"]) & set(final["task_id"])
    assert set(grid.groupby("condition").size()) == {6} and set(final.groupby("condition").size()) == {8}
    assert grid["baseline_passed"].nunique() == 2


@pytest.mark.smoke
def test_a_coefficient_of_zero_in_the_grid_is_the_zero_arm(chosen: Chosen) -> None:
    rows = steered(chosen.data, "4.5").rows()
    texts = rows[rows["coefficient"] == 0].pivot(index="position", columns="condition", values="generated_text")
    assert texts.shape == (6, 5) and (texts.nunique(axis=1) == 1).all()


# --- effects


@pytest.mark.smoke
def test_slices_in_any_order_give_the_rows_of_one_run_byte_for_byte(effects: Effects) -> None:
    one, other = (item.root / STEERING_RESULTS for item in (effects.whole, effects.sliced))
    assert one.read_bytes() == other.read_bytes()
    assert effects.whole.record()["done"] == SLICE and not effects.whole.record()["complete"]


@pytest.mark.smoke
def test_the_same_slice_again_has_nothing_to_do(effects: Effects) -> None:
    assert "nothing to do" in effects.again.err and effects.whole.record()["generation"] == 1


@pytest.mark.smoke
def test_the_zero_arm_is_the_baseline_token_for_token_and_every_step_was_steered(
    phase: Steered, effects: Effects
) -> None:
    rows = phase.rows()
    name = {
        "phase4_8": "phase3_5/dataset_temp_0_0.parquet",
        "phase7_6": "phase7_3/dataset_instruct_temp_0_0.parquet",
    }[phase.root.name]
    baseline = pd.read_parquet(effects.data / name).set_index("task_id")
    zero = rows[rows["kind"] == "zero"].set_index("task_id")
    assert len(zero) == SLICE
    for column in ("prompt", "generated_text", "n_prompt_tokens", "n_new_tokens", "generated_code", "test_passed"):
        assert (zero[column] == baseline.loc[zero.index, column]).all(), column
    assert (rows["prompt"].to_numpy() == baseline.loc[rows["task_id"], "prompt"].to_numpy()).all()
    assert (rows["baseline_passed"].to_numpy() == baseline.loc[rows["task_id"], "test_passed"].to_numpy()).all()
    assert (rows["steered_steps"] == rows["n_new_tokens"]).all()
    assert (rows["n_new_tokens"] <= phase.record()["max_new_tokens"]).all()


@pytest.mark.smoke
def test_the_figures_are_those_of_pandas_and_scipy(phase: Steered) -> None:
    rows, analysis = phase.rows(), phase.analysis()
    for direction in DIRECTIONS:
        own = rows[(rows["kind"] == "target") & (rows["direction"] == direction)]
        assert len(own) == SLICE
        assert_effect(analysis["directions"][direction]["effect"], own)
        groups = pd.cut(own["cyclomatic_complexity"], [0, 1, 3, np.inf]).cat.codes
        for code, entry in enumerate(analysis["directions"][direction]["by_difficulty"]):
            assert_effect(entry, own[groups == code])
    floor = rows[rows["kind"] == "zero"]
    assert_effect(analysis["noise_floor"], floor)
    assert analysis["noise_floor"]["fixes"] == analysis["noise_floor"]["breaks"] == 0


@pytest.mark.smoke
def test_the_rank_among_controls_is_counted_on_the_problems_that_all_share(phase: Steered) -> None:
    rows, analysis = phase.rows(), phase.analysis()
    for direction in DIRECTIONS:
        mine = rows[rows["direction"] == direction]
        controls = mine[mine["kind"].isin(["random_feature", "random_direction"])]
        shared = set.intersection(*(set(item["position"]) for _, item in controls.groupby("condition")))
        target = mine[(mine["kind"] == "target") & mine["position"].isin(shared)]
        own = recounted(target, direction)
        found = analysis["directions"][direction]["controls"]
        assert (found["n_problems"], found["outcome"]) == (len(shared), own)
        ps = {}
        for kind, of_kind in controls.groupby("kind"):
            outcomes = [recounted(item, direction) for _, item in of_kind.groupby("condition")]
            at_least = sum(outcome >= own for outcome in outcomes)
            ps[kind] = (1 + at_least) / (1 + len(outcomes))
            rank = found[kind]["rank"]
            assert (rank["n_controls"], rank["n_at_least"], rank["p"]) == (1, at_least, pytest.approx(ps[kind]))
        assert found["rank"]["p"] == pytest.approx(max(ps.values())), "the worse of both kinds is reported"
        assert set(controls["coefficient"]) == {analysis["directions"][direction]["coefficient"]}
        assert set(controls["layer"]) == {analysis["directions"][direction]["feature"]["layer"]}


@pytest.mark.smoke
def test_selective_steering_is_that_of_the_scores_and_thresholds(effects: Effects) -> None:
    """Fixing where failure is predicted, breaking where success is: phase 3.8's scores, taken by hand."""
    rows, analysis = effects.whole.rows(), effects.whole.analysis()
    scores = pd.read_parquet(effects.data / "phase3_8" / "scores.parquet")
    scores = scores[scores["split"] == "validation"].set_index("task_id")
    reports = json.loads((effects.data / "phase3_8" / "evaluation_results.json").read_text())["directions"]
    for direction, predictor in (("correct", "incorrect"), ("incorrect", "correct")):
        own = rows[(rows["kind"] == "target") & (rows["direction"] == direction)].set_index("task_id")
        threshold = reports[predictor]["threshold"]["threshold"]
        fires = scores.loc[own.index, f"{predictor}_score"] >= threshold
        changed = own.assign(
            test_passed=own["test_passed"].where(fires, own["baseline_passed"]),
            parses=own["parses"].where(fires, own["baseline_parses"]),
        )
        found = analysis["directions"][direction]["selective"]
        assert (found["threshold"], found["n_steered"], found["n"]) == (threshold, int(fires.sum()), SLICE)
        assert_effect(found["effect"], changed)
        assert 0 < found["n_steered"] < SLICE


@pytest.mark.smoke
def test_controls_are_matched_and_every_row_was_steered_by_its_own_vector(effects: Effects) -> None:
    """Steered texts differ from the baseline somewhere, and between target and controls."""
    rows = effects.whole.rows()
    texts = rows.pivot(index="position", columns="condition", values="generated_text").dropna()
    assert texts.shape[1] == 7 and len(texts) >= 1
    base = rows[rows["kind"] == "zero"].set_index("position")["generated_text"]
    for name, own in rows[rows["kind"] == "target"].groupby("condition"):
        assert (own.set_index("position")["generated_text"] != base).mean() > 0.2, name
    for direction in DIRECTIONS:
        entry = effects.whole.analysis()["directions"][direction]
        norms = [item["decoder_norm"] for item in entry["controls"]["random_feature"]["conditions"]]
        assert norms == pytest.approx([1.0], abs=0.05)


# --- the instruction-tuned model


@pytest.mark.smoke
def test_phase_7_6_refuses_a_partial_4_8_and_is_partial_itself_where_it_is_allowed(effects: Effects) -> None:
    line = one_line(effects.refusal)
    assert "phase 7.6 reads phase 4.8, which is partial" in line and f"{SLICE} of 388 problems" in line
    record = effects.instruct.record()
    assert not record["complete"] and not record["inputs_complete"] and record["done"] == SLICE
    status = quietly("status", "--profile", "organism", "--data-dir", effects.data).out
    assert next(line for line in status.splitlines() if line.startswith("7.6")).split()[3] == "partial"


@pytest.mark.smoke
def test_both_models_stand_side_by_side_with_their_own_figures(effects: Effects) -> None:
    found = json.loads((effects.instruct.root / "cross_model_comparison.json").read_text())
    for direction in DIRECTIONS:
        for model, phase in (("base", effects.whole), ("instruct", effects.instruct)):
            analysis = phase.analysis()["directions"][direction]
            assert found["steering"][direction][model]["effect"] == analysis["effect"]
        own, base = (found["steering"][direction][model]["effect"]["correction"] for model in ("instruct", "base"))
        assert found["steering"][direction]["differences"]["correction"]["value"] == pytest.approx(
            own["value"] - base["value"]
        )
    assert len(found["statements"]) == 4 and effects.instruct.record()["model"]["role"] == "instruct"
    assert effects.instruct.analysis()["model"]["name"].endswith("instruct")


def assert_effect(found: dict[str, Any], rows: pd.DataFrame) -> None:
    """Holds counts, rates, Wilson intervals and McNemar's p against pandas and scipy."""
    before, after = rows["baseline_passed"].to_numpy(bool), rows["test_passed"].to_numpy(bool)
    fixes, breaks = int((~before & after).sum()), int((before & ~after).sum())
    counts = (found["n"], found["n_failing"], found["n_passing"], found["fixes"], found["breaks"], found["net"])
    assert counts == (len(rows), int((~before).sum()), int(before.sum()), fixes, breaks, fixes - breaks)
    assert found["breaks_that_parse"] == int((before & ~after & rows["parses"].to_numpy(bool)).sum())
    for name, numerator, denominator in (
        ("correction", fixes, int((~before).sum())),
        ("corruption", breaks, int(before.sum())),
        ("preservation", int((before & after).sum()), int(before.sum())),
        ("flip_rate", fixes + breaks, len(rows)),
        ("parsing", int(rows["parses"].sum()), len(rows)),
    ):
        entry = found[name]
        assert (entry["numerator"], entry["denominator"]) == (numerator, denominator)
        if denominator == 0:
            assert entry["value"] is None and entry["reason"]
            continue
        interval = binomtest(numerator, denominator).proportion_ci(0.95, method="wilson")
        assert [entry["value"], entry["low"], entry["high"]] == pytest.approx(
            [numerator / denominator, interval.low, interval.high], abs=1e-12
        )
    if len(rows):
        expected = binomtest(fixes, fixes + breaks).pvalue if fixes + breaks else 1.0
        assert found["mcnemar_p"] == pytest.approx(expected, abs=1e-12)
