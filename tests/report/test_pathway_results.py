from __future__ import annotations

from pathlib import Path

import pytest

from common.config import Config
from common.errors import PipelineError
from experiment_pathway_token_analysis.src.paths import PathwayPaths, pathway_root
from experiment_pathway_token_analysis.src.steps import NAMES
from experiment_pathway_token_analysis.src.steps import PASSED as STATUS
from report.pathway_results import PASSED, STEPS, PathwayResults, pathway_results
from tests.report.sections.pathway_artifacts import write_pathway

pytestmark = pytest.mark.unit


def results(tmp_path: Path) -> PathwayResults:
    found = pathway_results(Config(data_dir=str(tmp_path)))
    assert found is not None
    return found


def test_steps_names_and_places_are_the_analysis_own(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    assert (NAMES, STATUS) == (STEPS, PASSED)
    root = pathway_root(Config(data_dir=str(tmp_path)))
    assert results(tmp_path).root == root
    assert all(PathwayPaths(root).manifest(step).is_file() for step in range(len(STEPS)))


def test_a_file_that_no_step_names_is_refused_with_the_command(tmp_path: Path) -> None:
    write_pathway(tmp_path)
    with pytest.raises(PipelineError, match=r"names gone\.json; run: python3 run\.py pathway --data-dir .* --from 0"):
        results(tmp_path).json("gone.json")


def test_whether_the_analysis_is_whole_is_told_by_its_manifests(tmp_path: Path) -> None:
    write_pathway(tmp_path / "whole")
    write_pathway(tmp_path / "part", steps={2: {}})
    assert results(tmp_path / "whole").whole and not results(tmp_path / "part").whole
    assert "step 2 of 5 (prototype) has not been run" in results(tmp_path / "part").unfinished()


def test_inputs_that_no_step_made_do_not_make_a_step_outdated(tmp_path: Path) -> None:
    write_pathway(tmp_path, steps={0: {"inputs": {"study/analysis/a.json": "1"}}})
    assert results(tmp_path).doubts() == []
