from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from experiment_pathway_token_analysis.src.step0_data_audit import run_step
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_candidates import Candidate
from experiment_pathway_token_analysis.src.study_files import StudyWriter
from experiment_pathway_token_analysis.src.study_problems import choose
from tests.experiment_pathway_token_analysis.runs import run_in
from tests.experiment_pathway_token_analysis.test_study_problems import solved

pytestmark = pytest.mark.unit
PROBLEMS = 20
# Of each class's problems: how many only the correct patch solves, how many only the incorrect one.
OUTCOMES = {
    "strong": ((9, 0), (6, 1)),
    "weak": ((1, 1), (0, 0)),
    "harmful": ((0, 8), (0, 3)),
    "small": ((2, 0), (1, 0)),
}


def rows_of(run: Run, kind: str, *, lost: int = 0) -> list[dict[str, Any]]:
    """Returns patched rows of one feature with the stated outcomes; of the first `lost` problems no solution came."""
    rows = []
    for name, (gains, losses) in zip(("correct", "incorrect"), OUTCOMES[kind], strict=True):
        for what in ("own", "opposite"):
            towards_correct = (what == "own") == (name == "correct")
            for trial in range(PROBLEMS):
                passed = trial < gains if towards_correct else gains <= trial < gains + losses
                item = chosen_of(run).problems[name][trial]
                rows.append(
                    {
                        "condition": run.settings.study.condition(name, what),
                        "trial": trial,
                        "task_id": item.problem.task_id,
                        "response": f"{kind} {name} {what} {trial}",
                        "test_passed": None if trial < lost else passed,
                    }
                )
    return rows


def chosen_of(run: Run) -> Any:
    return choose(run, solved(120))


def run_of(tmp_path: Path) -> Run:
    return run_in(tmp_path, f"producer.problems_per_class={PROBLEMS}", "producer.prompts_per_class=4")


def candidates(n: int) -> list[Candidate]:
    means = {"correct": 3.0, "incorrect": 1.0}
    return [Candidate(1 + i % 3, 10 + 4 * i, "correct", 2.0 - i / 100, means, {}) for i in range(n)]


def written(run: Run, kinds: list[str], **more: int) -> list[dict[str, Any]]:
    """Writes a study of features with the stated outcomes and returns its results."""
    writer = StudyWriter(run, candidates(len(kinds)), chosen_of(run))
    return writer.write(rows_of(run, kind, **more) for kind in kinds)[1]


def test_p_and_rate_difference_are_mcnemars_over_both_classes(tmp_path: Path) -> None:
    strong, weak, harmful, small = written(run_of(tmp_path), list(OUTCOMES))
    assert strong["rate_difference"] == (15 - 1) / 40 and harmful["rate_difference"] == -11 / 40
    for result, discordant in ((strong, (15, 1)), (harmful, (0, 11)), (small, (3, 0))):
        expected = binomtest(min(discordant), sum(discordant), 0.5).pvalue
        assert result["p"] == pytest.approx(expected, rel=1e-12) and result["n_pairs"] == 40
    assert weak["p"] == 1.0 and weak["rate_difference"] == 0.0
    assert (strong["effect_correct"], strong["effect_incorrect"]) == (9 / 20, 5 / 20)
    # In order of p: strong, harmful, small, weak.
    expected = [strong["p"] * 4, harmful["p"] * 4 / 2, small["p"] * 4 / 3, 1.0]
    for result, place in ((strong, 0), (harmful, 1), (small, 2), (weak, 3)):
        assert result["q"] == pytest.approx(min(expected[place:]), rel=1e-12)
    assert [result["is_causal"] for result in (strong, weak, harmful, small)] == [True, False, True, False]


def test_a_significant_but_small_difference_is_not_causal(tmp_path: Path) -> None:
    run = run_in(tmp_path, f"producer.problems_per_class={PROBLEMS}", "producer.min_rate_difference=0.3")
    strong, harmful = written(run, ["strong", "harmful"])
    assert harmful["q"] < 0.05 and (strong["is_causal"], harmful["is_causal"]) == (True, False)


def test_what_could_not_be_generated_has_no_trial_and_no_pair(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    (result,) = written(run, ["strong"], lost=2)
    assert (result["n_pairs"], result["n_excluded"]) == (36, 8)
    trials = json.loads((run.study_root / "response_logs" / "responses_000.json").read_text())
    assert len(trials) == 6 * PROBLEMS - 8


def test_checkpoints_are_cumulative_every_fifty_and_logs_hold_fifty_features_each(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    results = written(run, ["strong", "weak"] * 60)
    names = sorted(path.name for path in (run.study_root / "analysis").iterdir())
    parts = ("000050", "000100", "final")
    assert names == [f"comprehensive_patching_checkpoint_{part}.json" for part in parts]
    for name, n in zip(names, (50, 100, 120), strict=True):
        checkpoint = json.loads((run.study_root / "analysis" / name).read_text())
        assert checkpoint["results"] == results[:n] and checkpoint["features_tested"] == n
    logs = [json.loads(path.read_text()) for path in sorted((run.study_root / "response_logs").iterdir())]
    assert [len({trial["feature"] for trial in log}) for log in logs] == [50, 50, 20]
    first = [trial for trial in logs[0] if trial["feature"] == results[0]["feature"]]
    counts = {name: sum(trial["condition"] == name for trial in first) for name in run.settings.study.conditions}
    assert set(counts.values()) == {PROBLEMS}
    assert set(first[0]) == {"feature", "condition", "trial", "task_id", "response", "test_passed"}


def test_the_stored_solutions_are_the_baselines(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    written(run, ["weak"])
    trials = json.loads((run.study_root / "response_logs" / "responses_000.json").read_text())
    for name, passed in (("correct", True), ("incorrect", False)):
        own = [trial for trial in trials if trial["condition"] == f"{name}_baseline"]
        items = chosen_of(run).problems[name]
        assert [trial["response"] for trial in own] == [item.text for item in items]
        assert {trial["test_passed"] for trial in own} == {passed}


def test_the_audit_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    written(run, ["strong", "weak", "harmful"] * 20)
    result = run_step(run)
    report = json.loads(run.paths.audit.read_text())
    assert result.passed and report["audit_results"]["errors"] == [] and report["audit_results"]["warnings"] == []
    assert report["total_trials"] == 60 * 6 * PROBLEMS and report["total_causal_features"] == 40
    assert report["join_rate_percent"] == 100.0


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    def tree(root: Path) -> dict[str, bytes]:
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.json")}

    trees = []
    for name in ("one", "two"):
        written(run_of(tmp_path / name), ["strong", "weak"])
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1] and len(trees[0]) == 3
