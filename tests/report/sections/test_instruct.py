from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.metadata import Extent
from report.blocks import Figure, Missing
from report.run import Run
from report.sections.instruct import section
from tests.report.helpers import publish
from tests.report.sections.looking import every_block, plain, table, texts
from tests.report.sections.saying import changes, facts, rows, said, sound
from tests.report.sections.steering_artifacts import (
    SVG,
    analysis,
    arms,
    comparison,
    example,
    instruct_record,
    pass_rate,
    steering_files,
)

pytestmark = pytest.mark.unit

WHOLE = Extent(8, 8)

FEW, MANY = ["wwwwkkkb"] * 9, ["wwwwkkkb"] * 39
OWN, BASE = pass_rate(4, 8), pass_rate(2, 8)


def base_run(tmp_path: Path, record: dict[str, Any] | None = None, extent: Extent = WHOLE) -> Config:
    config = Config(data_dir=str(tmp_path), phase7_3_model_name="tiny-instruct")
    publish(config, "7.3", {}, extent, record or instruct_record(OWN, BASE))
    return config


def steered_run(
    tmp_path: Path, controls: list[str], compared: dict[str, Any] | None = None, up: str = "ffwwkkkb", **shown: Any
) -> Run:
    config = base_run(tmp_path)
    base, own = analysis(arms(controls=controls)), analysis(arms(up=up, controls=controls), "instruct")
    files = {"cross_model_comparison.json": compared or comparison(base, own), "both_models.svg": SVG.encode()}
    publish(config, "7.6", {**steering_files(own, shown), **files}, Extent(8, 8))
    return Run(config)


# Wilson by hand, z² = 3.8415: of 4 of 8 centre 0.5, half-width 0.2846; of 2 of 8 centre 0.3311, half-width 0.2599.
def test_the_lead_says_both_pass_rates_with_counts_and_intervals(tmp_path: Path) -> None:
    lead = plain(sound(section(steered_run(tmp_path, MANY))).lead)
    assert lead.startswith(
        "The instruction-tuned model solves 50.0 % (4 of 8; 95 % interval 21.5 % to 78.5 %), the base model 25.0 % "
        "(2 of 8; 95 % interval 7.1 % to 59.1 %)."
    )


def test_the_lead_says_what_transferred(tmp_path: Path) -> None:
    lead = plain(sound(section(steered_run(tmp_path, MANY))).lead)
    assert lead.endswith(
        "Of the base model's features, both predictors transferred; both steering directions transferred."
    )


def test_a_verdict_that_rests_on_few_controls_says_so(tmp_path: Path) -> None:
    lead = plain(sound(section(steered_run(tmp_path, FEW))).lead)
    assert lead.endswith(
        "both steering directions transferred (by a rank that so few controls can bring to p = 0.100 at best)."
    )


# Without gain (−1) the correct direction does not transfer; without enough controls nothing can be told.
def test_what_did_not_transfer_and_what_cannot_be_told_are_named(tmp_path: Path) -> None:
    lead = plain(sound(section(steered_run(tmp_path / "some", MANY, up="fwwwbbkk"))).lead)
    assert "the correct of the steering directions did not transfer, the incorrect of the steering directions" in lead
    lead = plain(sound(section(steered_run(tmp_path / "few", ["wwwwkkkb"]))).lead)
    assert "both steering directions cannot be told to transfer or not." in lead


def test_a_part_of_the_split_has_no_verdict(tmp_path: Path) -> None:
    one = analysis(arms(controls=MANY))
    lead = plain(sound(section(steered_run(tmp_path, MANY, comparison(one, one, whole=False)))).lead)
    assert lead.endswith("Part of the split was run, so no steering direction has a verdict.")


def test_both_models_stand_side_by_side_with_differences(tmp_path: Path) -> None:
    made = sound(section(steered_run(tmp_path, MANY, up="fffwkkkk")))
    shown = {(row["direction"], row["share"]): row for row in rows(table(made, "Steering both models"))}
    fixed = shown["correct", "fixed, of failing"]
    assert (
        fixed["base"].startswith("50.0 %")
        and fixed["base"].endswith("(2/4)")
        and fixed["instruction-tuned"].endswith("(3/4)")
    )
    # Newcombe by hand from Wilson's ends: 0.25 − √((0.75 − 0.3006)² + (0.85 − 0.5)²), 0.25 + √(0.2044² + 0.35²).
    assert fixed["instruct − base"] == "+25.0 points [−32.0, +65.5]"
    ranks = {
        (row["direction: outcome"], row["model"]): row for row in rows(table(made, "Both models' primary outcome"))
    }
    assert ranks["correct: fixes − breaks", "instruct"]["net"] == "+3"
    assert ranks["correct: fixes − breaks", "base"]["rank p"] == "0.025"


def test_detection_stands_beside_rivals_and_the_trivial_f1(tmp_path: Path) -> None:
    made = sound(section(steered_run(tmp_path, MANY)))
    shown = rows(table(made, "Detection on either model"))
    assert [row["model"] for row in shown] == ["base", "instruct", "base", "instruct"]
    expected = {"AUROC": "0.850 [0.700, 0.900]", "random": "0.600", "regression": "0.850", "F1": "0.800"}
    assert expected.items() <= shown[1].items() and shown[1]["F1, all so"] == "0.667"
    assert shown[1]["AUROC, instruct − base"] == "−0.050 [−0.100, +0.020]" and shown[0]["AUROC, instruct − base"] == "–"


def test_missing_figures_of_detection_have_reasons(tmp_path: Path) -> None:
    one = analysis(arms(controls=MANY))
    content = comparison(one, one)
    gone = {"value": None, "low": None, "high": None, "n": 8, "reason": "every solution passed"}
    content["detection"]["correct"]["instruct"] |= {"auroc": gone, "classification": None, "reason": "one class only"}
    content["detection"]["correct"]["auroc_difference"] = {"of": "instruct minus base", **gone}
    row = rows(table(sound(section(steered_run(tmp_path, MANY, content))), "Detection on either model"))[1]
    assert row["AUROC"] == row["AUROC, instruct − base"] == "not defined (every solution passed)"
    assert row["F1"] == "not defined (one class only)"


def test_statements_and_rules_are_those_of_the_comparison(tmp_path: Path) -> None:
    made = sound(section(steered_run(tmp_path, MANY)))
    given = dict(facts(made))
    assert given["Detection, correct-preferring"] == "transferred: AUROC 0.850"
    assert given["Steering, incorrect-preferring"].startswith(
        "steering along the incorrect-preferring direction transferred: 1 of 4"
    )
    assert any(text.startswith("Rules. Detection: a predictor transfers if") for text in texts(made, "note"))


def test_steering_in_full_is_folded_away_with_its_solutions(tmp_path: Path) -> None:
    made = sound(section(steered_run(tmp_path, MANY, correct_fixed=[example(3, False, True)])))
    assert table(made, "What steering did to 8 problems") not in made.blocks
    (block,) = changes(made)
    assert [one.problem for one in block.items] == [3] and "phase7_6/steering_results.parquet" in block.caption
    assert sum(isinstance(one, Figure) for one in every_block(made.blocks)) == 4


def test_the_fit_of_the_saes_stands_beside_the_base_models(tmp_path: Path) -> None:
    config = base_run(tmp_path)
    layer = {"layer": 0, "fraction_unexplained": 0.125, "mean_l0": 10.0, "dead_share": 0.25}
    publish(config, "1.0", {"sae_fit.json": {"layers": [layer]}})
    (row,) = rows(table(sound(section(Run(config))), "Fit of the base model's SAEs on 4 prompts"))
    assert (row["unexplained, instruct"], row["unexplained, base"]) == ("0.250", "0.125")
    assert (row["L0, base"], row["dead, instruct"], row["dead, base"]) == ("10.0", "50.0 %", "25.0 %")


def test_a_fit_without_the_base_models_says_why(tmp_path: Path) -> None:
    (row,) = rows(table(sound(section(Run(base_run(tmp_path)))), "Fit of the base model's SAEs"))
    assert row["unexplained, base"] == "not defined (phase 1.0 has no figure of this layer)"


def test_a_fit_that_was_not_measured_says_so(tmp_path: Path) -> None:
    record = instruct_record(OWN, BASE)
    record["sae_fit"] = {"n_problems": 0, "layers": None, "reason": "none of the first positions has been run"}
    words = texts(sound(section(Run(base_run(tmp_path, record)))), "note")
    assert "How well the SAEs fit this model was not measured: none of the first positions has been run." in words


# --- what is not there


def test_without_an_instruction_tuned_model_there_is_no_section(tmp_path: Path) -> None:
    assert section(Run(Config(data_dir=str(tmp_path)))) is None


def test_a_missing_phase_7_3_is_named_with_its_command(tmp_path: Path) -> None:
    found = section(Run(Config(data_dir=str(tmp_path), phase7_3_model_name="tiny-instruct")))
    assert isinstance(found, Missing) and "run.py phase 7.3" in found.command


def test_without_phase_7_6_the_pass_rates_are_shown_and_the_command_is_given(tmp_path: Path) -> None:
    made = sound(section(Run(base_run(tmp_path))))
    assert made.lead.endswith("Phase 7.6 (instruction-tuned steering) has not been run.")
    assert any("run.py phase 7.6" in text for text in texts(made, "note"))
    assert [row["n"] for row in rows(table(made, "Pass rates"))] == ["8", "8"]


def test_an_unknown_base_pass_rate_has_its_reason(tmp_path: Path) -> None:
    record = instruct_record(OWN, pass_rate(0, 0, "phase 3.5 has not been run"))
    made = sound(section(Run(base_run(tmp_path, record))))
    assert "the base model a share that is not known (phase 3.5 has not been run)" in plain(made.lead)
    shown = rows(table(made, "Pass rates"))
    assert shown[1]["solved"] == "not defined (phase 3.5 has not been run)" and shown[1]["name"] == "not run"


def test_a_part_of_either_phase_is_said_to_be_one(tmp_path: Path) -> None:
    made = sound(section(Run(base_run(tmp_path, extent=Extent(8, 5)))))
    assert texts(made, "warning") == [
        "Partial: phase 7.3 covers 5 of 8 problems. Every figure below is about that part."
    ]


def test_a_phase_7_6_that_steered_nothing_gives_the_reason(tmp_path: Path) -> None:
    config = base_run(tmp_path)
    publish(config, "7.6", {}, Extent(8, 1), {"steering": None, "steering_reason": "no baseline is labelled"})
    made = sound(section(Run(config)))
    assert made.lead.endswith("Nothing was steered: no baseline is labelled.") and "Pass rates" in said(made)
