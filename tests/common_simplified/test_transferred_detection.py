from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from common.config import Config
from common.profiles import Profile, load_profile
from common.runs.artifacts import EVALUATION_RESULTS, SCORES, PhasePaths, labelled_activation, task_activation
from common.runs.detection_output import DIRECTIONS, predictor_fires
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common.runs.files import canonical_json, write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.publishing import write_activations
from common_simplified.detection import Detection, Draws, detect
from common_simplified.detection_splits import read_splits
from common_simplified.sae_loader import load_sae
from common_simplified.transferred_detection import compare_detection, detect_on, detected_scores
from tests.cli.helpers import PROFILE
from tests.common.runs.helpers import generated
from tests.common_simplified.fixtures import D_MODEL, sae_arrays, write_sae_lens

pytestmark = pytest.mark.numeric

LAYER = 1
DRAWS = Draws(seed=3, n_draws=200, n_random=5)
Labels = list[bool | None]


class Rows(NamedTuple):
    """A split's residual vectors and labels; the problem at position p has task id 10 + p."""

    vectors: np.ndarray
    passed: Labels


class Base(NamedTuple):
    """The base model's outputs of phases 3.8, 1.0 and 3.6."""

    detection: PhaseOutput
    built: PhaseOutput
    hyper: PhaseOutput


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    root = tmp_path_factory.mktemp("transferred")
    write_sae_lens(root / "saes")
    (root / "tiny.toml").write_text(PROFILE.format(root=root), encoding="utf-8")
    return load_profile(str(root / "tiny.toml"))


def rows(seed: int, n: int, strength: float) -> Rows:
    """Vectors shifted by `strength` times one unit vector, which two features read, towards either class."""
    rng = np.random.default_rng(seed)
    passed = rng.random(n) < 0.5
    encoder = sae_arrays(LAYER)["W_enc"]
    axis = encoder[:, 2] - encoder[:, 21]
    axis /= np.linalg.norm(axis)
    vectors = rng.standard_normal((n, D_MODEL)) + strength * np.where(passed, 1.0, -1.0)[:, None] * axis
    return Rows(vectors.astype(np.float32), passed.tolist())


def publish(root: Path, phase: str, split: Rows) -> PhaseOutput:
    """Publishes a split's solutions and activations in the layout of phase 1.0, or of phases 3.5, 3.6 and 7.3."""
    config, n = Config(data_dir=str(root)), len(split.passed)
    paths = PhasePaths(config.phase_dir(phase))

    def name(row: Mapping[str, Any], layer: int) -> str:
        if phase == "1.0":
            return labelled_activation(row["task_id"], layer, row["passed"])
        return task_activation(row["task_id"], layer)

    tree = write_activations(paths, generated(range(n), {LAYER: split.vectors}), split.passed, name)
    rng = np.random.default_rng(n)
    columns = {"n_prompt_tokens": rng.integers(20, 60, n), "cyclomatic_complexity": rng.integers(1, 7, n)}
    table = pa.table(
        {"task_id": np.arange(n) + 10, "test_passed": pa.array(split.passed, pa.bool_()), **columns},
    )
    outputs = [tree.index, OutputFile("greedy.parquet", write_parquet(paths.root / "greedy.parquet", table), n)]
    details = {"dataset": "greedy.parquet", "datasets": {"temp_0_0": "greedy.parquet"}, "layers": [LAYER]}
    record = write_record(
        *(paths,),
        phase=phase,
        config=config,
        extent=Extent(n, n),
        inputs=[],
        outputs=outputs,
        wall_seconds={},
        details=details,
    )
    return PhaseOutput(phase, paths, record)


def encoded(profile: Profile, vectors: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return load_sae(profile, LAYER).encode(torch.from_numpy(vectors)).numpy()


VALIDATION = rows(3, 90, 2.0)


@pytest.fixture(scope="module")
def base(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Phase 3.8 on a base model whose activations tell the classes apart."""
    root = tmp_path_factory.mktemp("base")
    sae = rows(1, 120, 2.0)
    built, hyper = publish(root, "1.0", sae), publish(root, "3.6", rows(2, 40, 2.0))
    areas = [roc_auc_score(sae.passed, column) for column in encoded(profile, sae.vectors).T]
    features = (Feature(LAYER, int(np.argmax(areas))), Feature(LAYER, int(np.argmin(areas))))
    splits = read_splits(built, hyper, publish(root, "3.5", VALIDATION))
    found = [detect(*both, splits, profile, DRAWS) for both in zip(DIRECTIONS, features, strict=True)]
    return Base(publish_detection(root, found), built, hyper)


def publish_detection(root: Path, found: list[Detection]) -> PhaseOutput:
    config = Config(data_dir=str(root))
    paths = PhasePaths(config.phase_dir("3.8"))
    valid = found[0].validation
    n_hyper = len(found[0].hyperparams_scores)
    table = pa.table(
        {
            "split": ["hyperparams"] * n_hyper + ["validation"] * len(valid.task_ids),
            "task_id": [*range(10, 10 + n_hyper), *valid.task_ids.tolist()],
            "test_passed": [*[True] * n_hyper, *valid.passed.tolist()],
            **{f"{each.direction}_score": [*each.hyperparams_scores, *each.validation_scores] for each in found},
        }
    )
    results = {"directions": {each.direction: each.report for each in found}}
    outputs = [
        OutputFile(EVALUATION_RESULTS, write_json(paths.root / EVALUATION_RESULTS, results)),
        OutputFile(SCORES, write_parquet(paths.root / SCORES, table), table.num_rows),
    ]
    fields: dict[str, Any] = {"inputs": [], "outputs": outputs, "wall_seconds": {}, "details": {}}
    return PhaseOutput("3.8", paths, write_record(paths, phase="3.8", config=config, extent=Extent(1, 1), **fields))


def on(instruct: Rows, base: Base, profile: Profile, root: Path) -> dict[Any, Detection]:
    return detect_on(publish(root, "7.3", instruct), *base, profile, DRAWS)


def both_models(instruct: Rows, base: Base, profile: Profile, root: Path) -> dict[Any, dict[str, Any]]:
    return compare_detection(base.detection, on(instruct, base, profile, root), DRAWS)


def recorded(base: Base) -> dict[str, dict[str, Any]]:
    return json.loads((base.detection.paths.root / EVALUATION_RESULTS).read_text())["directions"]


def test_the_figures_are_sklearns_on_the_other_models_activations_at_the_base_models_threshold(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    instruct = rows(4, 90, 1.0)
    found = on(instruct, base, profile, tmp_path)
    for direction, report in recorded(base).items():
        item, feature = found[direction], Feature(**report["feature"])
        assert item.feature == feature and item.report["threshold"] == report["threshold"]
        scores = encoded(profile, instruct.vectors)[:, feature.index]
        np.testing.assert_allclose(item.validation_scores, scores, rtol=1e-5, atol=1e-6)
        passed = np.array(instruct.passed, dtype=bool)
        positive = passed if direction == "correct" else ~passed
        own, at = item.validation_scores, item.report["validation"]["classification"]
        flagged = own >= report["threshold"]["threshold"]
        assert 0 < flagged.sum() < 90
        assert item.report["validation"]["auroc"]["value"] == pytest.approx(roc_auc_score(positive, own))
        assert at["f1"] == pytest.approx(f1_score(positive, flagged))
        assert at["f1_all_positive"] == pytest.approx(f1_score(positive, np.ones_like(positive)))
        assert at["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(positive, flagged))
        assert "by_temperature" not in item.report
        assert set(item.report["rivals"]) == set(report["rivals"])


def test_the_other_models_labels_choose_nothing(base: Base, profile: Profile, tmp_path: Path) -> None:
    instruct = rows(4, 90, 1.0)
    turned = instruct._replace(passed=[not label for label in instruct.passed])
    before, after = (on(each, base, profile, tmp_path / str(n)) for n, each in enumerate((instruct, turned)))
    for direction in DIRECTIONS:
        assert before[direction].report["threshold"] == after[direction].report["threshold"]
        assert before[direction].report["validation"]["auroc"] != after[direction].report["validation"]["auroc"]
        for name, rival in before[direction].rivals.items():
            assert rival.settings == after[direction].rivals[name].settings
            np.testing.assert_array_equal(rival.scores[1], after[direction].rivals[name].scores[1])


def test_a_recorded_threshold_is_taken_as_it_stands_and_not_found_again(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    path = base.detection.paths.root / EVALUATION_RESULTS
    results = json.loads(path.read_text())
    results["directions"]["correct"]["threshold"]["threshold"] = 0.125
    other = PhasePaths(tmp_path / "phase3_8")
    digest = write_json(other.root / EVALUATION_RESULTS, results)
    record = {**base.detection.record, "outputs": [{"path": EVALUATION_RESULTS, "sha256": digest, "rows": None}]}
    moved = base._replace(detection=PhaseOutput("3.8", other, record))
    found = on(rows(4, 90, 1.0), moved, profile, tmp_path)["correct"]
    assert found.report["threshold"]["threshold"] == 0.125
    flagged = found.validation_scores >= 0.125
    assert found.report["validation"]["classification"]["n_flagged"] == flagged.sum()


def test_both_models_stand_side_by_side_and_their_difference_is_that_of_scikit_learn(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    instruct = rows(4, 90, 1.0)
    compared = both_models(instruct, base, profile, tmp_path)
    for direction, report in recorded(base).items():
        entry = compared[direction]
        assert {name: entry["base"][name] for name in report["validation"]} == report["validation"]
        difference, index = entry["auroc_difference"], report["feature"]["index"]
        areas = []
        for split in (instruct, VALIDATION):
            passed = np.array(split.passed, dtype=bool)
            score = encoded(profile, split.vectors)[:, index]
            areas.append(roc_auc_score(passed if direction == "correct" else ~passed, score))
        assert difference["value"] == pytest.approx(areas[0] - areas[1], abs=1e-9)
        assert difference["low"] < difference["value"] < difference["high"]
        assert (difference["n"], difference["n_base_only"], difference["n_instruct_only"]) == (90, 0, 0)
        for model in ("base", "instruct"):
            own = entry[model]["classification"]
            assert own["f1_all_positive"] is not None and own["balanced_accuracy"] is not None
            probe = entry[model]["rivals"]["logistic regression"]
            assert probe["n"] == 90 and probe["classification"]["f1_all_positive"] == own["f1_all_positive"]
    json.loads(canonical_json(compared))


def test_a_problem_without_a_label_in_one_model_is_left_out_of_the_difference_alone(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    whole = rows(4, 90, 1.0)
    instruct = whole._replace(passed=[None, None, *whole.passed[2:]])
    entry = both_models(instruct, base, profile, tmp_path)["correct"]
    assert (entry["base"]["n"], entry["instruct"]["n"], entry["instruct"]["n_excluded"]) == (90, 88, 2)
    difference = entry["auroc_difference"]
    assert (difference["n"], difference["n_base_only"], difference["n_instruct_only"]) == (88, 2, 0)
    index, areas = entry["feature"]["index"], []
    for split in (whole, VALIDATION):
        areas.append(roc_auc_score(split.passed[2:], encoded(profile, split.vectors)[2:, index]))
    assert difference["value"] == pytest.approx(areas[0] - areas[1], abs=1e-9)


def test_the_base_model_itself_as_the_other_one_differs_in_nothing(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    for entry in both_models(VALIDATION, base, profile, tmp_path).values():
        assert entry["auroc_difference"]["value"] == 0 and entry["auroc_difference"]["low"] is None
        assert entry["instruct"] == entry["base"]
        assert entry["transferred"] is entry["holds_on_base"] is True
        assert entry["statement"].startswith("transferred: AUROC ")


def test_activations_that_say_nothing_of_the_labels_do_not_transfer(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    instruct = rows(4, 90, 2.0)
    shuffled = np.random.default_rng(5).permutation(np.array(instruct.passed, dtype=bool)).tolist()
    for entry in both_models(instruct._replace(passed=shuffled), base, profile, tmp_path).values():
        assert entry["transferred"] is False and entry["holds_on_base"] is True
        assert entry["statement"].startswith("not transferred: AUROC ") and "not above 0.5" in entry["statement"]
        assert entry["auroc_difference"]["high"] < 0


def test_labels_of_one_class_leave_the_question_open(base: Base, profile: Profile, tmp_path: Path) -> None:
    failed = rows(4, 90, 2.0)._replace(passed=[False] * 90)
    entry = both_models(failed, base, profile, tmp_path)["correct"]
    assert entry["transferred"] is None
    assert entry["statement"].startswith("cannot be told: AUROC could not be computed (no positive row among 90)")
    assert "the difference to the base model could not be computed (no positive row" in entry["statement"]
    json.loads(canonical_json(entry))


@pytest.mark.parametrize(
    ("auroc", "lead", "expected", "words"),
    [
        ((0.8, 0.7, 0.9), (0.2, 0.1, 0.3), True, "transferred: AUROC 0.800 [0.700, 0.900] above 0.5; lead over"),
        (
            (0.6, 0.5, 0.7),
            (0.2, 0.1, 0.3),
            False,
            "not transferred: AUROC 0.600 [0.500, 0.700] not above 0.5; AUROC",
        ),
        (
            (0.8, 0.7, 0.9),
            (0.1, -0.01, 0.2),
            False,
            "not transferred: lead over the median of the random",
        ),
        ((1.0, None, None), (0.2, 0.1, 0.3), None, "cannot be told: AUROC 1.000 (same); AUROC differs"),
        ((0.5, None, None), (0.2, 0.1, 0.3), False, "not transferred: AUROC 0.500 (same); AUROC differs"),
        ((1.0, None, None), (-0.2, -0.3, -0.1), False, "not transferred: lead over the median"),
    ],
)
def test_a_predictor_transfers_only_if_both_halves_of_the_rule_hold(
    base: Base, profile: Profile, tmp_path: Path, auroc: Any, lead: Any, expected: bool | None, words: str
) -> None:
    """The figures of the other model are put in by hand."""
    found = on(rows(4, 90, 1.0), base, profile, tmp_path)

    def estimate(figures: tuple[float, float | None, float | None]) -> dict[str, Any]:
        return dict(zip(("value", "low", "high"), figures, strict=True), reason=None if figures[1] else "same")

    report = found["correct"].report
    report["validation"]["auroc"] = estimate(auroc)
    report["rivals"]["random directions"]["target_minus_median"] = estimate(lead)
    entry = compare_detection(base.detection, found, DRAWS)["correct"]
    assert entry["transferred"] is expected
    assert entry["statement"].startswith(words)


def test_the_predictors_fire_on_the_other_model_where_its_scores_reach_the_base_models_thresholds(
    base: Base, profile: Profile, tmp_path: Path
) -> None:
    instruct = rows(4, 90, 1.0)
    found = on(instruct, base, profile, tmp_path)
    fires = predictor_fires(base.detection, detected_scores(found))
    for direction, predictor in (("correct", "incorrect"), ("incorrect", "correct")):
        report = recorded(base)[predictor]
        scores = encoded(profile, instruct.vectors)[:, report["feature"]["index"]]
        expected = {10 + position for position in np.flatnonzero(scores >= report["threshold"]["threshold"]).tolist()}
        assert 0 < len(expected) < 90
        assert fires[direction].task_ids == expected  # type: ignore[index]
        assert len(expected) == found[predictor].report["validation"]["classification"]["n_flagged"]
