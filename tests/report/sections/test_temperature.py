from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common.config import Config
from common.runs.metadata import Extent
from report.blocks import Figure, Missing
from report.run import Run
from report.sections.temperature import section
from tests.report.sections.artifacts import config_in, publish_temperatures, solutions
from tests.report.sections.detections import Direction, publish_detection
from tests.report.sections.looking import column, plain, shown, table, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit

GREEDY = solutions(["passed", "wrong_answer"] * 8)
HOT = solutions((["passed"] + ["wrong_answer"] * 3) * 8, samples=2, temperature=0.6)


def publish(config: Config, **more: Extent) -> None:
    publish_temperatures(config, {0.0: GREEDY, 0.6: HOT}, **more)


def test_without_phase_3_5_the_section_names_its_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 3.5 --data-dir {tmp_path}"


# 8 of 16 at temperature 0: Wilson's interval is 0.5 ± 0.2200; 8 of 32 at 0.6, by bootstrap over 16 problems.
def test_the_lead_says_how_the_pass_rate_goes_from_the_lowest_to_the_highest_temperature(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    publish(config)
    found = sound(section(Run(config)))
    lead = plain(found.lead)
    assert lead.startswith(
        "From temperature 0 to 0.6 the pass rate goes from 50.0 % [28.0 %, 72.0 %] (8/16) to 25.0 % ["
    )
    assert lead.endswith("] (8/32).")
    assert texts(found, "note") == [f"For detection by temperature run: python3 run.py phase 3.8 --data-dir {tmp_path}"]


def test_with_phase_3_8_each_temperature_has_the_auroc_of_both_features(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    publish(config)
    passed = np.arange(16) % 2 == 0
    scores = passed + np.linspace(0, 2, 16)
    publish_detection(config, Direction(scores, passed), Direction(-scores, ~passed))
    found = sound(section(Run(config)))
    rows = table(found, "Validation split by sampling temperature.")
    values = shown(column(rows, "AUROC, correct-preferring"))
    assert values[0].startswith(f"{roc_auc_score(passed, scores):.3f} [")
    assert values[1].startswith("not defined (")  # phase 3.8 has no row at 0.6
    assert "The AUROC of the correct-preferring feature goes from" in found.lead
    assert not texts(found, "note")


def test_estimates_whose_intervals_overlap_are_said_to(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    publish(config)
    passed = np.arange(16) % 2 == 0
    both = Direction(passed + np.linspace(0, 2, 16), passed)
    results = publish_detection(config, both, both)
    by_temperature = results["directions"]["correct"]["by_temperature"]
    low = {"value": 0.1, "low": 0.05, "high": 0.2, "reason": None}
    by_temperature[1] = {**by_temperature[0], "group": 0.6}
    results["directions"]["incorrect"]["by_temperature"][1] = {**by_temperature[0], "group": 0.6, "auroc": low}
    publish_detection(config, both, both, directions=results["directions"])
    correct, incorrect = sound(section(Run(config))).lead.split("; ")
    assert correct.endswith("intervals that overlap")
    assert incorrect.endswith("to 0.100 [0.050, 0.200].")


def test_a_run_at_one_temperature_only_says_so(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_temperatures(config, {0.0: GREEDY})
    lead = plain(sound(section(Run(config))).lead)
    assert lead == "Only temperature 0 was sampled: 50.0 % [28.0 %, 72.0 %] (8/16) of the solutions pass."


def test_the_plot_says_how_many_problems_and_samples_and_its_figures_in_words(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    publish(config)
    (figure,) = [block for block in sound(section(Run(config))).blocks if isinstance(block, Figure)]
    assert "16 problems, one sample of each at temperature 0, 2 above it" in plain(figure.caption)
    assert "50.0 % [28.0 %, 72.0 %] (8/16) at 0" in plain(figure.alternative)


def test_a_partial_phase_is_called_partial(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish(config, extent=Extent(388, 16))
    (warning,) = texts(sound(section(Run(config))), "warning")
    assert warning.startswith("Partial: phase 3.5 covers 16 of 388 problems.")


def test_a_temperature_whose_every_solution_is_excluded_has_a_reason_and_no_zero(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    publish_temperatures(config, {0.0: GREEDY, 0.6: solutions([None] * 4, samples=2, temperature=0.6)})
    rates = shown(column(table(sound(section(Run(config))), "Validation split"), "pass rate"))
    assert rates[1] == "not defined (no rows)"
