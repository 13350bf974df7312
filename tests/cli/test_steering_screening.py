"""Phase 4.5 with several candidates and with coefficients in norms of the residual stream, on a tiny random model."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from common.execution.pool import EvaluationPool
from common.runs.artifacts import COEFFICIENT_RESULTS, COEFFICIENT_SUMMARY
from common_simplified.generation import GenerationEngine
from phase4_5.side_run import SideRun
from tests.cli.helpers import Answer, Here, loads_the_model, stopped, tree
from tests.cli.steering_place import TOP, Place, done, publish_ranking, quietly

pytestmark = pytest.mark.smoke
CANDIDATES = {"correct": [(2, 5), (0, 9)], "incorrect": [(0, 6), (2, 5)]}
FEW = ("--set", "phase4_5_final_eval_problems=0", "--set", "phase4_5_problems_per_coeff=2")
MORE = ("--set", "phase4_5_candidates=2", *FEW)
SOME = ("--set", "phase4_8_control_problems=2")
UNIT = ("--set", "phase4_5_coefficient_unit=residual_norm", "--set", "phase4_5_coefficients=0.5,-0.25,1")


@pytest.fixture(scope="module")
def ranked(steering_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose phase 2.5 ranks two features a direction, with phase 4.5 not run."""
    data = tmp_path_factory.mktemp("ranked") / "data"
    shutil.copytree(steering_made.parent / "data", data)
    top = {
        name: [{"layer": layer, "feature_idx": index, "separation_score": 0.5} for layer, index in items]
        for name, items in CANDIDATES.items()
    }
    publish_ranking(steering_made, data, top)
    shutil.rmtree(data / "phase4_5")
    return data


@pytest.fixture(scope="module")
def screened(steering_made: Path, ranked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which the candidates were screened and the best one's grid run."""
    data = tmp_path_factory.mktemp("screened") / "data"
    shutil.copytree(ranked, data)
    done(Place(steering_made, data, quietly).phase("4.5", *MORE))  # type: ignore[arg-type]
    return data


@pytest.fixture
def place(steering_made: Path, screened: Path, tmp_path: Path, here: Here) -> Place:
    shutil.copytree(screened, tmp_path / "data")
    return Place(steering_made, tmp_path / "data", here)


@pytest.fixture
def unscreened(steering_made: Path, ranked: Path, tmp_path: Path, here: Here) -> Place:
    shutil.copytree(ranked, tmp_path / "data")
    return Place(steering_made, tmp_path / "data", here)


@pytest.fixture
def nothing_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes generating and testing fail."""

    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("something was generated or tested")

    monkeypatch.setattr(GenerationEngine, "generate", refuse)
    monkeypatch.setattr(EvaluationPool, "submit", refuse)
    monkeypatch.setattr(EvaluationPool, "submit_plan", refuse)


def screening(place: Place) -> Path:
    return place.directory("4.5") / "screening"


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path / COEFFICIENT_RESULTS).to_pylist()


def summary(place: Place) -> dict[str, Any]:
    return json.loads((place.directory("4.5") / COEFFICIENT_SUMMARY).read_text())


def again(place: Place) -> Answer:
    return place.phase("4.5", *MORE)


# --- screening


def test_every_candidate_is_tried_at_the_middle_coefficient_beside_directions_of_its_own(place: Place) -> None:
    """Coefficients 2 and 4: the middle of two is the larger one."""
    found = {
        (row["direction"], row["layer"], row["target_idx"], row["kind"], row["coefficient"])
        for row in rows(screening(place))
    }
    assert found == {
        (direction, layer, index, kind, 4.0)
        for direction, items in CANDIDATES.items()
        for layer, index in items
        for kind in ("target", "random_direction")
    }
    grid = {row["position"] for row in rows(place.directory("4.5"))}
    assert {row["position"] for row in rows(screening(place))} == grid and len(grid) == 2


def test_the_summary_holds_the_candidates_and_what_each_did(place: Place) -> None:
    """This model solves nothing and steering changes no label, so the better ranked one is taken."""
    for name, entry in summary(place)["directions"].items():
        expected = [{"layer": layer, "index": index} for layer, index in CANDIDATES[name]]
        assert entry["candidates"] == [report["feature"] for report in entry["screening"]] == expected
        assert entry["feature"] == entry["chosen"]["feature"] == expected[0]
    entry = {item["path"]: item for item in place.record("4.5")["outputs"]}[f"screening/{COEFFICIENT_RESULTS}"]
    assert entry["rows"] == 2 * 2 * 2 * 2


def test_the_same_again_has_nothing_to_do(place: Place, nothing_generated: None) -> None:
    before = tree(place.data)
    answer = again(place)
    assert "nothing to do" in done(answer) and not loads_the_model(answer)
    assert tree(place.data) == before


def test_a_run_stopped_between_screening_and_grid_screens_no_second_time(
    unscreened: Place, screened: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = SideRun.published

    def stop(self: SideRun) -> Any:
        signal.raise_signal(signal.SIGINT)
        return published(self)

    monkeypatch.setattr(SideRun, "published", stop)
    assert again(unscreened).code == 130
    monkeypatch.undo()
    before = tree(screening(unscreened))
    assert before and not (unscreened.directory("4.5") / COEFFICIENT_RESULTS).exists()
    said = done(again(unscreened))
    assert "nothing to do" in said
    assert {name: digest for name, digest in tree(screening(unscreened)).items() if name in before} == before
    for name in (COEFFICIENT_RESULTS, f"screening/{COEFFICIENT_RESULTS}"):
        assert (unscreened.directory("4.5") / name).read_bytes() == (screened / "phase4_5" / name).read_bytes()


def test_fresh_puts_the_screening_aside_and_makes_the_same_again(place: Place) -> None:
    before = (screening(place) / COEFFICIENT_RESULTS).read_bytes()
    answer = place.phase("4.5", *MORE, "--fresh")
    assert "put aside in" in done(answer) and loads_the_model(answer)
    kept = [path for path in place.directory("4.5").rglob(f"superseded/**/{COEFFICIENT_RESULTS}")]
    assert [path.read_bytes() for path in kept if "screening" in str(path.relative_to(place.data))] == [before]
    assert (screening(place) / COEFFICIENT_RESULTS).read_bytes() == before
    assert "nothing to do" in done(again(place))


def test_another_number_of_candidates_is_another_result(place: Place) -> None:
    before = (place.directory("4.5") / COEFFICIENT_RESULTS).read_bytes()
    line = stopped(place.phase("4.5", *FEW, "--set", "phase4_5_candidates=1"), 2)
    assert "use --fresh" in line
    assert (place.directory("4.5") / COEFFICIENT_RESULTS).read_bytes() == before


def test_with_one_candidate_nothing_is_screened(steering_made: Path) -> None:
    root = steering_made.parent / "data" / "phase4_5"
    assert (root / COEFFICIENT_RESULTS).is_file() and not (root / "screening").exists()
    directions = json.loads((root / COEFFICIENT_SUMMARY).read_text())["directions"]
    assert [entry["screening"] for entry in directions.values()] == [None, None]


# --- coefficients in norms of the residual stream


def test_coefficients_in_residual_norms_are_those_computed_from_activations_and_decoder(unscreened: Place) -> None:
    """Unit × mean norm of the stream ÷ norm of the decoder row, to three significant digits.

    A feature given by hand is the only candidate of its direction; the screening takes the middle coefficient in size.
    """
    done(unscreened.phase("4.5", *MORE, *UNIT, "--feature", "correct=2:7"))
    tried = {}
    for row in rows(screening(unscreened)):
        tried.setdefault((row["direction"], row["layer"], row["target_idx"]), set()).add(row["coefficient"])
    assert set(tried) == {("correct", 2, 7), ("incorrect", 0, 6), ("incorrect", 2, 5)}
    table = rows(unscreened.directory("4.5"))
    for direction, (layer, index) in {"correct": (2, 7), "incorrect": (0, 6)}.items():
        assert unscreened.record("4.5")["steering_features"][direction] == [layer, index]
        stored = sorted((unscreened.directory("3.6") / "activations").rglob(f"*_layer_{layer}.npz"))
        with_norms = [np.linalg.norm(next(iter(np.load(path).values())).astype(np.float64)) for path in stored]
        assert len(with_norms) == unscreened.record("3.6")["done"]
        decoder = load_file(unscreened.profile.parent / "saes" / f"layer_{layer}" / "sae_weights.safetensors")["W_dec"]
        ratio = np.linalg.norm(decoder[index].astype(np.float64)) / np.mean(with_norms)
        own = [row for row in table if row["direction"] == direction and row["kind"] == "target"]
        found = list(dict.fromkeys(row["coefficient"] for row in own))
        assert found == [float(f"{unit / ratio:.3g}") for unit in (0.5, -0.25, 1.0)]
        assert tried[direction, layer, index] == {found[0]}
        beside = {row["coefficient"] for row in table if row["direction"] == direction and row["kind"] != "zero"}
        assert beside == set(found)
        reports = summary(unscreened)["directions"][direction]["coefficients"]
        assert [item["in_residual_norms"] for item in reports] == pytest.approx([0.5, -0.25, 1.0], rel=0.006)
        assert [item["in_residual_norms"] for item in reports] == pytest.approx([value * ratio for value in found])


# --- published again


def test_a_changed_input_is_entered_without_generating_or_testing(place: Place, request: pytest.FixtureRequest) -> None:
    """A firing rate of a layer that is not steered changes phase 2.5's table, and no control."""
    done(place.phase("4.8", *MORE, *SOME))
    before, record = place.results(), place.record("4.8")
    timings = (place.directory("4.8") / "timings.parquet").read_bytes()
    publish_ranking(place.profile, place.data, TOP, {(1, 3): 0.99})
    request.getfixturevalue("nothing_generated")
    done(place.phase("4.8", *MORE, *SOME))
    assert place.results() == before
    assert (place.directory("4.8") / "timings.parquet").read_bytes() == timings
    assert place.record("4.8")["inputs"] != record["inputs"]
