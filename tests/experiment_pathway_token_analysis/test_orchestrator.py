from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import OtherSettingsError, PipelineError, UsageError
from common.logging import get_logger, setup_console
from common.runs.files import read_json
from common.runs.locks import EVERYTHING, span_lock
from experiment_pathway_token_analysis.src import closing, orchestrator
from experiment_pathway_token_analysis.src.closing import closing_table
from experiment_pathway_token_analysis.src.orchestrator import Orchestrator, step_range
from experiment_pathway_token_analysis.src.steps import NEEDS, Run
from experiment_pathway_token_analysis.src.study_state import StudyState, study_files
from tests.cli.helpers import logging_left_as_found
from tests.experiment_pathway_token_analysis.runs import FakeSteps, run_in, study_in

pytestmark = pytest.mark.unit
ALL = range(6)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FakeSteps:
    return FakeSteps(monkeypatch)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = run_in(tmp_path)
    study_in(made)
    return made


def go(run: Run, steps: Any = ALL, *, fresh: bool = False) -> int:
    return Orchestrator(run, fresh=fresh).go(steps, produce=False)


def refused(run: Run, steps: Any = ALL, error: type[Exception] = UsageError) -> str:
    with pytest.raises(error) as caught:
        go(run, steps)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_steps_run_once_and_are_then_current(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0 and steps.ran == [0, 1, 2, 3, 4, 5]
    assert go(run) == 0 and steps.ran == [0, 1, 2, 3, 4, 5]
    assert [read_json(run.paths.manifest(step))["status"] for step in ALL] == ["passed"] * 6


def test_a_part_of_the_range_stands_on_what_ran_before(run: Run, steps: FakeSteps) -> None:
    assert go(run, range(3)) == 0 and go(run, range(3, 5)) == 0
    assert steps.ran == [0, 1, 2, 3, 4]
    assert go(run) == 0 and steps.ran == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("step", [step for step in ALL if NEEDS[step]])
def test_a_step_refuses_to_start_before_those_it_needs(run: Run, steps: FakeSteps, step: int) -> None:
    assert f"step {step} needs step {NEEDS[step][0]}" in refused(run, [step])
    assert steps.ran == []


def test_step_3_needs_both_the_audit_and_the_prototype(run: Run, steps: FakeSteps) -> None:
    assert go(run, range(3)) == 0
    for needed in (0, 2):
        path = run.paths.manifest(needed)
        before = path.read_bytes()
        path.unlink()
        assert f"step 3 needs step {needed} " in refused(run, [3])
        path.write_bytes(before)
    assert go(run, [3]) == 0


def test_a_step_that_does_not_pass_ends_the_run_with_its_own_code(run: Run, steps: FakeSteps) -> None:
    steps.passes[0], steps.codes[0] = False, 2
    assert go(run) == 2 and steps.ran == [0]
    assert read_json(run.paths.manifest(0))["status"] == "failed"
    assert "step 1 needs step 0 (data audit), which did not pass (did 0); mend that" in refused(run, [1])


def test_a_step_that_fails_without_a_code_ends_with_1(run: Run, steps: FakeSteps) -> None:
    steps.passes[2] = False
    assert go(run) == 1 and steps.ran == [0, 1, 2]


def test_force_goes_on_and_the_exit_code_still_tells(tmp_path: Path, steps: FakeSteps) -> None:
    run = run_in(tmp_path, force=True)
    study_in(run)
    steps.passes[0], steps.codes[0] = False, 2
    assert go(run) == 2 and steps.ran == [0, 1, 2, 3, 4, 5]


def test_force_does_not_overrule_a_damaged_file(tmp_path: Path, steps: FakeSteps) -> None:
    run = run_in(tmp_path, force=True)
    study_in(run)
    assert go(run, range(3)) == 0
    run.paths.causal_features.write_text("{}")
    assert "is not what its step wrote" in refused(run, [2], PipelineError)


def test_a_step_that_raises_has_not_passed_though_it_had_before(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    steps.raises[2] = PipelineError("the self-test failed; look at it")
    with pytest.raises(PipelineError, match="self-test"):
        go(run, range(6), fresh=True)
    assert steps.ran[-1] == 2
    assert "step 3 needs step 2 (prototype), which has not run" in refused(run, [3])


def test_fresh_runs_what_is_current_and_lets_step_3_put_its_work_aside(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0 and steps.put_aside == 0
    assert go(run, fresh=True) == 0
    assert steps.ran == [*ALL, *ALL] and steps.put_aside == 1


def test_step_3_starts_again_by_itself_only_where_what_it_reads_has_changed(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    assert go(run_in(tmp_path)) == 0
    steps.raises[3] = OtherSettingsError("made under other settings; use --fresh")
    with pytest.raises(OtherSettingsError):
        go(run_in(tmp_path, "gradient.min_abs=0.2"))
    assert steps.ran == [*ALL, 3] and steps.put_aside == 0
    steps.raises.clear()
    assert go(run_in(tmp_path)) == 0
    steps.ran.clear()
    steps.raises[3], steps.features = OtherSettingsError("of other targets; use --fresh"), [{"feature": "L1-9"}]
    with pytest.raises(OtherSettingsError):  # this fake raises again, having been started again
        go(run_in(tmp_path, "selection.per_layer=7"))
    assert steps.ran == [1, 2, 3, 3] and steps.put_aside == 1


def test_a_new_file_of_the_study_makes_the_audit_run_again(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    (run.study_root / "response_logs" / "responses_001.json").write_text("[]")
    assert go(run) == 0
    assert steps.ran == [*ALL, 0]  # what it wrote is the same, so nothing after it is stale


def test_a_changed_file_of_the_study_makes_the_audit_run_again(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    study_in(run, "[]")
    assert go(run) == 0 and steps.ran == [*ALL, 0]


def test_under_strict_the_audit_always_runs(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    assert go(run_in(tmp_path)) == 0
    assert go(run_in(tmp_path, strict=True), [0]) == 0 and steps.ran == [*ALL, 0]


@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("tokens.min_log_odds=0.3", [4, 5]),
        ("replay.alpha=0.01", [3, 5]),
        ("prototype.upstream_per_layer=3", [2]),
        ("selection.per_layer=3", [1, 5]),
        ("producer.alpha=0.01", []),
        ("seed=1", list(ALL)),
        ("study.min_trials=5", list(ALL)),
    ],
)
def test_only_steps_that_use_a_changed_setting_run_again(
    tmp_path: Path, steps: FakeSteps, setting: str, again: list[int]
) -> None:
    study_in(run_in(tmp_path))
    assert go(run_in(tmp_path)) == 0
    assert go(run_in(tmp_path, setting)) == 0
    assert steps.ran == [*ALL, *again]


def test_another_model_makes_every_step_run_again(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    assert go(run_in(tmp_path)) == 0
    assert go(run_in(tmp_path, settings={"model_name": "another/model"})) == 0
    assert steps.ran == [*ALL, *ALL]


def test_a_step_is_not_built_on_one_of_other_settings_or_of_a_part(tmp_path: Path, steps: FakeSteps) -> None:
    study_in(run_in(tmp_path))
    assert go(run_in(tmp_path), range(3)) == 0
    message = refused(run_in(tmp_path, "selection.per_layer=3"), [3])
    assert "step 3 stands on step 1 (causal features), which was made under other settings (selection)" in message
    assert "--from 1, or go on all the same with --force" in message
    assert go(run_in(tmp_path, "selection.per_layer=3", force=True), [3]) == 0
    assert go(run_in(tmp_path, limit=2), range(3)) == 0
    assert "(--limit 2)" in refused(run_in(tmp_path), [3])
    assert go(run_in(tmp_path, limit=2), [3]) == 0


def test_where_nothing_is_selected_the_rest_has_nothing_to_do(run: Run, steps: FakeSteps) -> None:
    steps.features = []
    assert go(run) == 0 and steps.ran == [0, 1]


def test_a_second_run_in_the_same_place_is_refused(run: Run, steps: FakeSteps) -> None:
    with span_lock(run.paths.locks, EVERYTHING):
        assert "are being worked on by process" in refused(run)
    assert steps.ran == []


def test_without_a_study_nothing_starts(tmp_path: Path, steps: FakeSteps) -> None:
    ours, llama = run_in(tmp_path), run_in(tmp_path, profile="llama-3.1-8b")
    assert "leave --no-produce out to make the study" in refused(ours)
    assert "put the patching study there, or name its place with --set study.directory=DIR" in refused(llama)
    assert not (tmp_path / "pathway").exists()


def test_a_study_elsewhere_is_read_where_it_lies(tmp_path: Path, steps: FakeSteps) -> None:
    run = run_in(tmp_path, f"study.directory={tmp_path / 'elsewhere'}", profile="llama-3.1-8b")
    assert run.study_root == tmp_path / "elsewhere"
    study_in(run)
    assert go(run) == 0 and go(run) == 0 and steps.ran == list(ALL)
    assert str(tmp_path / "elsewhere") in next(iter(read_json(run.paths.manifest(0))["inputs"]))


@pytest.mark.parametrize(("first", "last"), [(6, None), (-1, None), (None, 6), (0, -1)])
def test_a_number_that_is_no_step_is_refused_with_the_steps_that_are(first: int | None, last: int | None) -> None:
    with pytest.raises(UsageError, match="there is no such step; the steps are 0 data audit, 1 causal features"):
        step_range(first, last)


def test_ranges_are_contiguous_and_reversed_ones_refused() -> None:
    assert list(step_range(None, None)) == [0, 1, 2, 3, 4, 5]
    assert list(step_range(2, 3)) == [2, 3] and list(step_range(4, None)) == [4, 5] and list(step_range(None, 0)) == [0]
    with pytest.raises(UsageError, match="--from 3 comes after --to 2"):
        step_range(3, 2)


def test_every_step_has_a_module_that_can_run_it() -> None:
    import importlib

    for name in orchestrator.MODULES:
        assert callable(importlib.import_module(f"{orchestrator.PACKAGE}.{name}").run_step)


def test_a_manifest_tells_settings_files_and_how_it_ended(run: Run, steps: FakeSteps) -> None:
    assert go(run, range(2)) == 0
    manifest = json.loads(run.paths.manifest(1).read_text())
    assert manifest["settings"]["selection"]["per_layer"] == run.settings.selection.per_layer
    assert list(manifest["outputs"]) == ["data/causal_features.json"] and manifest["message"] == "did 1"
    assert manifest["model"]["name"] == run.config.model_name and manifest["limit"] is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"status": "passed"}'])
def test_a_damaged_manifest_makes_its_step_run_again_and_refuses_later_ones(
    run: Run, steps: FakeSteps, text: str
) -> None:
    assert go(run) == 0
    run.paths.manifest(2).write_text(text)
    assert "step_2.json" in refused(run, [3], PipelineError) and steps.ran == [*ALL]
    assert go(run) == 0 and steps.ran == [*ALL, 2]


@pytest.fixture
def told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the closing table name each step that it tells of, in the place of what the step found."""
    for name in ("_audit", "_causal", "_prototype", "_pathways", "_tokens", "_integrated"):
        monkeypatch.setattr(closing, name, lambda _, name=name: [(f"found by {name}", "", "")])


@pytest.mark.usefixtures("told_by_name")
def test_a_step_is_refused_where_one_it_stands_on_was_made_of_other_files(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    assert "found by _integrated" in closing_table(run)
    steps.features = [{"feature": "L1-3"}]
    assert Orchestrator(run, fresh=True).go([1], produce=False) == 0
    told = refused(run, [5])
    assert "of other files (data/causal_features.json)" in told and "--from" in told
    assert "not of these files" in closing_table(run) and "found by _prototype" not in closing_table(run)


@pytest.mark.usefixtures("told_by_name")
def test_a_step_that_did_not_pass_hides_what_later_steps_found_before(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    steps.passes[1] = False
    assert Orchestrator(run, fresh=True).go([1], produce=False) == 1
    assert "did not pass" in closing_table(run) and "found by _prototype" not in closing_table(run)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("selection.first_layer=9", "selection.first_layer = 9: organism has layers 0 to 3"),
        ("selection.last_layer=99", "selection.last_layer = 99: organism has layers 0 to 3"),
        ("selection.last_layer=0", "selection.first_layer = 1 comes after the last layer, 0"),
    ],
)
def test_layers_that_the_model_does_not_have_are_refused_before_anything(
    tmp_path: Path, steps: FakeSteps, given: str, message: str
) -> None:
    run = run_in(tmp_path, given)
    study_in(run)
    assert message in refused(run) and steps.ran == []


def test_a_study_that_was_not_made_here_is_not_written_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StudyState(False, "not made yet, or unfinished", [], False)
    monkeypatch.setattr(orchestrator, "study_state", lambda _: state)
    before = {path: path.read_bytes() for path in study_files(run)}
    with pytest.raises(UsageError, match=r"was not made here.*--no-produce"):
        Orchestrator(run).go(ALL)
    with pytest.raises(UsageError, match=r"was not made here"):
        Orchestrator(run, fresh=True).only_produce()
    assert {path: path.read_bytes() for path in study_files(run)} == before and len(before) == 2


def test_another_profiles_directory_is_refused(run: Run, steps: FakeSteps) -> None:
    assert go(run) == 0
    other = replace(run, profile=replace(run.profile, name="other"))
    assert "holds an analysis of profile organism, this is other" in refused(other) and steps.ran == [*ALL]
    assert go(other, fresh=True) == 0


def test_repeated_warnings_of_a_step_are_capped_on_the_console_and_whole_in_the_log(
    run: Run, steps: FakeSteps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = orchestrator.module_of(1)
    original = module.run_step

    def noisy(given: Run) -> Any:
        for number in range(25):
            get_logger("noisy").warning("target %d: out of memory", number)
        return original(given)

    monkeypatch.setattr(module, "run_step", noisy)
    with logging_left_as_found():
        setup_console()
        assert go(run) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert len(told) == 11 and '15 more warnings like "target 0: out of memory", in ' in told[-1]
    assert sum("out of memory" in line for line in (run.paths.logs / "pathway.log").read_text().splitlines()) == 26


def test_a_damaged_manifest_is_told_once(
    run: Run, steps: FakeSteps, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert go(run) == 0
    run.paths.manifest(2).write_text("{")
    assert go(run) == 0
    assert caplog.text.count("step_2.json is not what step 2 wrote") == 1
