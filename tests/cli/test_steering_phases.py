"""Phases 4.5, 4.8, 7.3 and 7.6 on a tiny random model: what is refused in one line, and that nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.runs.artifacts import COEFFICIENT_RESULTS, STEERING_DIRECTIONS
from tests.cli.helpers import Answer, Here, loads_the_model, refusal, stopped, tree
from tests.cli.steering_place import SIZES, Place, done, publish
from tests.common_simplified.fixtures import write_model

pytestmark = pytest.mark.smoke
READS = [("4.5", "2.5"), ("4.5", "3.6"), ("4.8", "2.5"), ("4.8", "3.5"), ("4.8", "4.5")]
FILES = ["3.5/dataset_temp_0_0.parquet", "2.5/feature_scores.parquet", f"4.5/{STEERING_DIRECTIONS}"]


@pytest.fixture
def place(steering_made: Path, tmp_path: Path, here: Here) -> Place:
    shutil.copytree(steering_made.parent / "data", tmp_path / "data")
    return Place(steering_made, tmp_path / "data", here)


def kept(place: Place, answer: Answer, before: dict[str, str]) -> str:
    """Asserts a refusal in one line that changed no file, and returns the line."""
    line = refusal(answer)
    assert tree(place.data) == before
    return line


# --- inputs


@pytest.mark.parametrize(("phase", "lacking"), READS)
def test_a_missing_input_is_refused_with_the_command_that_makes_it(place: Place, phase: str, lacking: str) -> None:
    shutil.rmtree(place.directory(lacking))
    line = kept(place, place.phase(phase), tree(place.data))
    assert f"phase {phase} reads phase {lacking}" in line and f"run: python3 run.py phase {lacking} --profile" in line


@pytest.mark.parametrize("lacking", ["1.0", "3.8", "4.8", "7.3"])
def test_phase_7_6_names_the_input_that_it_lacks(place: Place, lacking: str) -> None:
    for phase in {"1.0", "3.8", "4.8", "7.3"} - {lacking}:
        publish(place.profile, place.data, phase)
    line = kept(place, place.phase("7.6"), tree(place.data))
    assert f"phase 7.6 reads phase {lacking}" in line and f"run: python3 run.py phase {lacking} --profile" in line


@pytest.mark.parametrize(("phase", "partial"), [("4.5", "3.6"), ("4.8", "3.5"), ("4.8", "4.5")])
def test_a_partial_input_is_refused_with_its_extent(place: Place, phase: str, partial: str) -> None:
    place.change_record(partial, complete=False, done=3)
    line = kept(place, place.phase(phase), tree(place.data))
    assert f"phase {phase} reads phase {partial}, which is partial" in line and "3 of " in line
    assert "--allow-partial" in line


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_input_is_refused_by_its_name(place: Place, name: str, damage: str) -> None:
    phase, _, file = name.partition("/")
    path = place.directory(phase) / file
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-9] + b"?" + whole[-8:] if damage == "changed" else whole[: len(whole) // 2])
    line = kept(place, place.phase("4.8"), tree(place.data))
    assert str(path) in line and ("is missing" if damage == "gone" else "is damaged") in line


def test_a_lost_activation_is_refused_before_anything_is_generated(place: Place) -> None:
    next((place.directory("3.5") / "activations" / "task_activations").iterdir()).unlink()
    answer = place.phase("4.8")
    line = stopped(answer, answer.code)
    assert answer.code in (1, 2) and "is missing although its record names it" in line
    assert not loads_the_model(answer)


@pytest.mark.parametrize("phase", ["4.5", "4.8"])
def test_a_baseline_of_another_model_or_site_is_refused(place: Place, tmp_path: Path, phase: str) -> None:
    other, before = write_model(tmp_path / "other", seed=3), tree(place.data)
    baseline = {"4.5": "3.6", "4.8": "3.5"}[phase]
    line = kept(place, place.phase(phase, "--model", other, "--fresh"), before)
    assert f"phase {baseline} was run with another model" in line and "--fresh" in line
    line = kept(place, place.phase(phase, "--site", "resid_pre", "--fresh"), before)
    assert f"phase {baseline} was run with another site" in line and "hook_resid_pre" in line


def test_a_baseline_of_another_number_format_is_warned_about(place: Place) -> None:
    note = "WARNING phase 4.8: the baseline was generated in float32, steering computes in bfloat16"
    said = done(place.phase("4.8", "--dtype", "bfloat16", "--end", 0))
    assert said.count(note) == 1


def test_a_baseline_of_the_other_role_is_refused(place: Place) -> None:
    record = place.record("3.5")
    place.change_record("3.5", model={**record["model"], "role": "instruct"})
    assert "steers the base model" in kept(place, place.phase("4.8"), tree(place.data))


# --- features


@pytest.mark.parametrize("phase", ["4.5", "4.8"])
@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ("correct=1:3", "layer 1 was not captured in"),
        ("correct=7:3", "layer 7 does not exist, the model has layers 0 to 2"),
        ("incorrect=2:24", "feature 2:24 does not exist"),
    ],
)
def test_a_feature_that_cannot_be_steered_is_refused(place: Place, phase: str, feature: str, said: str) -> None:
    assert said in kept(place, place.phase(phase, "--feature", feature), tree(place.data))


def test_another_feature_is_another_result(place: Place) -> None:
    before = tree(place.data)
    line = stopped(place.phase("4.5", "--feature", "correct=0:3"), 2)
    assert "use --fresh" in line and tree(place.data) == before


# --- coefficients


@pytest.mark.parametrize(
    "words",
    [*(f"correct={value}" for value in ("abc", "nan", "inf", "")), "foo=3", "correct", "=3", "correct=1 correct=2"],
)
def test_what_is_no_choice_is_refused(place: Place, words: str) -> None:
    assert "--select" in kept(place, place.phase("4.5", "--select", *words.split(" ")), tree(place.data))


@pytest.mark.parametrize("phase", ["3.6", "4.8", "7.6"])
def test_a_phase_that_chooses_nothing_refuses_a_choice(place: Place, phase: str) -> None:
    line = kept(place, place.phase(phase, "--select", "correct=3"), tree(place.data))
    assert "leave --select out" in line


@pytest.mark.parametrize("values", ["", "2,2", "2,2.0", "a", "1,nan", "1,inf"])
def test_a_list_that_is_no_list_of_coefficients_is_refused(place: Place, values: str) -> None:
    line = kept(place, place.phase("4.5", "--set", f"phase4_5_coefficients={values}"), tree(place.data))
    assert "phase4_5_coefficients" in line


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("phase4_5_coefficients=2,5", ("coefficient",)),
        ("phase4_5_coefficients=2,4,6", ("coefficient",)),
        ("phase4_5_problems_per_coeff=2", ("problems", "positions")),
        ("phase4_5_max_new_tokens=30", ("max_new_tokens",)),
        ("phase4_5_coefficient_unit=residual_norm", ("coefficient",)),
    ],
)
def test_other_settings_on_a_finished_grid_are_refused_naming_what_differs(
    place: Place, setting: str, words: tuple[str, ...]
) -> None:
    before = tree(place.data)
    line = stopped(place.phase("4.5", "--set", setting), 2)
    assert any(word in line for word in words) and "use --fresh" in line and tree(place.data) == before


def test_fresh_puts_the_earlier_grid_aside(place: Place) -> None:
    root = place.directory("4.5")
    earlier = (root / COEFFICIENT_RESULTS).read_bytes()
    said = done(place.phase("4.5", "--fresh", "--set", "phase4_5_coefficients=2,5"))
    assert "put aside in" in said
    assert (root / "superseded" / "0001" / COEFFICIENT_RESULTS).read_bytes() == earlier
    assert {entry["chosen"] for entry in place.selected().values()} == {"suggested"}


def test_a_slice_that_holds_no_problem_of_the_grid_is_done_and_the_rest_still_chooses(place: Place) -> None:
    whole = (place.directory("4.5") / COEFFICIENT_RESULTS).read_bytes()
    shutil.rmtree(place.directory("4.5"))
    for position in reversed(range(6)):
        done(place.phase("4.5", "--start", position, "--end", position))
    assert place.record("4.5")["complete"]
    assert (place.directory("4.5") / COEFFICIENT_RESULTS).read_bytes() == whole


def test_a_limit_that_leaves_every_problem_out_is_said_in_one_line_and_loses_nothing(place: Place) -> None:
    """Every baseline solution of this model is 24 tokens long."""
    before = tree(place.data)
    line = stopped(place.phase("4.5", "--fresh", "--set", "phase4_5_max_new_tokens=5"), 2)
    assert "5" in line and tree(place.data) == before


def test_what_a_partial_baseline_gives_is_marked_partial(place: Place) -> None:
    for phase in ("3.6", "4.5"):
        shutil.rmtree(place.directory(phase))
    done(place.phase("3.6", "--end", 3))
    done(place.phase("4.5", "--allow-partial"))
    assert not place.record("4.5")["complete"] and not place.record("4.5")["inputs_complete"]
    assert "phase 4.8 reads phase 4.5, which is partial" in refusal(place.phase("4.8"))


def test_a_choice_that_a_slice_cannot_record_is_not_lost_without_a_word(place: Place) -> None:
    shutil.rmtree(place.directory("4.5"))
    answer = place.phase("4.5", "--end", 3, "--select", "correct=9")
    done(place.phase("4.5"))
    assert "--select" in answer.err or place.selected()["correct"]["coefficient"] == 9


# --- 4.8


def test_a_finished_phase_4_8_has_nothing_to_do_and_another_choice_is_another_result(place: Place) -> None:
    done(place.phase("4.8"))
    before = tree(place.data)
    again = place.phase("4.8")
    assert "nothing to do" in done(again) and not loads_the_model(again) and tree(place.data) == before

    done(place.phase("4.5", "--select", "correct=7"))
    assert "stale" in next(
        line for line in place.here("status", *place.words("4.8")[2:6]).out.splitlines() if line.startswith("4.8")
    )
    results = place.results()
    assert "use --fresh" in stopped(place.phase("4.8"), 2) and place.results() == results
    done(place.phase("4.5", "--select", "correct=4"))
    back = place.phase("4.8")
    assert back.code == 0 and not loads_the_model(back) and place.results() == results


@pytest.mark.parametrize("setting", ["phase4_8_examples=0", "phase4_8_selective=false"])
def test_a_setting_of_the_analysis_alone_is_heeded_without_generating(place: Place, setting: str) -> None:
    done(place.phase("4.8", "--end", 3))
    name, _, value = setting.partition("=")
    answer = place.phase("4.8", "--end", 3, "--set", setting)
    assert answer.code == 0 and not loads_the_model(answer)
    assert str(place.record("4.8")["config"][name]).lower() == value


def test_a_slice_outside_a_partial_baseline_ends_in_words(place: Place) -> None:
    shutil.rmtree(place.directory("3.5"))
    done(place.phase("3.5", "--start", 20, "--end", 22))
    answer = place.phase("4.8", "--allow-partial", "--end", 5)
    assert answer.code == 0 or stopped(answer, answer.code)


# --- without an instruction-tuned sibling


@pytest.fixture
def alone(place: Place, tmp_path: Path) -> Place:
    """A profile that names no sibling."""
    lines = [line for line in place.profile.read_text().splitlines() if not line.startswith("instruct_model")]
    profile = tmp_path / "alone.toml"
    profile.write_text("\n".join(lines) + "\n")
    return place._replace(profile=profile)


def test_phase_7_3_without_a_sibling_is_refused(alone: Place) -> None:
    line = kept(alone, alone.phase("7.3"), tree(alone.data))
    assert "names no instruction-tuned model; add instruct_model" in line


def test_pipeline_skips_both_phases_of_the_sibling_with_a_notice(alone: Place) -> None:
    options = ("--profile", alone.profile, "--data-dir", alone.data, *SIZES)
    said = done(alone.here("pipeline", "--from", "7.3", *options))
    for phase in ("7.3", "7.6"):
        assert f"phase {phase}" in said and not alone.directory(phase).exists()
    assert said.count("skipped, the profile names no instruction-tuned model") == 2
