from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.config import Config
from common.errors import PipelineError
from common.profiles import SaeSource
from common.runs.artifacts import PhasePaths, labelled_activation, task_activation
from common.runs.discovery import PhaseOutput
from common.runs.features import Feature
from common.runs.metadata import Extent, write_record
from common.runs.publishing import write_activations
from common_simplified.feature_scores import feature_scores, labelled_vectors, layer_scores, task_vectors
from common_simplified.sae_loader import load_sae
from tests.common.runs.helpers import generated
from tests.common_simplified.fixtures import D_MODEL, WIDTH, every_source

pytestmark = pytest.mark.numeric

VECTORS = np.random.default_rng(0).standard_normal((7, D_MODEL)).astype(np.float32) * 2
KINDS = ("jumprelu", "jumprelu, b_dec subtracted", "standard", "gemma_scope", "llama_scope")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SaeSource]:
    return every_source(tmp_path_factory.mktemp("saes"))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_saelens_activations(sources: dict[str, SaeSource], kind: str) -> None:
    with torch.no_grad():
        expected = load_sae(sources[kind], 0).encode(torch.from_numpy(VECTORS)).numpy()
    assert (expected > 0).any()
    np.testing.assert_allclose(layer_scores(sources[kind], 0, VECTORS), expected, rtol=1e-4, atol=1e-5)
    for index in range(WIDTH):
        scores = feature_scores(sources[kind], Feature(0, index), VECTORS)
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, expected[:, index], rtol=1e-4, atol=1e-5)


def test_no_rows_have_no_scores(sources: dict[str, SaeSource]) -> None:
    assert feature_scores(sources["jumprelu"], Feature(0, 3), VECTORS[:0]).shape == (0,)
    assert layer_scores(sources["jumprelu"], 0, VECTORS[:0]).shape == (0, WIDTH)


def published(tmp_path: Path, labelled: bool) -> PhaseOutput:
    """Seven problems, task ids 10 to 16, of which the even ones passed."""
    config, phase = Config(data_dir=str(tmp_path)), "1.0" if labelled else "3.6"
    paths = PhasePaths(config.phase_dir(phase))

    def name(row: dict, layer: int) -> str:
        if labelled:
            return labelled_activation(row["task_id"], layer, row["passed"])
        return task_activation(row["task_id"], layer)

    table = generated(range(7), {2: VECTORS})
    tree = write_activations(paths, table, [position % 2 == 0 for position in range(7)], name)  # type: ignore[arg-type]
    extent = Extent(7, 7)
    fields = {"inputs": [], "outputs": [tree.index], "wall_seconds": {}, "details": {}}
    return PhaseOutput(phase, paths, write_record(paths, phase=phase, config=config, extent=extent, **fields))


def test_vectors_come_back_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    output = published(tmp_path, labelled=False)
    np.testing.assert_array_equal(task_vectors(output, [14, 10, 11], 2, D_MODEL), VECTORS[[4, 0, 1]])
    assert task_vectors(output, [], 2, D_MODEL).shape == (0, D_MODEL)
    assert [Path(item.path).name for item in output.used] == ["index.parquet"] * 2


def test_labelled_vectors_lie_by_class(tmp_path: Path) -> None:
    output = published(tmp_path, labelled=True)
    found = labelled_vectors(output, [11, 12], [False, True], 2, D_MODEL)
    np.testing.assert_array_equal(found, VECTORS[[1, 2]])
    with pytest.raises(PipelineError, match="correct/11_layer_2.npz is not in the index"):
        labelled_vectors(output, [11], [True], 2, D_MODEL)
