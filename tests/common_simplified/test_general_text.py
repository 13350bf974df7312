from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.errors import UsageError
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import read_json, write_json
from common.runs.metadata import sealed
from common.runs.options import RunOptions
from common.runs.records import StageStore
from common.runs.slices import Span
from common.runs.tables import vector_column
from common_simplified.general_text import UNFILTERED, GeneralTextFilter, general_text_filter
from phase2_5.separation_analyzer import SeparationAnalyzer
from tests.common_simplified.fixtures import WIDTH
from tests.phase2_10.helpers import LAYERS, MODEL, POINTS, Built, build, publish_frequencies, rare

pytestmark = pytest.mark.unit


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path)


def found(built: Built, **options: Any) -> GeneralTextFilter:
    runner = SeparationAnalyzer(built.config, RunOptions(**options))
    source: PhaseOutput = runner.find("1.0")
    return general_text_filter(runner, source)


def test_without_phase_2_2_every_feature_is_ranked_and_the_reason_is_recorded(built: Built) -> None:
    nothing = found(built)
    assert nothing.keep(nothing.frequencies(0, WIDTH)).all()
    assert np.isnan(nothing.frequencies(0, WIDTH)).all()
    assert nothing.words == UNFILTERED
    assert nothing.as_record() == {"applied": False, "reason": UNFILTERED}


def test_a_feature_at_the_limit_is_left_out_and_one_just_below_is_kept() -> None:
    shares = np.array([0.0, 199 / 10_000, 200 / 10_000, 201 / 10_000, 1.0])
    kept = GeneralTextFilter({0: shares}, 10_000, 0.02)
    assert kept.keep(kept.frequencies(0, 5)).tolist() == [True, True, False, False, False]


def test_frequencies_come_by_layer_with_the_number_of_texts(built: Built) -> None:
    shares = {layer: np.linspace(0, layer / 10, WIDTH) for layer in LAYERS}
    publish_frequencies(built, shares, n_texts=500)
    filtered = found(built)
    for layer in LAYERS:
        np.testing.assert_array_equal(filtered.frequencies(layer, WIDTH), shares[layer])
    assert filtered.as_record() == {"applied": True, "n_texts": 500, "left_out_from": 0.02}
    assert "2 % of 500 general texts" in filtered.words


def test_layers_that_phase_1_0_did_not_capture_do_not_matter(built: Built) -> None:
    more = {"points": {**POINTS, "7": "blocks.7.hook_resid_post"}, "layers": [*LAYERS, 7]}
    publish_frequencies(built, rare(), **more)
    assert found(built).keep(found(built).frequencies(2, WIDTH)).all()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("model", {**MODEL, "name": "another"}),
        ("points", {**POINTS, "1": "blocks.1.hook_resid_pre"}),
        ("points", {layer: point for layer, point in POINTS.items() if layer != "2"}),
        ("saes", [{"sae_layer": layer, "release": "another"} for layer in LAYERS]),
    ],
)
def test_frequencies_of_something_else_are_refused_with_a_cure(built: Built, name: str, changed: Any) -> None:
    publish_frequencies(built, rare(), **{name: changed})
    with pytest.raises(UsageError, match=rf"phase 2\.5: .*(their {name} differ|lacks layers 2).*; run: .* --fresh"):
        found(built)


def change_record(built: Built, **changed: object) -> None:
    path = PhasePaths(built.config.phase_dir("2.2")).metadata
    write_json(path, sealed({**read_json(path), **changed}))


def test_part_of_the_texts_is_refused_unless_it_is_accepted(built: Built) -> None:
    publish_frequencies(built, rare())
    change_record(built, complete=False)
    with pytest.raises(UsageError, match=r"phase 2\.5 reads phase 2\.2, which is partial"):
        found(built)
    assert found(built, allow_partial=True).by_layer is not None


def test_the_number_of_texts_is_that_of_the_shares(built: Built) -> None:
    """Of 200 texts 50 had one token only: the shares are of the other 150."""
    publish_frequencies(built, rare(), n_texts=200)
    change_record(built, n_texts=150)
    assert found(built).as_record()["n_texts"] == 150


def test_a_limit_between_whole_percents_is_said_as_it_is() -> None:
    assert "0.5" in GeneralTextFilter({0: np.zeros(3)}, 10_000, 0.005).words


def test_an_unfinished_phase_2_2_is_not_taken_for_none_at_all(built: Built) -> None:
    store = StageStore(PhasePaths(built.config.phase_dir("2.2")).stage("vectors", "general_text"))
    store.open({"seed": 42})
    store.write(Span(0, 1), pa.table({"vector_0": vector_column(np.zeros((2, 4), dtype=np.float32))}))
    with pytest.raises(UsageError, match=r"phase 2\.2.*unfinished"):
        found(built)
