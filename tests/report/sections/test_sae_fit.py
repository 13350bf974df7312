from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.metadata import Extent
from report.blocks import Figure, Missing
from report.run import Run
from report.sections.sae_fit import section
from tests.report.sections.artifacts import SVG, config_in, fit, fit_entry, publish_greedy, solutions
from tests.report.sections.looking import column, shown, table, tables, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit

ROWS = solutions(["passed", "wrong_answer"])
GOOD = fit(fit_entry(0, 0.05, 0.4, 0.5), fit_entry(1, 0.072, 0.3, None))


def publish_fit(config: Config, report: dict[str, Any] | None = None, phase: str = "1.0", **more: Any) -> None:
    split = "sae" if phase == "1.0" else "validation"
    files = {"sae_fit.json": GOOD if report is None else report, "sae_fit.svg": SVG}
    publish_greedy(config, phase, split, ROWS, files, **more)


def test_without_phase_1_the_section_names_its_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing) and "phase 1.0" in missing.command


def test_a_run_that_has_not_measured_the_fit_says_why(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_greedy(config, "1.0", "sae", ROWS)
    missing = section(Run(config))
    assert isinstance(missing, Missing)
    assert missing.why.startswith("Phase 1.0 has not measured the SAEs' fit")


def test_the_lead_says_that_every_layer_fits_with_the_range_at_and_beside_the_site(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config)
    found = sound(section(Run(config)))
    assert found.lead == (
        "Yes: in all 2 layers the declared site fits better than each neighbour that exists. At the declared site "
        "the SAEs leave 0.050 to 0.072 of the variance unexplained, one block away 0.300 to 0.500 (1,234 prompt "
        "tokens (all but BOS) of 20 problems)."
    )
    (figure,) = [block for block in found.blocks if isinstance(block, Figure)]
    assert figure.svg == SVG.decode() and "0.050 to 0.072" in figure.alternative


def test_a_layer_has_its_figures_and_its_neighbours_and_says_where_there_is_none(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config)
    layers = table(sound(section(Run(config))), "Fit of the SAEs by layer, base model")
    assert shown(layers.rows[1]) == [
        *("1", "blocks.1.hook_resid_post", "0.072", "0.300", "no such block", "3.5", "25.0 % of 8", "yes")
    ]


@pytest.mark.parametrize("earlier", [0.04, 0.05])
def test_a_layer_whose_neighbour_fits_as_well_is_named(tmp_path: Path, earlier: float) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config, fit(fit_entry(0, 0.05, earlier, 0.5), fit_entry(1, 0.05, 0.4, None)))
    found = sound(section(Run(config)))
    assert found.lead.startswith("Not everywhere: in layer 0 of 2 a neighbouring site fits as well")
    assert shown(column(table(found, "Fit of the SAEs"), "fits")) == ["no", "yes"]


def test_a_fit_that_could_not_be_computed_shows_its_reason_and_counts_as_no_fit(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config, fit(fit_entry(0, None, 0.4, 0.5), fit_entry(1, None, 0.4, None)))
    found = sound(section(Run(config)))
    assert "in layers 0 and 1 of 2" in found.lead and "leave a share that could not be computed" in found.lead
    cells = shown(column(table(found, "Fit of the SAEs"), "unexplained"))
    assert cells == ["not defined (the stream does not vary over the tokens)"] * 2


def test_the_instruction_tuned_model_stands_beside_the_base_model(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config)
    sibling = fit(
        fit_entry(0, 0.06, 0.4, 0.5), fit_entry(1, 0.11, 0.3, None), note="no SAEs were trained on this model"
    )
    publish_fit(config, sibling, "7.3", extent=Extent(388, 2))
    found = sound(section(Run(config)))
    assert found.lead.endswith("On the instruction-tuned model they leave 0.060 to 0.110.")
    assert "Instruction-tuned model: no SAEs were trained on this model." in texts(found, "note")
    assert shown(column(table(found, "Fit of the SAEs by layer, instruction-tuned"), "unexplained")) == [
        "0.060",
        "0.110",
    ]
    assert len(tables(found)) == 2 and not texts(found, "warning")


def test_a_layer_that_only_the_base_model_has_is_said_to_be_unmeasured_in_the_other(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config)
    publish_fit(config, fit(fit_entry(0, 0.06, 0.4, 0.5), note="reported"), "7.3")
    by_layer = table(sound(section(Run(config))), "Fit of the SAEs by layer, base")
    assert shown(column(by_layer, "instruction-tuned")) == ["0.060", "not measured"]


def test_problems_that_were_left_out_are_counted_and_a_fit_of_nothing_is_not_known(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config, {**fit(), "n_problems": 0, "n_problems_left_out": 64})
    assert sound(section(Run(config))).lead == (
        "It is not known: no layer could be measured (0 prompt tokens (all but BOS) of 0 problems, 64 problems left "
        "out)."
    )


def test_a_fit_on_fewer_problems_than_it_is_for_is_called_partial_whatever_else_is(tmp_path: Path) -> None:
    config = config_in(tmp_path, sae_fit_positions=64)
    publish_fit(config, extent=Extent(489, 20))
    assert texts(sound(section(Run(config))), "warning") == [
        "Phase 1.0 is partial: the fit was measured on 20 of the first 64 problems."
    ]
    config = config_in(tmp_path, sae_fit_positions=20)
    publish_fit(config, extent=Extent(489, 20))
    assert texts(sound(section(Run(config))), "warning") == []
