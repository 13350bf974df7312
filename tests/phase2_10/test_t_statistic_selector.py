from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from common.errors import UsageError
from common.runs.artifacts import FEATURE_SCORES, SAE_ANALYSIS, TOP_FEATURES
from common.runs.metadata import read_record
from common.runs.status import all_states
from common.statistics.permutation import permuted_labels
from phase2_10.t_statistic_selector import TStatisticSelector
from tests.common_simplified.fixtures import WIDTH
from tests.phase2_10.helpers import LAYERS, Built, build, publish_frequencies, rare

pytestmark = pytest.mark.numeric

SHUFFLES = 30
SETTINGS = {"phase2_10_permutations": SHUFFLES, "phase2_10_top_k": 5}


class Ranking:
    """What a run of phase 2.10 wrote."""

    def __init__(self, built: Built) -> None:
        self.runner = TStatisticSelector(built.config)
        self.runner.run()
        root = self.runner.paths.root
        self.table: pd.DataFrame = pq.read_table(root / FEATURE_SCORES).to_pandas()
        self.top: dict[str, Any] = json.loads((root / TOP_FEATURES).read_text())
        self.results: dict[str, Any] = json.loads((root / SAE_ANALYSIS).read_text())
        self.record = read_record(self.runner.paths)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("ranking"), **SETTINGS)


@pytest.fixture(scope="module")
def unfiltered(built: Built) -> Ranking:
    return Ranking(built)


@pytest.fixture(scope="module")
def filtered(built: Built, unfiltered: Ranking) -> tuple[Ranking, dict[int, np.ndarray]]:
    """The same vectors, with the unfiltered run's best feature at the limit and its second just below.

    A third of the features is far above it, so that the null without them is another one.
    """
    shares = rare()
    for layer in LAYERS:
        shares[layer][::3] = 0.5
    first, second = unfiltered.top["correct"][:2]
    shares[first["layer"]][first["feature_idx"]] = 0.02
    shares[second["layer"]][second["feature_idx"]] = 0.0199
    publish_frequencies(built, shares)
    return Ranking(built), shares


def test_every_feature_has_scipys_welch_t_rank_test_and_sklearns_area(built: Built, unfiltered: Ranking) -> None:
    assert len(unfiltered.table) == len(LAYERS) * WIDTH
    for layer in LAYERS:
        acts = built.activations(layer)
        rows = unfiltered.table[unfiltered.table["layer"] == layer].sort_values("feature_idx")
        with np.errstate(all="ignore"):
            welch = stats.ttest_ind(acts[built.labels], acts[~built.labels], equal_var=False).statistic
        varies = np.ptp(acts, axis=0) > 0
        assert varies.sum() > WIDTH // 2
        np.testing.assert_allclose(rows["t_statistic"].to_numpy()[varies], welch[varies], rtol=1e-6, atol=1e-6)
        for feature in np.flatnonzero(varies):
            one, other = acts[built.labels, feature], acts[~built.labels, feature]
            ranks = stats.mannwhitneyu(one, other, method="asymptotic")
            assert rows["p_value"].iloc[feature] == pytest.approx(ranks.pvalue, rel=1e-6), (layer, feature)
            area = roc_auc_score(built.labels, acts[:, feature])
            assert rows["auroc_in_sample"].iloc[feature] == pytest.approx(area, abs=1e-9)
        np.testing.assert_allclose(rows["f_correct"], (acts[built.labels] > 0).mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(rows["mean_activation_incorrect"], acts[~built.labels].mean(axis=0), atol=1e-5)


def test_q_values_are_scipys_over_the_features_that_can_be_tested(unfiltered: Ranking) -> None:
    tested = unfiltered.table[unfiltered.table["p_value"].notna()]
    expected = stats.false_discovery_control(tested["p_value"], method="bh")
    np.testing.assert_allclose(tested["q_value"], expected, rtol=1e-9)


def test_both_lists_hold_the_largest_scores_of_their_direction_and_say_so_by_name(unfiltered: Ranking) -> None:
    for direction, sign in (("correct", 1), ("incorrect", -1)):
        expected = (sign * unfiltered.table["t_statistic"]).nlargest(5).to_numpy()
        items = unfiltered.top[direction]
        np.testing.assert_allclose([item["t_statistic"] for item in items], expected)
        assert all({"p_value", "q_value", "p_max_permutation", "general_text_frequency"} <= set(item) for item in items)
        assert all(item["general_text_frequency"] is None for item in items)


def test_without_phase_2_2_the_ranking_is_unfiltered_and_says_so(unfiltered: Ranking) -> None:
    assert unfiltered.table["ranked"].all()
    assert unfiltered.results["general_text_filter"]["applied"] is False
    assert "2.2" in unfiltered.record["general_text_filter"]["reason"]


def test_excluded_problems_are_left_out_and_the_counts_stand_beside(built: Built, unfiltered: Ranking) -> None:
    counts = {name: unfiltered.results[name] for name in ("n_problems", "n_correct", "n_incorrect")}
    n_correct = int(built.labels.sum())
    assert counts == {"n_problems": 40, "n_correct": n_correct, "n_incorrect": 40 - n_correct}


def test_exactly_the_features_at_the_limit_or_above_are_left_out(filtered: tuple[Ranking, dict]) -> None:
    ranking, shares = filtered
    for layer in LAYERS:
        rows = ranking.table[ranking.table["layer"] == layer].sort_values("feature_idx")
        assert rows["ranked"].tolist() == (shares[layer] < 0.02).tolist()
        np.testing.assert_array_equal(rows["general_text_frequency"], shares[layer])
    assert ranking.results["n_ranked"] == sum((shares[layer] < 0.02).sum() for layer in LAYERS)
    left_out = ranking.table[~ranking.table["ranked"]]
    assert left_out["p_max_permutation_correct"].isna().all() and left_out["t_statistic"].notna().any()


def test_a_feature_just_below_the_limit_takes_the_first_place(
    unfiltered: Ranking, filtered: tuple[Ranking, dict]
) -> None:
    before, after = unfiltered.top["correct"], filtered[0].top["correct"]
    assert (after[0]["layer"], after[0]["feature_idx"]) == (before[1]["layer"], before[1]["feature_idx"])
    assert after[0]["general_text_frequency"] == 0.0199


def test_the_permutation_null_is_that_of_scipy_over_the_ranked_features_alone(
    built: Built, filtered: tuple[Ranking, dict]
) -> None:
    ranking, shares = filtered
    largest = np.full(SHUFFLES, -np.inf)
    for layer in LAYERS:
        acts = built.activations(layer)
        keep = (shares[layer] < 0.02) & (np.ptp(acts, axis=0) > 0)
        for draw, labels in enumerate(permuted_labels(built.labels, SHUFFLES, built.config.seed)):
            with np.errstate(all="ignore"):
                t = stats.ttest_ind(acts[labels][:, keep], acts[~labels][:, keep], equal_var=False).statistic
            largest[draw] = max(largest[draw], np.nanmax(t))
    rows = ranking.table[ranking.table["ranked"] & ranking.table["t_statistic"].notna()]
    for score, p_value in zip(rows["t_statistic"], rows["p_max_permutation_correct"], strict=True):
        exceedances = np.sum(largest >= score - 1e-7 * abs(score))
        assert p_value == pytest.approx((1 + exceedances) / (1 + SHUFFLES), abs=1e-12)


def test_the_ranking_made_before_phase_2_2_is_stale_afterwards(tmp_path: Path) -> None:
    fresh = build(tmp_path, **SETTINGS)
    Ranking(fresh)

    def state() -> tuple[str, str]:
        return next((found.state, found.why) for found in all_states(fresh.config) if found.spec.id == "2.10")

    assert state()[0] == "complete"
    publish_frequencies(fresh, rare())
    assert state() == ("stale", "phase 2.2 has been run since")
    Ranking(fresh)
    assert state()[0] == "complete"


def test_frequencies_of_other_saes_are_refused_by_the_ranking(tmp_path: Path) -> None:
    fresh = build(tmp_path, **SETTINGS)
    publish_frequencies(fresh, rare(), saes=[{"sae_layer": layer, "release": "another"} for layer in LAYERS])
    with pytest.raises(UsageError, match=r"their saes differ .*; run: .*phase 2\.2.* --fresh"):
        TStatisticSelector(fresh.config).run()
    assert not (TStatisticSelector(fresh.config).paths.metadata).exists()
