from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.results import list_phases, load_phase, phase_root
from experiment_pathway_token_analysis.src.paths import PathwayPaths, pathway_root
from experiment_pathway_token_analysis.src.standing import STEPS
from tests.common.made_runs import pathway

pytestmark = pytest.mark.unit


def test_the_pathway_analysis_is_read_in_the_same_words(tmp_path: Path) -> None:
    pathway(tmp_path, 6)
    found = load_phase("pathway", tmp_path)
    assert found.complete and found.files == ["results/audit/tokens.parquet", "results/integrated/tokens.csv"]
    table = found.table("results/integrated/tokens.csv")
    assert table["token"].tolist()[::2] == ["NA", "nan"] and pd.isna(table["token"][1])
    assert table["n"].isna().tolist() == [False, False, True] and table["kept"].tolist() == [True, False, True]
    with pytest.raises(UsageError, match="several files 'tokens'"):
        found.table("tokens")
    row = list_phases(tmp_path).set_index("phase").loc["pathway"]
    assert row[["state", "done", "expected", "model"]].tolist() == ["complete", 6, 6, "tiny"]


def test_a_pathway_analysis_that_is_not_through_is_partial_and_its_files_are_checked(tmp_path: Path) -> None:
    root = pathway(tmp_path, 3)
    found = load_phase("pathway", tmp_path)
    assert not found.complete
    assert list_phases(tmp_path).set_index("phase").loc["pathway", "state"] == "partial"
    (root / "results" / "integrated" / "tokens.csv").write_bytes(b"token\n")
    with pytest.raises(PipelineError, match="tokens.csv is damaged: its SHA-256 is not the recorded"):
        found.table("tokens.csv")


def test_the_places_of_the_analysis_are_the_ones_that_it_uses(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    assert pathway_root(config) == phase_root(config, "pathway")
    root = pathway(tmp_path, 6)
    assert sorted(path for path in (root / "steps").iterdir()) == [PathwayPaths(root).manifest(n) for n in STEPS]


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    root = pathway(tmp_path, 6)
    for text, said in (("[1]", "it is no manifest of a step"), ("{", "step_2.json is damaged")):
        PathwayPaths(root).manifest(2).write_text(text)
        with pytest.raises(PipelineError, match=said):
            load_phase("pathway", tmp_path).files  # noqa: B018
        row = list_phases(tmp_path).set_index("phase").loc["pathway"]
        assert row["state"] == "unreadable" and said in row["why"]
