from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from common.profiles import Profile, load_profile
from common.runs.features import Feature
from common.runs.files import canonical_json
from common_simplified.detection import Detection, Draws, detect
from common_simplified.detection_splits import Residuals, SplitRows
from common_simplified.sae_loader import load_sae
from common_simplified.temperature_rows import TemperatureRows
from tests.cli.helpers import PROFILE
from tests.common_simplified.fixtures import D_MODEL, WIDTH, write_sae_lens

pytestmark = pytest.mark.numeric

DRAWS = Draws(seed=3, n_draws=100, n_random=4)
SIZES = {"sae": 60, "hyperparams": 24, "validation": 50}
ONE_SCORE = ("logistic regression", "difference of class means", "prompt length", "cyclomatic complexity")


@dataclass(frozen=True)
class Data:
    """Rows and vectors of the three splits, in the form in which `detect` reads them."""

    sae: SplitRows
    hyperparams: SplitRows
    validation: SplitRows
    vectors: Residuals

    def residuals(self, feature: Feature, d_model: int) -> Residuals:
        """Returns the same vectors for every layer."""
        assert d_model == D_MODEL and feature.layer == 1
        return self.vectors

    def relabelled(self, split: str, passed: np.ndarray) -> Data:
        """Returns the same data with other labels on one split."""
        return replace(self, **{split: getattr(self, split)._replace(passed=passed)})


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    root = tmp_path_factory.mktemp("detection")
    write_sae_lens(root / "saes")
    (root / "tiny.toml").write_text(PROFILE.format(root=root), encoding="utf-8")
    return load_profile(str(root / "tiny.toml"))


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(1)
    rows, vectors = [], []
    for number, n in enumerate(SIZES.values()):
        passed = rng.random(n) < 0.6
        task_ids = np.arange(n) + 100 * number
        rows.append(SplitRows(task_ids, passed, rng.integers(20, 60, n) * 1.0, rng.integers(1, 7, n), number))
        vectors.append((rng.standard_normal((n, D_MODEL)) + np.where(passed, 1.0, -1.0)[:, None]).astype(np.float32))
    return Data(*rows, Residuals(*vectors))


@pytest.fixture(scope="module")
def features(profile: Profile, data: Data) -> dict[str, Feature]:
    """Either direction's feature with the largest area on the sae split."""
    acts = encoded(profile, data.vectors.sae)
    areas = np.array([roc_auc_score(data.sae.passed, column) for column in acts.T])
    return {"correct": Feature(1, int(areas.argmax())), "incorrect": Feature(1, int(areas.argmin()))}


def encoded(profile: Profile, vectors: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return load_sae(profile, 1).encode(torch.from_numpy(vectors)).numpy()


def at_temperatures(data: Data, *temperatures: float) -> TemperatureRows:
    """The validation labels at temperature 0, and two samples a problem, seeded, at each other one."""
    rng = np.random.default_rng(2)
    parts = []
    for temperature in temperatures:
        samples = 2 if temperature else 1
        ids = np.repeat(data.validation.task_ids, samples)
        passed = rng.random(len(ids)) < 0.3 if temperature else data.validation.passed
        parts.append((ids, passed, np.full(len(ids), temperature)))
    return TemperatureRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def found(direction: Any, feature: Feature, data: Data, profile: Profile) -> Detection:
    rows = at_temperatures(data, 0.0, 0.6)
    return detect(direction, feature, data, profile, DRAWS, by_temperature=rows)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def both(features: dict[str, Feature], data: Data, profile: Profile) -> dict[str, Detection]:
    return {direction: found(direction, feature, data, profile) for direction, feature in features.items()}


def positive(direction: str, passed: np.ndarray) -> np.ndarray:
    return passed if direction == "correct" else ~passed


@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_figures_are_sklearns_on_saelens_activations_at_a_threshold_from_hyperparams(
    direction: str, both: dict[str, Detection], data: Data, profile: Profile
) -> None:
    report, feature = both[direction].report, both[direction].feature
    hyper = encoded(profile, data.vectors.hyperparams)[:, feature.index]
    valid = encoded(profile, data.vectors.validation)[:, feature.index]
    np.testing.assert_allclose(both[direction].validation_scores, valid, rtol=1e-5, atol=1e-6)
    tuned, truth = positive(direction, data.hyperparams.passed), positive(direction, data.validation.passed)
    by_threshold = {score: f1_score(tuned, hyper >= score) for score in np.unique(hyper)}
    best = max(by_threshold.values())
    threshold = max(score for score, f1 in by_threshold.items() if f1 == pytest.approx(best, abs=1e-12))
    assert report["threshold"]["threshold"] == pytest.approx(threshold, rel=1e-5)
    assert report["threshold"]["f1"] == pytest.approx(best)
    own = both[direction].validation_scores
    flagged = own >= report["threshold"]["threshold"]
    at = report["validation"]["classification"]
    assert at["n_flagged"] == flagged.sum()
    assert at["f1"] == pytest.approx(f1_score(truth, flagged))
    assert at["f1_all_positive"] == pytest.approx(f1_score(truth, np.ones_like(truth)))
    assert at["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, flagged))
    assert 0 < flagged.sum() < len(flagged)
    assert at["matthews"] == pytest.approx(matthews_corrcoef(truth, flagged))
    assert report["validation"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, own))
    assert report["validation"]["average_precision"]["value"] == pytest.approx(average_precision_score(truth, own))


def test_a_score_that_equals_the_threshold_is_flagged(both: dict[str, Detection], data: Data, profile: Profile) -> None:
    """The same vectors on both splits: the row that gave the threshold is flagged, by the same comparison."""
    feature = both["correct"].feature
    same = replace(
        data,
        validation=data.hyperparams,
        vectors=data.vectors._replace(validation=data.vectors.hyperparams),
    )
    item = found("correct", feature, same, profile)
    assert item.report["validation"]["classification"]["f1"] == item.report["threshold"]["f1"]
    assert np.any(item.validation_scores == item.choice.threshold)


def test_validation_labels_change_no_threshold_and_no_score(
    both: dict[str, Detection], data: Data, profile: Profile
) -> None:
    turned = data.relabelled("validation", np.random.default_rng(9).permutation(data.validation.passed))
    for direction, before in both.items():
        after = found(direction, before.feature, turned, profile)
        assert after.report["threshold"] == before.report["threshold"]
        assert after.report["validation"]["auroc"] != before.report["validation"]["auroc"]
        np.testing.assert_array_equal(after.validation_scores, before.validation_scores)
        for name, rival in before.rivals.items():
            assert after.rivals[name].settings == rival.settings
            for one, other in zip(after.rivals[name].scores, rival.scores, strict=True):
                np.testing.assert_array_equal(one, other)
        for name in ONE_SCORE:
            thresholds = [item.report["rivals"][name]["detection"]["classification"] for item in (before, after)]
            assert thresholds[0]["threshold"] == thresholds[1]["threshold"]


def test_hyperparameter_labels_change_thresholds_and_no_ranking_figure(
    both: dict[str, Detection], data: Data, profile: Profile
) -> None:
    n = len(data.hyperparams.passed)
    turned = data.relabelled("hyperparams", np.arange(n) == 0)
    before = both["correct"]
    after = found("correct", before.feature, turned, profile)
    assert after.report["threshold"]["n_positive"] == 1
    assert after.report["validation"]["auroc"] == before.report["validation"]["auroc"]
    for name, rival in before.rivals.items():
        for one, other in zip(after.rivals[name].scores, rival.scores, strict=True):
            np.testing.assert_array_equal(one, other)


def test_every_rival_of_the_study_stands_on_the_same_rows(both: dict[str, Detection]) -> None:
    report = both["correct"].report
    assert set(report["rivals"]) == {*ONE_SCORE, "random directions", "matched random features"}
    for name, rival in report["rivals"].items():
        assert rival["n"] == SIZES["validation"]
        assert rival["n_scores"] == (1 if name in ONE_SCORE else 4)
        assert ("detection" in rival) == (name in ONE_SCORE)
        if "detection" in rival:
            own = rival["detection"]["classification"]
            assert own["f1_all_positive"] == report["validation"]["classification"]["f1_all_positive"]


def test_rows_by_temperature_and_difficulty_carry_their_counts(both: dict[str, Detection], data: Data) -> None:
    report = both["incorrect"].report
    by_temperature = {row["group"]: row for row in report["by_temperature"]}
    assert (by_temperature[0.0]["n"], by_temperature[0.6]["n"]) == (50, 100)
    assert by_temperature[0.6]["n_problems"] == 50
    assert by_temperature[0.0]["auroc"] == report["validation"]["auroc"]
    complexity = data.validation.complexity
    expected = {"1": complexity == 1, "2-3": (complexity > 1) & (complexity < 4), "4+": complexity > 3}
    for row in report["by_difficulty"]:
        assert row["n"] == expected[row["group"]].sum()
        assert row["n_positive"] == (expected[row["group"]] & ~data.validation.passed).sum()
    assert (report["threshold"]["n_excluded"], report["validation"]["n_excluded"]) == (1, 2)


@pytest.mark.parametrize("split", ["hyperparams", "validation"])
def test_a_split_without_positives_gives_nulls_with_reasons(
    split: str, features: dict[str, Feature], data: Data, profile: Profile
) -> None:
    nothing = np.zeros(SIZES[split], dtype=bool)
    item = found("correct", features["correct"], data.relabelled(split, nothing), profile)
    report = item.report
    if split == "hyperparams":
        assert report["threshold"]["threshold"] is None and "no positive row" in report["threshold"]["reason"]
        assert report["validation"]["classification"] is None and report["validation"]["reason"]
        assert report["validation"]["auroc"]["value"] is not None
    else:
        assert report["validation"]["auroc"]["value"] is None
        assert "no positive row" in report["validation"]["auroc"]["reason"]
        at = report["validation"]["classification"]
        assert at["f1"] is None and at["f1_all_positive"] is None and "no positive row" in at["reasons"]["f1"]
    json.loads(canonical_json(report["validation"]))


def test_a_feature_that_never_fires_is_reported_without_an_interval(data: Data, profile: Profile) -> None:
    """Its AUROC is 0.5 in every draw, and an interval of width zero is none."""
    low = replace(data, vectors=Residuals(*(np.zeros_like(part) for part in data.vectors)))
    rates = encoded(profile, low.vectors.validation).max(axis=0)
    item = found("correct", Feature(1, int(np.flatnonzero(rates == 0)[0])), low, profile)
    assert item.report["validation"]["auroc"]["value"] == 0.5
    assert item.report["validation"]["auroc"]["low"] is None


def test_without_temperatures_every_other_figure_stays(
    both: dict[str, Detection], data: Data, profile: Profile
) -> None:
    for direction, before in both.items():
        alone = detect(direction, before.feature, data, profile, DRAWS)  # type: ignore[arg-type]
        assert "by_temperature" not in alone.report
        assert alone.report == {name: part for name, part in before.report.items() if name != "by_temperature"}


def test_a_threshold_chosen_before_is_used_as_it_is_and_hyperparameter_labels_do_not_touch_it(
    both: dict[str, Detection], data: Data, profile: Profile
) -> None:
    before = both["incorrect"]
    given = replace(before.choice, threshold=float(np.median(before.validation_scores)), f1=0.25)
    turned = data.relabelled("hyperparams", ~data.hyperparams.passed)
    after = detect("incorrect", before.feature, turned, profile, DRAWS, choice=given)  # type: ignore[arg-type]
    assert (after.report["threshold"]["threshold"], after.report["threshold"]["f1"]) == (given.threshold, 0.25)
    flagged = before.validation_scores >= given.threshold
    assert after.report["validation"]["classification"]["n_flagged"] == flagged.sum()
    assert after.report["validation"]["classification"]["f1"] == pytest.approx(
        f1_score(~data.validation.passed, flagged)
    )


def test_a_detection_holds_the_rows_of_its_scores(both: dict[str, Detection], data: Data) -> None:
    for item in both.values():
        assert item.validation.task_ids.tolist() == data.validation.task_ids.tolist()
        assert item.validation.passed.tolist() == data.validation.passed.tolist()


def test_random_features_are_never_the_feature_itself(both: dict[str, Detection], data: Data, profile: Profile) -> None:
    own = both["correct"].validation_scores
    others = np.abs(both["correct"].rivals["matched random features"].scores[1])
    assert others.shape == (SIZES["validation"], 4) and WIDTH > 5
    assert not any(np.array_equal(own, column) for column in others.T)
