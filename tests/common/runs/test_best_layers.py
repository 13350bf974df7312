from __future__ import annotations

from pathlib import Path

import pytest

from common.config import Config
from common.errors import UsageError
from common.model_facts import ModelFacts
from common.runs.artifacts import TOP_FEATURES, PhasePaths
from common.runs.best_features import WITHOUT_T_STATISTICS, BestFeatures
from common.runs.best_layers import find_best_layers
from common.runs.features import Feature
from common.runs.files import read_json, write_json
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.phase_runner import PhaseRunner

pytestmark = pytest.mark.unit

FACTS = ModelFacts(n_layers=6, d_model=8, architecture="x", vocab_size=9, context=10)
SEPARATED = BestFeatures(Feature(4, 1), Feature(2, 2))
BY_T = BestFeatures(Feature(4, 3), Feature(5, 4))


class Reader(PhaseRunner):
    """A phase that reads rankings."""

    phase = "7.3"

    def prepare(self) -> None: ...

    def execute(self) -> None: ...


def publish(config: Config, phase: str, best: BestFeatures, done: int = 9) -> None:
    paths = PhasePaths(config.phase_dir(phase))
    top = {name: [{"layer": item.layer, "feature_idx": item.index}] for name, item in best._asdict().items()}
    output = OutputFile(TOP_FEATURES, write_json(paths.root / TOP_FEATURES, top))
    extent = Extent(9, done)
    write_record(
        paths, phase=phase, config=config, extent=extent, inputs=[], outputs=[output], wall_seconds={}, details={}
    )


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config(data_dir=str(tmp_path))
    publish(config, "2.5", SEPARATED)
    return config


def test_predictors_come_from_2_10_and_steering_features_from_2_5(config: Config) -> None:
    publish(config, "2.10", BY_T)
    runner = Reader(config)
    found = find_best_layers(runner)
    assert (found.predictors, found.steering, found.note) == (BY_T, SEPARATED, None)
    assert found.chosen(config, FACTS) == [2, 4, 5]
    assert [item.phase for item in runner.inputs_used()] == ["2.5", "2.10"]
    assert [source.phase for source in found.sources] == ["2.5", "2.10"]


def test_without_2_10_the_features_of_2_5_predict_too_and_it_is_said(config: Config) -> None:
    found = find_best_layers(Reader(config))
    assert found.predictors == found.steering == SEPARATED
    assert found.note == WITHOUT_T_STATISTICS
    assert found.chosen(config, FACTS) == [2, 4]


def test_all_layers_are_captured_on_request(config: Config) -> None:
    every = Config(data_dir=config.data_dir, capture_layers="all")
    assert find_best_layers(Reader(every)).chosen(every, FACTS) == list(range(6))


def test_the_file_holds_both_pairs(config: Config, tmp_path: Path) -> None:
    publish(config, "2.10", BY_T)
    found = find_best_layers(Reader(config))
    entry = found.write(PhasePaths(tmp_path / "out"))
    assert read_json(tmp_path / "out" / entry.path) == {
        "best_layers": {"correct": 4, "correct_feature_idx": 3, "incorrect": 5, "incorrect_feature_idx": 4},
        "steering_layers": {"correct": 4, "correct_feature_idx": 1, "incorrect": 2, "incorrect_feature_idx": 2},
    }


def test_a_phase_that_has_not_been_run_is_none_and_a_partial_one_is_refused(config: Config) -> None:
    assert Reader(config).find_optional("2.10") is None
    publish(config, "2.10", BY_T, done=4)
    with pytest.raises(UsageError, match="phase 7.3 reads phase 2.10, which is partial"):
        Reader(config).find_optional("2.10")
