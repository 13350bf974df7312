"""The audit reads a whole study, finds every planted fault by its own name, and ends with the right exit code."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from common.runs.files import read_json, read_parquet, write_json
from experiment_pathway_token_analysis.src import trial_spill, trial_table
from experiment_pathway_token_analysis.src.findings import ERROR, KINDS, STRICT_ERRORS
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.synthetic_faults import FAULTS, plant
from experiment_pathway_token_analysis.synthetic_study import SMALL
from tests.experiment_pathway_token_analysis.studies import LLAMA, OURS, audited, codes, run_in, study_in

pytestmark = pytest.mark.unit
KEYS = {
    "causal_by_layer",
    "total_causal_features",
    "total_response_features",
    "joinable_features",
    "join_rate_percent",
    "total_trials",
    "audit_results",
    "validated",
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An undamaged study of each kind."""
    roots = {kind: tmp_path_factory.mktemp(kind) for kind in (LLAMA, OURS)}
    for kind, root in roots.items():
        study_in(root, kind)
    return roots


def copied(studies: dict[str, Path], kind: str, to: Path, *given: str, strict: bool = False) -> Run:
    shutil.copytree(studies[kind] / "study", to / "study")
    return run_in(to, kind, *given, strict=strict)


def damaged(studies: dict[str, Path], kind: str, to: Path, fault: str, *, strict: bool = False) -> Run:
    given = ["study.expected_checkpoints=null", "study.expected_response_logs=null"]
    run = copied(studies, kind, to, *given, strict=strict)
    plant(run.study_root, run.settings.study, fault)
    return run


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_a_whole_study_passes_and_its_truth_is_counted(studies: dict[str, Path], kind: str, tmp_path: Path) -> None:
    run = copied(studies, kind, tmp_path)
    result, report = audited(run)
    truth = read_json(studies[kind] / "study" / "truth.json")
    assert (result.passed, result.exit_code, report["validated"], codes(report)) == (True, 0, True, {})
    assert report.keys() >= KEYS
    assert report["total_trials"] == truth["total_trials"] == SMALL.total_trials
    assert report["total_causal_features"] == len(truth["flagged"]) == sum(report["causal_by_layer"].values())
    assert report["total_response_features"] == truth["features"] == 36
    assert report["join_rate_percent"] == 100.0 and report["joinable_features"] == report["total_causal_features"]
    checks = report["checks"]
    assert checks["features_of_generation_1"] > 0 and checks["features_of_generation_2"] > 0
    # Nine cumulative files of three layers: 4, 8 and 12 features of each.
    assert (checks["checkpoint_records"], checks["checkpoint_records_repeated"]) == (72, 36)


def test_aliases_are_counted_under_the_names_that_were_found(studies: dict[str, Path], tmp_path: Path) -> None:
    report = audited(copied(studies, LLAMA, tmp_path))[1]
    per_condition = 36 * SMALL.trials
    assert report["checks"]["aliases"] == dict.fromkeys(
        ("risky_with_risky_patch", "safe_with_safe_patch"), per_condition
    )
    assert set(report["checks"]["trials_per_condition"]) == set(run_in(tmp_path, LLAMA).settings.study.conditions)


@pytest.mark.parametrize("kind", [LLAMA, OURS])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_planted_fault_is_found_counted_and_named(
    studies: dict[str, Path], kind: str, fault: str, tmp_path: Path
) -> None:
    run = damaged(studies, kind, tmp_path, fault)
    result, report = audited(run)
    found = codes(report)
    assert found.get(fault) == 1, found
    fatal = KINDS[fault].severity == ERROR
    assert (result.exit_code, result.passed) == ((2, False) if fatal else (0, True))
    assert report["exit_code"] == result.exit_code and report.keys() >= KEYS


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_under_strict_a_warning_ends_with_one_and_an_empty_response_with_two(
    studies: dict[str, Path], fault: str, tmp_path: Path
) -> None:
    result, report = audited(damaged(studies, LLAMA, tmp_path, fault, strict=True))
    fatal = KINDS[fault].severity == ERROR or fault in STRICT_ERRORS
    assert (result.exit_code, result.passed, report["validated"]) == (2 if fatal else 1, False, False)


def test_every_fault_has_a_message_of_its_own(
    studies: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pva_sae"), "propagate", True)
    told = {}
    for fault in sorted(FAULTS):
        caplog.clear()
        audited(damaged(studies, LLAMA, tmp_path / fault, fault))
        told[fault] = next(record.getMessage() for record in caplog.records if f"[{fault}]" in record.getMessage())
    assert all(KINDS[fault].title in message and KINDS[fault].cure in message for fault, message in told.items())
    assert len({KINDS[fault].title for fault in told}) == len(told)


def test_the_report_and_the_tables_have_the_same_bytes_again(studies: dict[str, Path], tmp_path: Path) -> None:
    runs = [copied(studies, LLAMA, tmp_path / name) for name in ("one", "two")]
    results = [audited(run)[0] for run in runs]
    first, second = ([path.read_bytes() for path in result.outputs] for result in results)
    assert first == second and len(first) == 3


def test_the_trials_stand_once_sorted_and_findable_by_row_group(
    studies: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copied(studies, OURS, tmp_path / "whole")
    audited(whole)
    for name, value in (("BUFFER_ROWS", 50), ("PART_CHARACTERS", 100_000)):
        monkeypatch.setattr(trial_spill, name, value)
    monkeypatch.setattr(trial_table, "GROUP_BYTES", 40_000)
    run = copied(studies, OURS, tmp_path / "parts")
    audited(run)
    table = read_parquet(run.paths.trials)
    assert table.equals(read_parquet(whole.paths.trials))
    keys = ["feature", "condition", "run", "trial"]
    rows = list(zip(*(table[name].to_pylist() for name in keys), strict=True))
    order = list(run.settings.study.conditions)
    assert rows == sorted(set(rows), key=lambda row: (row[0], order.index(row[1]), row[2:]))
    file = pq.ParquetFile(run.paths.trials)
    assert file.num_row_groups > 10
    ranges = [file.metadata.row_group(number).column(0).statistics for number in range(file.num_row_groups)]
    assert all(one.max < other.min for one, other in zip(ranges, ranges[1:], strict=False))


def test_the_tables_hold_what_the_logs_hold(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, OURS, tmp_path)
    audited(run)
    expected = {}
    canonical = run.settings.study.canonical()
    for path in run.study_root.glob("response_logs/*.json"):
        for one in json.loads(path.read_text()):
            key = one["feature"], canonical[one["condition"]], one["trial"]
            expected[key] = one["task_id"], one["test_passed"], one["response"]
    table = read_parquet(run.paths.trials).to_pylist()
    found = {
        (row["feature"], row["condition"], row["trial"]): (row["task_id"], row["outcome"], row["response"])
        for row in table
    }
    assert found == expected and len(table) == len(found)


def test_nothing_temporary_is_left(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, LLAMA, tmp_path)
    audited(run)
    names = {path.name for path in run.paths.audit.parent.iterdir()}
    assert names == {"data_validation.json", "features.parquet", "trials.parquet", "timings.json"}


@pytest.mark.parametrize("kind", [LLAMA, OURS])
def test_an_empty_place_fails_with_the_same_keys(kind: str, studies: dict[str, Path], tmp_path: Path) -> None:
    whole = audited(copied(studies, kind, tmp_path / "whole"))[1]
    result, report = audited(run_in(tmp_path / "empty", kind))
    assert (result.exit_code, result.passed, set(codes(report))) == (2, False, {"no_study", "no_causal_features"})
    assert report.keys() == whole.keys() and report["checks"].keys() == whole["checks"].keys()
    assert report["join_rate_percent"] is None and report["total_trials"] == 0
    assert read_parquet(run_in(tmp_path / "empty", kind).paths.trials).num_rows == 0


def test_other_counts_of_files_than_expected_fail(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, LLAMA, tmp_path)
    next(run.study_root.glob("response_logs/*.json")).unlink()
    result, report = audited(run)
    assert result.exit_code == 2 and codes(report)["file_count"] == 1
    detail = report["audit_results"]["errors"][0]["examples"][0]["detail"]
    assert detail == f"{SMALL.logs - 1} response logs, expected {SMALL.logs}"


def test_the_join_is_told_both_ways(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, LLAMA, tmp_path, "study.expected_checkpoints=null", "study.expected_response_logs=null")
    for path in run.study_root.glob("response_logs/*_L1_*.json"):
        path.unlink()
    for path in run.study_root.glob("analysis/*_L3_*.json"):
        path.unlink()
    result, report = audited(run)
    causal = report["causal_by_layer"]
    rate = 100 * causal["2"] / (causal["1"] + causal["2"])
    assert report["join_rate_percent"] == pytest.approx(rate) and rate < 90
    assert report["checks"]["trial_features_join_rate_percent"] == 50.0
    assert codes(report) == {"low_join_rate": 1, "orphan_trials": 12} and result.exit_code == 0


def test_a_condition_that_is_wholly_missing_is_a_feature_with_few_trials(
    studies: dict[str, Path], tmp_path: Path
) -> None:
    run = copied(studies, LLAMA, tmp_path)
    for path in run.study_root.glob("response_logs/*.json"):
        trials = json.loads(path.read_text())
        write_json(path, [one for one in trials if one["condition"] != "risky_baseline"])
    report = audited(run)[1]
    assert codes(report) == {"low_trials": 36}
    (warning,) = report["audit_results"]["warnings"]
    assert len(warning["examples"]) == run.settings.study.console_warnings == 10  # the count is whole all the same


def test_ids_that_all_lie_below_the_streams_width_are_suspicious(tmp_path: Path) -> None:
    run = run_in(tmp_path, LLAMA)
    study_in(tmp_path, LLAMA)
    narrow = dataclasses.replace(run, profile=dataclasses.replace(run.profile, d_model=30_000))
    assert codes(audited(run)[1]) == {}
    report = audited(narrow)[1]
    share = report["checks"]["ids_below_d_model_share"]
    assert share == report["checks"]["ids_below_d_model"] / 36
    assert ("ids_below_d_model" in codes(report)) == (share > 0.9)
    wide = dataclasses.replace(run, profile=dataclasses.replace(run.profile, d_model=32_767))
    assert codes(audited(wide)[1]) == {"ids_below_d_model": 1}


def checkpoint(of: Run, name: str, timestamp: str, results: list[dict[str, Any]], **header: Any) -> None:
    content = {"timestamp": timestamp, **header, "results": results}
    write_json(of.study_root / "analysis" / f"comprehensive_patching_checkpoint_{name}.json", content)


def one_result(feature_id: int, cohen_d: float, causal: bool = True) -> dict[str, Any]:
    feature = {"feature": f"L2-{feature_id}", "layer": 2, "feature_id": feature_id}
    return {**feature, "cohen_d": cohen_d, "is_causal": causal}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_the_newest_complete_record_of_a_run_counts(tmp_path: Path, names: tuple[str, str]) -> None:
    run = run_in(tmp_path, LLAMA)
    incomplete = {**one_result(7, 3.0), "is_causal": None}
    checkpoint(run, names[0], "2025-10-21T09:00:00", [one_result(5, 1.0), one_result(7, 1.0)], run="r")
    checkpoint(run, names[1], "20251021_100000", [one_result(5, 2.0), incomplete], run="r")
    report = audited(run)[1]
    rows = {row["feature_id"]: row["cohen_d"] for row in read_parquet(run.paths.features).to_pylist()}
    assert rows == {5: 2.0, 7: 1.0}
    assert codes(report)["conflicting_records"] == 1 and codes(report)["wrong_type"] == 1
    (conflict,) = report["checks"]["checkpoint_conflicts_listed"]
    assert (conflict["feature"], conflict["run"], len(conflict["files"])) == ("L2-5", "r", 2)


def test_of_several_runs_the_newest_counts_and_their_disagreement_is_told(tmp_path: Path) -> None:
    run = run_in(tmp_path, LLAMA)
    checkpoint(run, "one", "2025-10-21T11:00:00", [one_result(5, 1.0, causal=False)], process_id=1)
    checkpoint(run, "two", "2025-10-21T10:00:00", [one_result(5, 2.0)], process_id=2)
    report = audited(run)[1]
    (row,) = read_parquet(run.paths.features).to_pylist()
    assert (row["cohen_d"], row["is_causal"]) == (1.0, False)
    assert codes(report)["runs_disagree"] == 1 and report["checks"]["runs"] == ["process_id 1", "process_id 2"]


def test_a_trial_logged_again_unchanged_is_dropped_without_a_word(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, OURS, tmp_path, "study.expected_response_logs=null")
    log = min(run.study_root.glob("response_logs/*.json"))
    again = log.with_name(log.name.replace("_08", "_23"))  # the same run, later
    write_json(again, json.loads(log.read_text())[:100])
    report = audited(run)[1]
    assert codes(report) == {} and report["total_trials"] == SMALL.total_trials
    assert report["checks"]["trial_records_repeated"] == 100


def test_a_copied_log_adds_no_trials(studies: dict[str, Path], tmp_path: Path) -> None:
    report = audited(damaged(studies, LLAMA, tmp_path, "duplicate_log"))[1]
    assert report["total_trials"] == SMALL.total_trials
    assert report["checks"]["trial_records"] > SMALL.total_trials


def test_a_lone_surrogate_in_a_response_does_not_end_the_audit(studies: dict[str, Path], tmp_path: Path) -> None:
    run = copied(studies, LLAMA, tmp_path)
    log = min(run.study_root.glob("response_logs/*.json"))
    content = json.loads(log.read_text())
    content[0]["response"] = "a\ud800b"
    log.write_text(json.dumps(content))
    report = audited(run)[1]
    assert codes(report) == {} and report["total_trials"] == SMALL.total_trials
    rows = read_parquet(run.paths.trials).to_pylist()
    assert any(row["response"] == "a?b" for row in rows)
