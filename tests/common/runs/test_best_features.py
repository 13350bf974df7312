from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.runs.artifacts import TOP_FEATURES, PhasePaths
from common.runs.best_features import BestFeatures, best_features, features_of_record
from common.runs.discovery import PhaseOutput, find_output
from common.runs.features import Feature
from common.runs.files import write_json
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.options import RunOptions

pytestmark = pytest.mark.unit

FOUND = BestFeatures(Feature(5, 70), Feature(2, 9))


def ranked(tmp_path: Path, top: dict[str, list[dict[str, Any]]]) -> PhaseOutput:
    config = Config(data_dir=str(tmp_path))
    paths = PhasePaths(config.phase_dir("2.10"))
    output = OutputFile(TOP_FEATURES, write_json(paths.root / TOP_FEATURES, top))
    write_record(
        paths,
        phase="2.10",
        config=config,
        extent=Extent(9, 9),
        inputs=[],
        outputs=[output],
        wall_seconds={},
        details={},
    )
    return find_output(config, RunOptions(), "2.10", "3.5")


def items(*features: tuple[int, int]) -> list[dict[str, Any]]:
    return [{"layer": layer, "feature_idx": index, "t_statistic": 1.0} for layer, index in features]


def test_the_first_of_either_list_is_taken_and_the_reading_is_noted(tmp_path: Path) -> None:
    output = ranked(tmp_path, {"correct": items((5, 70), (1, 1)), "incorrect": items((2, 9), (5, 70))})
    assert best_features(output) == FOUND
    assert [Path(item.path).name for item in output.used] == [TOP_FEATURES]


@pytest.mark.parametrize("empty", ["correct", "incorrect"])
def test_a_direction_without_a_feature_is_refused(tmp_path: Path, empty: str) -> None:
    top = {"correct": items((1, 2)), "incorrect": items((1, 3)), empty: []}
    with pytest.raises(UsageError, match=f"phase 2.10 ranked no {empty}-preferring feature"):
        best_features(ranked(tmp_path, top))


def test_a_list_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    output = ranked(tmp_path, {"correct": items((5, 70)), "incorrect": items((2, 9))})
    write_json(output.paths.root / TOP_FEATURES, {"correct": items((0, 0)), "incorrect": items((2, 9))})
    with pytest.raises(PipelineError, match=TOP_FEATURES):
        best_features(output)


def test_the_record_has_the_keys_of_the_contract_and_reads_back() -> None:
    entry = FOUND.as_record()
    assert entry == {"correct": 5, "incorrect": 2, "correct_feature_idx": 70, "incorrect_feature_idx": 9}
    assert features_of_record(entry) == FOUND


def test_the_same_layer_twice_is_one_layer() -> None:
    assert BestFeatures(Feature(3, 1), Feature(3, 2)).layers() == {3}
    assert FOUND.layers() == {2, 5}
