from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UsageError
from common.profiles import profile_names
from experiment_pathway_token_analysis.src.settings import CONFIG_FILE, load_settings

pytestmark = pytest.mark.unit


def changed(tmp_path: Path, **tables: Any) -> Path:
    """Returns a copy of config.yaml with other values in its sections."""
    stated = yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))
    for name, table in tables.items():
        stated[name] = {**stated[name], **table} if isinstance(table, dict) and name in stated else table
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return path


def refused(*given: str, profile: str = "organism", file: Path = CONFIG_FILE) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings(profile, given, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("profile", [*profile_names(), "somebody's own"])
def test_every_profile_has_settings(profile: str) -> None:
    settings = load_settings(profile)
    assert len(settings.study.classes) == 2 and len(settings.study.conditions) == 6


def test_the_conditions_are_the_six_of_either_kind_of_study() -> None:
    ours, llama = load_settings("gemma-2-2b").study, load_settings("llama-3.1-8b").study
    for study, (a, b) in ((ours, ("correct", "incorrect")), (llama, ("safe", "risky"))):
        named = [study.condition(name, what) for name in (a, b) for what in ("baseline", "own", "opposite")]
        assert named == [
            *(f"{a}_baseline", f"{a}_amplification", f"{a}_with_{b}_patch"),
            *(f"{b}_baseline", f"{b}_amplification", f"{b}_with_{a}_patch"),
        ]
        assert set(named) == set(study.conditions)
        assert study.canonical()[f"{a}_with_{a}_patch"] == f"{a}_amplification"
    assert (llama.expected_checkpoints, llama.expected_response_logs, llama.kind) == (358, 199, "llama_patching")
    assert ours.positive_outcome is None and llama.positive_outcome == "stop"


def test_the_command_line_overrules_the_profile_and_that_the_file() -> None:
    stated = yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))
    of_profile = stated["profiles"]["organism"]["producer"]["problems_per_class"]
    general = stated["producer"]["problems_per_class"]
    assert of_profile != general
    assert load_settings("gemma-2-2b").producer.problems_per_class == general
    assert load_settings("organism").producer.problems_per_class == of_profile
    settings = load_settings("organism", ["producer.problems_per_class=7", "seed=3", "selection.last_layer=2"])
    assert (settings.producer.problems_per_class, settings.seed, settings.selection.last_layer) == (7, 3, 2)
    assert load_settings("organism", ["selection.last_layer=null"]).selection.last_layer is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("replay.max_edge=5", r"--set replay.max_edge=5.replay: unknown key 'max_edge'; did you mean 'max_edges'?"),
        ("replays.max_edges=5", r"--set replays.max_edges=5: unknown key 'replays'; did you mean 'replay'?"),
        ("replay.max_edges=many", "max_edges = 'many' is of the wrong type"),
        ("replay.max_edges=0", "replay.max_edges = 0: expected a positive number"),
        ("replay.max_edges=-3", "replay.max_edges = -3: expected a positive number"),
        ("replay=5", "expected a table, found 5"),
        ("replay.max_edges", "write --set SECTION.KEY=VALUE"),
        ("replay.alpha=1.5", "replay.alpha: expected a share between 0 and 1"),
        ("replay.slope_low=3", "replay.slope_low: expected less than replay.slope_high"),
        ("memory_ceiling_gb=0", "memory_ceiling_gb: expected more than 0"),
        ("replay.slope_high=.inf", "replay.slope_high = inf: expected 0 or more"),
        ("gradient.min_abs=.nan", "gradient.min_abs = nan: expected 0 or more"),
        ("gradient.min_attribution=-0.5", "gradient.min_attribution = -0.5: expected 0 or more"),
        ("replay.small_step=0.0", "replay.small_step = 0.0: expected a positive number"),
        ("memory_ceiling_gb=.inf", "memory_ceiling_gb = inf: expected a positive number"),
        ("seed=-1", "seed = -1: expected 0 or more"),
        ("study.checkpoints=/etc/*", "study.checkpoints = '/etc/*': expected names with a * below study.directory"),
        ("study.response_logs=../*", "study.response_logs = '../*': expected names with a * below study.directory"),
        ("study.response_logs=logs.json", "expected names with a * below study.directory"),
        ("study.kind=other", "study.kind = 'other': expected program_validity or llama_patching"),
        ("study.classes=[correct]", "study.classes = ['correct']: expected two names"),
        ("study.classes=[safe, risky]", "study.conditions: expected risky_amplification"),
        ("selection.select_by=rank", "selection.select_by = 'rank': expected legacy_is_causal or fdr"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_in_one_line(given: str, message: str) -> None:
    assert message in refused(given)


def test_a_file_with_a_key_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    assert "unknown key 'colour'" in refused(file=changed(tmp_path, tokens={"colour": "red"}))
    stated = yaml.safe_load(CONFIG_FILE.read_text(encoding="utf-8"))
    del stated["tokens"]["alpha"]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(stated), encoding="utf-8")
    assert "is incomplete" in refused(file=tmp_path / "short.yaml")


def test_a_profile_table_with_a_mistake_is_refused_whatever_profile_runs(tmp_path: Path) -> None:
    file = changed(tmp_path, profiles={"llama-3.1-8b": {"replay": {"max_edgs": 3}}})
    assert "profiles.llama-3.1-8b.replay: unknown key 'max_edgs'" in refused(file=file)


@pytest.mark.parametrize("text", ["study: [", "- 1\n- 2\n", "\x00"])
def test_a_file_that_is_no_table_of_settings_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    assert str(path) in refused(file=path)
    assert f"{tmp_path / 'none.yaml'}: no such file" in refused(file=tmp_path / "none.yaml")


def test_two_conditions_under_one_name_are_refused(tmp_path: Path) -> None:
    conditions = {**load_settings("gemma-2-2b").study.conditions, "correct_baseline": ["correct_with_correct_patch"]}
    assert "one name stands for two conditions" in refused(file=changed(tmp_path, study={"conditions": conditions}))
