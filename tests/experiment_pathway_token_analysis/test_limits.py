"""`--limit` before and after a run of everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import OtherSettingsError, UsageError
from experiment_pathway_token_analysis.src import limits
from experiment_pathway_token_analysis.src.discovery_parts import discovery_part
from experiment_pathway_token_analysis.src.orchestrator import Orchestrator
from experiment_pathway_token_analysis.src.steps import Run
from tests.experiment_pathway_token_analysis.runs import FakeSteps, run_in, study_in

pytestmark = pytest.mark.unit
ALL = range(6)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FakeSteps:
    return FakeSteps(monkeypatch)


def go(run: Run, steps: Any = ALL, *, fresh: bool = False) -> int:
    return Orchestrator(run, fresh=fresh).go(steps, produce=False)


def many(n: int) -> list[dict[str, Any]]:
    return [{"feature": f"L1-{index}"} for index in range(n)]


@pytest.mark.parametrize("again", [ALL, range(3, 5), [5]])
def test_a_limit_after_a_run_of_everything_is_refused_with_what_to_do_and_nothing_is_touched(
    tmp_path: Path, steps: FakeSteps, again: Any
) -> None:
    study_in(run_in(tmp_path))
    steps.features = many(5)
    assert go(run_in(tmp_path)) == 0
    before = {path: path.read_bytes() for path in run_in(tmp_path).paths.root.rglob("*.json")}
    with pytest.raises(UsageError) as told:
        go(run_in(tmp_path, limit=2), again)
    said = str(told.value)
    assert (
        f"what step {max(3, again[0])} " in said and "found for all 5 features, and --limit 2 would write over" in said
    )
    assert said.endswith("start again with --fresh, or use another --data-dir") and "\n" not in said
    assert {path: path.read_bytes() for path in before} == before and steps.ran == [*ALL]
    assert go(run_in(tmp_path, limit=2), range(2, 6), fresh=True) == 0 and steps.put_aside == 1


def test_a_limit_that_leaves_nothing_out_or_runs_only_first_steps_is_none(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    steps.features = many(5)
    assert go(run_in(tmp_path)) == 0
    assert go(run_in(tmp_path, limit=5)) == 0
    assert go(run_in(tmp_path, limit=2), range(3)) == 0


def test_everything_after_a_limited_run_starts_step_3_again_by_itself(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    steps.features = many(5)
    assert go(run_in(tmp_path, limit=2)) == 0
    steps.raises[3] = OtherSettingsError("made for two targets; use --fresh")
    with pytest.raises(OtherSettingsError):  # this fake raises again, having been started again
        go(run_in(tmp_path))
    assert steps.put_aside == 1 and steps.ran == [*ALL, 0, 1, 2, 3, 3]


def test_a_part_of_a_whole_study_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(tmp_path)
    record = {"published_under": {"limit": None}, "found": {"n_features": 36}}
    monkeypatch.setattr(limits, "study_record_found", lambda _: record)
    part = replace(run, limit=10)
    for start in (lambda: Orchestrator(part).go(ALL), Orchestrator(part).only_produce):
        with pytest.raises(
            UsageError, match="a study of all 36 features, and --limit 10 would leave a part of it;"
        ) as told:
            start()
        assert "read the study as it is with --no-produce" in str(told.value) and "\n" not in str(told.value)
    limits.refuse_part(replace(run, limit=36), ALL, producing=True)


def test_the_launcher_refuses_a_limit_after_a_run_of_everything_as_it_opens(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    steps.features = many(5)
    assert go(run_in(tmp_path)) == 0
    for needed in (0, 1, 2):  # which stand on the same part
        path = run_in(tmp_path).paths.manifest(needed)
        path.write_text(path.read_text().replace('"limit": null', '"limit": 2'))
    with pytest.raises(UsageError, match="found for all 5 features, and --limit 2 would write over it"):
        discovery_part(run_in(tmp_path, limit=2), "open", None, None)
