from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from common.statistics.detection_report import detection_report, difficulty_of, report_by_group, rival_report

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(40), 3)
SCORES = np.repeat(np.maximum(RNG.standard_normal(40), 0), 3)
POSITIVE = RNG.random(120) < 0.3 + 0.2 * (SCORES > 0.5)


def nulls(report: Any) -> bool:
    """Whether each null figure of a report has a reason beside it, in the same mapping or the one around it."""
    if isinstance(report, list):
        return all(nulls(item) for item in report)
    if not isinstance(report, dict):
        return True
    missing = [name for name, value in report.items() if value is None and name != "reason"]
    explained = bool(report.get("reason")) or set(missing) <= set(report.get("reasons", {}))
    inside = report.get("reason") or all(nulls(value) for value in report.values())
    return explained and bool(inside)


def test_a_report_holds_scikit_learns_figures_with_their_intervals_and_sizes() -> None:
    report = detection_report(SCORES, POSITIVE, GROUPS, threshold=0.5, seed=1, n_draws=300)
    assert (report["n"], report["n_problems"], report["n_positive"]) == (120, 40, POSITIVE.sum())
    assert report["share_positive"] == POSITIVE.mean()
    assert report["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(POSITIVE, SCORES), abs=1e-12)
    expected = metrics.average_precision_score(POSITIVE, SCORES)
    assert report["average_precision"]["value"] == pytest.approx(expected, abs=1e-12)
    for name in ("auroc", "average_precision"):
        assert report[name]["low"] < report[name]["value"] < report[name]["high"]
        assert report[name]["n_problems"] == 40 and report[name]["n_draws"] == 300
    at = report["classification"]
    assert at["f1"] == pytest.approx(metrics.f1_score(POSITIVE, SCORES >= 0.5))
    assert at["f1_all_positive"] == pytest.approx(metrics.f1_score(POSITIVE, np.ones(120, dtype=bool)))
    assert at["n"] == 120 and report["reason"] is None and nulls(report)
    json.dumps(report, allow_nan=False)


def test_the_same_seed_gives_the_same_report_and_another_one_other_intervals() -> None:
    first, second, third = (detection_report(SCORES, POSITIVE, GROUPS, 0.5, seed, n_draws=50) for seed in (1, 1, 2))
    assert first == second
    assert first["auroc"]["low"] != third["auroc"]["low"] and first["auroc"]["value"] == third["auroc"]["value"]


def test_without_a_threshold_the_ranking_figures_stay_and_the_reason_is_given() -> None:
    report = detection_report(SCORES, POSITIVE, GROUPS, threshold=None, seed=1, n_draws=50)
    assert report["classification"] is None and report["auroc"]["value"] is not None
    assert report["reason"] == "no threshold was chosen: its split has no positive row"


def test_each_group_is_reported_on_its_own_rows_and_an_empty_one_keeps_its_place() -> None:
    temperature = np.tile([0.0, 0.3, 1.2], 40)
    positive = POSITIVE & (temperature < 1.0)  # nothing passes at the highest temperature
    reports = report_by_group(SCORES, positive, GROUPS, temperature, (0.0, 0.3, 0.9, 1.2), 0.5, seed=1, n_draws=50)
    assert [report["group"] for report in reports] == [0.0, 0.3, 0.9, 1.2]
    assert [report["n"] for report in reports] == [40, 40, 0, 40]
    rows = temperature == 0.3
    alone = detection_report(SCORES[rows], positive[rows], GROUPS[rows], 0.5, seed=1, n_draws=50)
    assert reports[1] == {"group": 0.3, **alone}
    assert (reports[2]["share_positive"], reports[2]["reason"]) == (None, "no rows")
    assert (reports[3]["auroc"]["value"], reports[3]["auroc"]["reason"]) == (None, "no positive row among 40")
    assert reports[3]["classification"]["f1"] is None
    assert nulls(reports)
    json.dumps(reports, allow_nan=False)


def test_rows_of_an_unknown_group_are_a_bug_and_do_not_vanish() -> None:
    with pytest.raises(AssertionError, match="0.7"):
        report_by_group(SCORES, POSITIVE, GROUPS, np.full(120, 0.7), (0.0, 0.3), 0.5, seed=1, n_draws=10)


def test_difficulty_is_one_two_to_three_or_four_and_more() -> None:
    assert difficulty_of(np.array([1, 2, 3, 4, 5, 40])).tolist() == ["1", "2-3", "2-3", "4+", "4+", "4+"]
    with pytest.raises(AssertionError, match="complexity 0"):
        difficulty_of(np.array([0, 1]))


def test_rivals_are_reported_by_median_and_range_beside_the_distance_of_the_target() -> None:
    rivals = np.random.default_rng(2).standard_normal((120, 5))
    rivals[:, 4] = SCORES
    report = rival_report(SCORES, rivals, POSITIVE, GROUPS, seed=1, n_draws=200)
    aurocs = [metrics.roc_auc_score(POSITIVE, column) for column in rivals.T]
    precisions = [metrics.average_precision_score(POSITIVE, column) for column in rivals.T]
    assert report["auroc"] == pytest.approx({"median": np.median(aurocs), "min": min(aurocs), "max": max(aurocs)})
    assert report["average_precision"]["median"] == pytest.approx(np.median(precisions))
    assert report["n_at_least_target"] == sum(one >= aurocs[4] for one in aurocs)
    assert report["target_minus_median"]["value"] == pytest.approx(aurocs[4] - np.median(aurocs))
    assert (report["n"], report["n_problems"], report["n_scores"], report["reason"]) == (120, 40, 5, None)
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("case", ["one class", "no rival"])
def test_rivals_that_cannot_be_compared_are_missing_with_a_reason(case: str) -> None:
    positive = np.ones(120, dtype=bool) if case == "one class" else POSITIVE
    rivals = np.ones((120, 3 if case == "one class" else 0))
    report = rival_report(SCORES, rivals, positive, GROUPS, seed=1, n_draws=20)
    assert report["auroc"] == {"median": None, "min": None, "max": None}
    assert report["reason"] == ("no negative row among 120" if case == "one class" else "no rival score")
    json.dumps(report, allow_nan=False)
