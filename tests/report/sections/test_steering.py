from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.errors import PipelineError
from common.runs.metadata import Extent
from common.steering_effects import selective_effects
from report.blocks import Figure, Missing
from report.run import Run
from report.sections.steering import section
from tests.report.helpers import publish
from tests.report.sections.looking import every_block, plain, table, texts
from tests.report.sections.saying import changes, facts, rows, said, sound
from tests.report.sections.steering_artifacts import analysis, arms, example, steering_files

pytestmark = pytest.mark.unit

WHOLE = Extent(8, 8)

WORSE, AS_GOOD = "wwwwkkkb", "ffwwkkkk"
MANY = [WORSE] * 39


def published(tmp_path: Path, content: dict[str, Any], extent: Extent = WHOLE, **examples: Any) -> Run:
    config = Config(data_dir=str(tmp_path))
    publish(config, "4.8", steering_files(content, examples), extent)
    return Run(config)


# Wilson's intervals by hand, z² = 3.8415: of 2 of 4, centre (0.5 + 0.4802) / 1.9604 = 0.5 and half-width
# 0.9998 · √(0.0625 + 0.0600) = 0.3500; of 1 of 4, centre 0.3725 and half-width 0.3269; of 4 of 4, low 4 / 7.8415.
# McNemar: 2 fixes, 1 break, 2 · (1 + 3) / 2³ = 1; 1 fix, 4 breaks, 2 · (1 + 5) / 2⁵ = 0.375.
FIXED = "fixed 50.0 % (2 of 4; 95 % interval 15.0 % to 85.0 %) of the failing solutions"
BROKE = "broke 25.0 % (1 of 4; 95 % interval 4.6 % to 69.9 %) of the passing solutions"
ALL_BROKE = "broke 100.0 % (4 of 4; 95 % interval 51.0 % to 100.0 %) of the passing solutions, 3 of which still parse"


def test_the_lead_says_what_both_directions_did_with_counts_intervals_and_tests(tmp_path: Path) -> None:
    lead = plain(sound(section(published(tmp_path, analysis(arms())))).lead)
    correct = f"Steering along the correct-preferring feature {FIXED} and {BROKE} (net +1 of 8, McNemar p = 1.000)"
    incorrect = f"steering along the incorrect-preferring feature {ALL_BROKE} (McNemar p = 0.375)"
    none = "Of both directions: no controls were run, so another direction may do the same."
    assert lead == f"{correct}; {incorrect}. {none}"


# 39 controls that break one problem each: of the correct direction none reaches +1, of the incorrect one none 3 breaks.
def test_controls_that_do_worse_are_said_to_with_the_rank(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(controls=MANY)))))
    lead = plain(made.lead)
    assert "Correct: no control does as well (rank p = 0.025 among 39 matched random features)" in lead
    assert lead.endswith("incorrect: no control does as well (rank p = 0.025 among 39 random directions).")
    assert "no p below 0.025 can be reached" in said(made)


def test_with_few_controls_the_lead_says_that_they_are_too_few(tmp_path: Path) -> None:
    lead = plain(sound(section(published(tmp_path, analysis(arms(controls=[WORSE] * 9))))).lead)
    few = "no control does as well, but rank p = 0.100 is the smallest possible among 9 matched random features"
    assert f"Correct: {few}: too few to tell" in lead


# One control of 39 also nets +2 ≥ +1: p = (1 + 1) / 40.
def test_a_control_that_does_as_well_is_counted(tmp_path: Path) -> None:
    lead = plain(sound(section(published(tmp_path, analysis(arms(controls=[AS_GOOD, *MANY[1:]]))))).lead)
    assert "Correct: 1 of 39 matched random features do as well (rank p = 0.050)" in lead
    assert "not told apart" not in lead


def test_a_direction_among_its_controls_is_not_told_apart_from_them(tmp_path: Path) -> None:
    lead = plain(sound(section(published(tmp_path, analysis(arms(controls=[AS_GOOD, AS_GOOD, WORSE]))))).lead)
    found = "2 of 3 matched random features do as well (rank p = 0.750): it is not told apart from its controls"
    assert f"Correct: {found}" in lead


def test_a_direction_without_gain_is_said_not_to_do_what_it_is_meant_to(tmp_path: Path) -> None:
    lead = plain(sound(section(published(tmp_path, analysis(arms(up="fwwwbbkk", controls=[WORSE]))))).lead)
    assert "Correct: its fixes minus breaks is −1: it does not do what it is meant to" in lead
    assert "net −1 of 8" in lead


def test_controls_on_fewer_problems_are_said_to_be(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(controls=["ww...kk.", "ww...kk."])))))
    assert "no control does as well on the 4 problems of the controls" in plain(made.lead)
    assert {row["n"] for row in rows(table(made, "Each direction beside"))} == {"4"}


def test_both_directions_stand_beside_coefficient_0(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(zero="wwwfkkkb")))))
    shown = {row["of the solutions"]: row for row in rows(table(made, "What steering did to 8 problems"))}
    assert [row["coefficient 0"] for name, row in shown.items() if name in ("n", "McNemar p")] == ["8", "1.000"]
    assert shown["net change in solved problems"]["correct: 9"] == "+1"
    assert shown["broken, and still parse"]["incorrect: 5"] == "3"
    assert shown["parse, of all"]["incorrect: 5"].endswith("(7/8)")
    assert shown["keep its signature, of all"]["coefficient 0"] == "not recorded"
    # Both flips of 8: Wilson's centre 0.3311, half-width 0.2599.
    assert (
        "Noise floor",
        "coefficient 0 through the same code flips 25.0 % (2 of 8; 95 % interval 7.1 % to 59.1 %)",
    ) in (facts(made))


def test_without_a_zero_arm_there_is_no_column_of_it(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(zero=None)))))
    assert [one.title for one in table(made, "What steering did").columns] == [
        *("of the solutions", "correct: 9", "incorrect: 5")
    ]
    assert ("Noise floor", "no arm of coefficient 0 was run") in facts(made)


def test_each_kind_of_control_has_its_rank_and_the_reported_one_is_marked(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(controls=[AS_GOOD, WORSE])))))
    shown = rows(table(made, "Each direction beside"))
    features = next(row for row in shown if row["beside"] == "matched random features")
    expected = {"reaches": "1", "controls": "2", "their median": "0.5", "least to most": "−1 to 2", "as good": "1"}
    assert expected.items() <= features.items()
    assert features["rank p"] == "0.667*" and features["smallest p"] == "0.333"
    absent = next(
        row for row in shown if row["direction: outcome"].startswith("incorrect") and "features" in row["beside"]
    )
    assert absent["controls"] == "0" and absent["rank p"] == "not defined (no controls)"


def test_every_control_is_listed_with_its_own_figures(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(controls=[AS_GOOD, WORSE])))))
    listed = table(made, "6 controls, each on n = 8 problems")
    assert listed.searchable
    shown = rows(listed)
    assert shown[0]["control"] == "random feature 1" and shown[0]["feature"] == "2:40" and shown[0]["fires"] == "25.0 %"
    assert shown[0]["outcome"] == "2" and shown[0]["fixed, of failing"] == "50 % [15, 85] 2/4"
    assert shown[2]["control"] == "random direction 1" and shown[2]["feature"] == "–"


def test_selective_steering_stands_beside_steering_everywhere(tmp_path: Path) -> None:
    made_arms = arms(controls=[WORSE])
    content = analysis(made_arms)
    where = {"steered_where": "the incorrect-preferring predictor reaches its threshold", "threshold": 3.0}
    # Only problems 100 (fixed) and 107 (broken) are steered.
    found = selective_effects(made_arms, made_arms[1], "correct", [100, 107])
    content["directions"]["correct"]["selective"] = {**where, "reason": None, **found}
    content["directions"]["incorrect"]["selective"] = {**where, "reason": "no score reaches it"}
    made = sound(section(published(tmp_path, content)))
    (row,) = rows(table(made, "Steering only some problems"))
    assert (row["steered"], row["net"], row["net everywhere"], row["McNemar p"]) == ("2 of 8", "+0", "+1", "1.000")
    assert row["fixed, of failing"] == "25 % [5, 70] 1/4"
    assert any("incorrect: not done (no score reaches it)" in text for text in texts(made, "note"))


def test_without_selective_steering_the_reason_is_given(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms()))))
    assert "Steering only some" not in said(made)
    assert any("phase 3.8 had not been run" in text for text in texts(made, "note"))


def test_difficulty_and_failure_modes_are_counted(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms()))))
    groups = [row for row in rows(table(made, "By difficulty")) if row["direction"] == "correct"]
    assert [(row["complexity"], row["n"]) for row in groups] == [("1", "2"), ("2–3", "4"), ("4+", "2")]
    ends = rows(table(made, "How the steered solutions end"))
    assert ends[0]["baseline"] == "failing before" and ends[0]["passed"] == "2" and ends[0]["wrong answer"] == "2"
    assert ends[3]["syntax broken"] == "1"
    assert "exception" not in ends[0]


def test_solutions_stand_side_by_side_fixes_and_breaks_first(tmp_path: Path) -> None:
    run = published(
        tmp_path,
        analysis(arms()),
        correct_preserved=[example(5, True, True)],
        correct_fixed=[example(3, False, True)],
        incorrect_unfixed=[example(4, False, False, outcome="syntax_error", generated_code=None)],
        incorrect_broken=[example(9, True, None), example(8, True, False, left_out="generation failed")],
    )
    (block,) = changes(sound(section(run)))
    assert [(one.problem, one.flip) for one in block.items] == [
        *((3, "fixed"), (5, "stayed correct"), (4, "stayed incorrect"))
    ]
    assert "The first 3 of 16 solutions" in block.caption and "phase4_8/steering_results.parquet" in block.caption
    assert block.items[0].condition == "correct direction × 9"
    assert (block.items[2].outcome, block.items[2].steered) == ("syntax error", "(no code)")


def test_without_examples_that_is_said(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms()))))
    assert changes(made) == []
    assert any("No examples were written" in text for text in texts(made, "note"))


def test_model_output_stays_plain_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    shown = example(3, False, True, text=hostile, generated_code=hostile, error_message=hostile)
    made = sound(section(published(tmp_path, analysis(arms()), correct_fixed=[shown])))
    (item,) = changes(made)[0].items
    assert item.asked == item.steered == hostile
    assert "<script" not in said(made)
    assert all("<script" not in one.svg for one in every_block(made.blocks) if isinstance(one, Figure))


def test_what_was_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    content = analysis(arms(up="ffwwkkkx"), not_steered={"the baseline's generation failed": 3})
    left_out = dict(facts(sound(section(published(tmp_path, content)))))["Left out of every rate"]
    assert left_out == "3 (the baseline's generation failed); correct: 1 (generation failed)"


def test_a_direction_without_problems_says_so(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(up="xxxxxxxx")))))
    assert "steering along the correct-preferring feature has no problem that enters a rate" in made.lead.lower()
    shown = {row["of the solutions"]: row["correct: 9"] for row in rows(table(made, "What steering did"))}
    assert shown["fixed, of failing"] == "not defined (no initially failing problems)"
    assert shown["McNemar p"] == "not defined (no problem)"


# --- what is not there


def test_a_missing_phase_is_named_with_its_command(tmp_path: Path) -> None:
    found = section(Run(Config(data_dir=str(tmp_path))))
    assert isinstance(found, Missing)
    assert found.id == "steering" and "Phase 4.8" in found.why and "run.py phase 4.8" in found.command


def test_a_part_of_the_split_is_said_to_be_one(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, analysis(arms(), complete=False), Extent(8, 5))))
    assert texts(made, "warning") == [
        "Partial: phase 4.8 covers 5 of 8 problems. Every figure below is about that part."
    ]


def test_a_phase_that_steered_nothing_gives_the_reason(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    reason = "no problem of the positions done has a labelled baseline"
    publish(config, "4.8", {}, Extent(8, 1), {"steering": None, "steering_reason": reason})
    made = sound(section(Run(config)))
    assert made.lead == f"Nothing was steered: {reason}."


def test_a_plot_that_was_not_published_leaves_a_note(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "4.8", {"steering_effect_analysis.json": analysis(arms())})
    made = sound(section(Run(config)))
    assert not any(isinstance(one, Figure) for one in every_block(made.blocks))
    assert any("published no plot steering_effects" in text for text in texts(made, "note"))


def test_a_damaged_analysis_is_refused_by_name(tmp_path: Path) -> None:
    run = published(tmp_path, analysis(arms()))
    path = tmp_path / "phase4_8" / "steering_effect_analysis.json"
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(PipelineError, match=r"steering_effect_analysis\.json is damaged"):
        section(run)
