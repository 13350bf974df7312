from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.metadata import Extent
from report.blocks import Details, Link, Missing
from report.run import Run
from report.sections import SECTIONS
from report.sections.summary import NOTHING_YET, section
from tests.report.helpers import publish
from tests.report.sections.looking import column, every_block, plain, table, texts
from tests.report.sections.pathway_artifacts import write_pathway
from tests.report.sections.saying import rows, sound
from tests.report.sections.steering_artifacts import analysis, arms, estimate

pytestmark = pytest.mark.unit

COMPLEXITY = {"cyclomatic_complexity": {"minimum": 1, "maximum": 5, "mean": 2.0, "n": 20}}
AT = {"f1": 0.8, "f1_all_positive": 0.667, "balanced_accuracy": 0.75}


def detector(positive: str, auroc: dict[str, Any], random: float | None = 0.6) -> dict[str, Any]:
    lead = None if random is None else estimate(0.3, 0.2, 0.4)
    rivals = {
        "random directions": {"auroc": {"median": random}, "target_minus_median": lead},
        "logistic regression": {"auroc": {"median": 0.85}},
    }
    validation = {"n": 1234, "auroc": auroc, "classification": AT}
    return {"feature": {"layer": 3, "index": 7}, "positive": positive, "validation": validation, "rivals": rivals}


def detected(config: Config, *reports: dict[str, Any]) -> None:
    directions = dict(zip(("correct", "incorrect"), reports, strict=False))
    publish(config, "3.8", {"evaluation_results.json": {"directions": directions}})


def steered(config: Config, **how: Any) -> None:
    publish(config, "4.8", {"steering_effect_analysis.json": analysis(arms(**how))})


def test_an_empty_run_is_named_with_the_first_command(tmp_path: Path) -> None:
    found = section(Run(Config(data_dir=str(tmp_path))))
    assert isinstance(found, Missing) and "run.py phase 0" in found.command


def test_a_run_without_features_says_that_nothing_is_known_of_them(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {}, details=COMPLEXITY)
    made = sound(section(Run(config)))
    assert made.lead == NOTHING_YET


def test_the_lead_says_the_better_predictor_beside_random_directions(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    detected(config, detector("passed", estimate(0.8, 0.7, 0.9)), detector("failed", estimate(0.85, 0.75, 0.92)))
    assert plain(sound(section(Run(config))).lead) == (
        "Before a line is written, one SAE feature tells whether the solution will fail with AUROC 0.850 (95 % "
        "interval 0.750 to 0.920), n = 1,234, where a logistic regression on the residual has 0.850 "
        "and a random direction 0.600 in the median."
    )


def test_detection_that_could_not_be_measured_is_said_not_to_be(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    detected(config, detector("passed", estimate(None), None), detector("failed", estimate(None), None))
    assert sound(section(Run(config))).lead == "How well the predictor features detect could not be measured."


# 2 fixes and 1 break, 4 breaks of which 3 parse; with 9 controls of a kind p is at least 0.1, with 39 at least 0.025.
@pytest.mark.parametrize(
    ("n", "rank"),
    [
        (9, "rank p = 0.100 among 9 matched random features, the smallest possible"),
        (39, "rank p = 0.025 among 39 matched random features"),
        (0, "no controls were run"),
    ],
)
def test_the_lead_says_what_steering_did_with_its_rank(tmp_path: Path, n: int, rank: str) -> None:
    config = Config(data_dir=str(tmp_path))
    steered(config, controls=["wwwwkkkb"] * n)
    lead = plain(sound(section(Run(config))).lead)
    assert lead.startswith(
        f"Steering along the correct-preferring feature fixes 2 and breaks 1 of 8 solutions (net +1, McNemar p 1.000; "
        f"{rank}); along the incorrect-preferring one it breaks 4 of 8, 3 of which still parse ("
    )


def test_a_coefficient_that_a_person_chose_is_said_to_be_so(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    made = analysis(arms(controls=["wwwwkkkb"] * 9))
    made["directions"]["incorrect"]["coefficient_chosen"] = "by hand"
    publish(config, "4.8", {"steering_effect_analysis.json": made})
    lead = plain(sound(section(Run(config))).lead)
    assert "the incorrect-preferring one, at a coefficient set by hand, it breaks" in lead
    assert "correct-preferring feature fixes" in lead


def test_findings_stand_beside_controls_and_trivial_baselines(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {}, details=COMPLEXITY)
    detected(config, detector("passed", estimate(0.8, 0.7, 0.9)))
    steered(config, controls=["wwwwkkkb"] * 9)
    write_pathway(tmp_path)
    made = sound(section(Run(config)))
    shown = {row["what"]: row for row in rows(table(made, "The findings, 4 rows."))}
    assert list(shown) == ["detector of passed", "steering base: correct", "steering base: incorrect", "pathway edges"]
    assert shown["detector of passed"]["beside it"].splitlines() == [
        "random directions 0.600 in the median, logistic regression 0.850",
        "ahead of random by +0.300 [+0.200, +0.400]",
        "trivially: calling everything passed has F1 0.667",
    ]
    assert shown["steering base: correct"]["beside it"].splitlines()[-1] == "trivially: coefficient 0 flips 0 of 8"
    assert shown["pathway edges"]["of how many"] == "8 replayed"
    (folded,) = [block for block in made.blocks if isinstance(block, Details)]
    assert folded.summary == "1 more rows of the closing table"
    assert [row["what"] for row in rows(table(made, "More figures"))] == ["difficulty"]


def test_every_finding_leads_to_a_section_of_the_page(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {}, details=COMPLEXITY)
    detected(config, detector("passed", estimate(0.8, 0.7, 0.9)))
    steered(config)
    made = sound(section(Run(config)))
    links = [cell for one in ("The findings", "More figures") for cell in column(table(made, one), "what")]
    targets = {link.target for link in links if isinstance(link, Link)}
    assert len(links) == 4 and targets <= {f"#{sys.modules[make.__module__].ID}" for make in SECTIONS}


def test_partial_phases_are_named(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {}, Extent(20, 15), COMPLEXITY)
    assert texts(sound(section(Run(config))), "warning") == [
        "Partial: phase 0 covers 15 of 20 problems. Every figure below is about that part."
    ]


def test_no_block_is_empty(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "0", {}, details=COMPLEXITY)
    made = sound(section(Run(config)))
    assert not [block for block in every_block(made.blocks) if getattr(block, "rows", True) == ()]
