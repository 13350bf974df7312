from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.artifacts import REPLICATION, PhasePaths
from common.runs.files import write_json
from common.runs.metadata import Extent, output_file, write_record
from report.blocks import Facts, Figure, Link, Missing, Number
from report.run import Run
from report.sections.features import section
from tests.report.sections.artifacts import config_in, feature, publish_ranking
from tests.report.sections.looking import column, every_block, plain, shown, table, tables, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit

PAGE = "https://www.neuronpedia.org/gemma-2-2b/0-gemmascope-res-16k/7"


def separation(layer: int, index: int, p_max: float = 0.001, **more: Any) -> dict[str, Any]:
    return feature(layer, index, "separation_score", 0.7, p_max, **more)


def welch(layer: int, index: int, p_max: float = 0.001, **more: Any) -> dict[str, Any]:
    return feature(layer, index, "t_statistic", 12.345, p_max, **more)


def publish_both(config: Config, p_max: float = 0.001) -> None:
    publish_ranking(config, "2.5", [separation(2, 7)], [separation(1, 4, f_correct=0.1, f_incorrect=0.9)])
    publish_ranking(config, "2.10", [welch(3, 5), welch(2, 7)], [welch(1, 4, p_max)])


def test_without_a_ranking_the_section_names_the_command_of_phase_2_5(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 2.5 --data-dir {tmp_path}"


def test_the_lead_names_the_best_features_with_what_they_fire_on_and_the_p_that_decides(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config)
    assert plain(sound(section(Run(config))).lead) == (
        "Best for steering, by separation score: correct-preferring layer 2, feature 7 (fires on 80 % of 12 correct "
        "and 10 % of 8 incorrect problems) and incorrect-preferring layer 1, feature 4 (10 % and 90 %). Best for "
        "prediction, by Welch's t: correct-preferring layer 3, feature 5 (80 % and 10 %) and incorrect-preferring "
        "layer 1, feature 4 (80 % and 10 %). All of them exceed the best of 14 features under shuffled labels "
        "(max-permutation p ≤ 0.001)."
    )


def test_a_best_feature_that_shuffled_labels_reach_is_called_chance(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config, p_max=0.31)
    assert plain(sound(section(Run(config))).lead).endswith(
        "It could be chance, for the best of 14 features under shuffled labels do as well: layer 1, feature 4 by "
        "Welch's t (p = 0.310)."
    )


def test_a_direction_without_a_feature_and_a_ranking_without_any_are_said_to_be_so(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_ranking(config, "2.5", [], [])
    found = sound(section(Run(config)))
    assert found.lead == "No feature could be ranked on 20 problems."
    assert table(found, "Top 0 correct-preferring").rows == ()
    by_layer = table(found, "The best ranked feature of each layer")
    assert shown(by_layer.rows[0])[2:4] == ["none", "not defined (no feature is ranked)"]


def test_a_feature_has_all_of_its_figures_in_its_row(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config)
    found = table(sound(section(Run(config))), "Top 2 correct-preferring features by Welch's t, phase 2.10")
    assert [one.title for one in found.columns] == [
        *("rank", "layer", "feature", "Welch's t", "p max", "fires: correct", "fires: incorrect", "mean: correct"),
        *("mean: incorrect", "general text", "p", "q", "rank elsewhere"),
    ]
    assert shown(found.rows[1]) == [
        *("2", "2", "7", "12.345", "0.001", "80.0 %", "10.0 %", "2.500", "0.500", "1.25 %", "1.0e-04", "0.002", "1")
    ]
    assert "12 correct and 8 incorrect problems. 2 of 2 exceed what the best of 14 features" in plain(found.caption)


def test_a_feature_leads_to_its_page_only_by_https(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    pages = [PAGE, PAGE.replace("https", "http"), "javascript:alert(1)", None]
    items = [separation(0, 7 + number, neuronpedia_url=page) for number, page in enumerate(pages)]
    publish_ranking(config, "2.5", items, [])
    cells = column(table(sound(section(Run(config))), "Top 4 correct-preferring"), "feature")
    assert cells == [Link("7", PAGE), Number(8, "8"), Number(9, "9"), Number(10, "10")]


def test_without_the_general_text_filter_its_column_is_left_out_and_the_reason_given(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    unfiltered = {"applied": False, "reason": "phase 2.2 has not been run"}
    item = separation(0, 1, general_text_frequency=None)
    publish_ranking(config, "2.5", [item], [item], general_text_filter=unfiltered)
    found = sound(section(Run(config)))
    assert "general text" not in [one.title for one in table(found, "Top 1 correct").columns]
    (facts,) = [block for block in found.blocks if isinstance(block, Facts)]
    assert ("general text", "no feature is left out: phase 2.2 has not been run") in facts.rows


def test_a_feature_that_no_test_can_judge_shows_why_and_no_number(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    item = separation(0, 1, p_value=None, q_value=None)
    publish_ranking(config, "2.5", [item], [])
    row = table(sound(section(Run(config))), "Top 1 correct").rows[0]
    assert shown(row)[-3:-1] == ["not defined (it fires on all problems or on none)"] * 2


def test_too_few_shuffles_for_a_level_of_chance_are_named(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    null = {
        "statistic": "largest separation score",
        "n_permutations": 10,
        "seed": 1,
        "score_at_p_0_05": {"correct": None, "incorrect": None},
    }
    publish_ranking(config, "2.5", [separation(0, 1, 0.09)], [], permutation_null=null)
    found = sound(section(Run(config)))
    (landscape, _) = [block for block in found.blocks if isinstance(block, Figure)]
    assert "by chance not defined (10 shuffles are too few for it)" in landscape.alternative
    assert "It could be chance" in found.lead


def test_a_misfit_of_the_saes_is_warned_about(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_ranking(config, "2.5", [separation(0, 1)], [], site_misfits=["layer 0 leaves 0.4 unexplained"])
    warnings = texts(sound(section(Run(config))), "warning")
    assert "layer 0 leaves 0.4 unexplained." in warnings


def test_with_one_ranking_the_other_is_named_with_its_command(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_ranking(config, "2.5", [separation(2, 7)], [separation(1, 4)])
    found = sound(section(Run(config)))
    (warning,) = texts(found, "warning")
    assert warning == (
        f"Features for prediction have not been ranked. To rank them: python3 run.py phase 2.10 --data-dir {tmp_path}"
    )
    assert shown(column(table(found, "Top 1 correct"), "rank elsewhere")) == ["–"]


def test_features_that_were_ranked_on_a_part_are_called_partial(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_ranking(config, "2.5", [separation(2, 7)], [], Extent(489, 20))
    assert texts(sound(section(Run(config))), "warning")[0].startswith("Partial: phase 2.5 covers 20 of 489 problems.")


def publish_replication(config: Config) -> None:
    paths = PhasePaths(config.phase_dir("2.5") / "by_split" / "validation")
    shared = {"layer": 2, "feature_idx": 7, "separation_score_sae": 0.7}
    measured = {"separation_score": 0.55, "f_correct": 0.75, "f_incorrect": 0.2, "reason": None}
    uncaptured = {
        "separation_score": None,
        "f_correct": None,
        "f_incorrect": None,
        "reason": "its layer was not captured",
    }
    found = {
        "split": "validation",
        "n_problems": 16,
        "share_correct": 0.5,
        "layers": [2],
        "features": {"correct": [{**shared, **measured}], "incorrect": [{**shared, **uncaptured, "layer": 1}]},
    }
    write_json(paths.root / REPLICATION, found)
    write_record(
        paths,
        phase="2.5",
        config=config,
        extent=Extent(16, 16),
        inputs=[],
        outputs=[output_file(paths, REPLICATION)],
        wall_seconds={},
        details={"split": "validation"},
    )


def test_a_replication_stands_beside_the_scores_on_which_features_were_chosen(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config)
    assert not [one for one in tables(sound(section(Run(config)))) if "Nothing was chosen here" in one.caption]
    publish_replication(config)
    again = table(sound(section(Run(config))), "Separation scores of the ranked features on the validation split")
    assert shown(again.rows[0]) == ["correct", "1", "2", "7", "0.550", "0.700", "75.0 %", "20.0 %"]
    assert shown(again.rows[1])[4] == "not defined (its layer was not captured)"


def test_the_published_plots_are_shown_with_n_and_a_missing_one_is_named(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config)
    pictures = [block for block in every_block(sound(section(Run(config))).blocks) if isinstance(block, Figure)]
    assert len(pictures) == 4
    assert "n = 20 problems, 14 ranked features" in pictures[0].caption
    assert "layer 0 (0.700; by chance 0.310)" in pictures[0].alternative
    assert "(n = 12)" in pictures[1].caption and "(n = 8)" in pictures[1].caption


def test_every_feature_of_every_layer_is_said_to_lie_in_its_file(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_both(config)
    notes = texts(sound(section(Run(config))), "note")
    assert notes == [
        f"Every feature of every layer: {tmp_path}/phase{name}/feature_scores.parquet" for name in ("2_5", "2_10")
    ]
