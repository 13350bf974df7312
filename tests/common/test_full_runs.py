"""`--full`: a profile's reductions left out, and its results apart from the quick ones."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cli.parser import build_parser, resolved_config
from common.config import Config, Resolved, resolve_config
from common.errors import UsageError
from common.profiles import load_profile, profile_names
from common.runs.discovery import run_command

pytestmark = pytest.mark.unit
DEFAULTS = Config()
PROFILE = """
model = "model"
n_layers = 3
d_model = 16
data_dir = "results/tiny"
[sae]
release = "saes"
id_pattern = "layer_{{layer}}"
format = "sae_lens"
site = "resid_post"
width = 24
[dataset]
name = "problems"
[corpus]
name = "texts"
[settings]
batch_size = 4
phase4_8_controls = 30
{quick}
"""
QUICK = "[quick]\nphase4_8_controls = 5\nphase3_5_samples = 2\n"


def profile_file(tmp_path: Path, quick: str = QUICK) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(PROFILE.format(quick=quick), encoding="utf-8")
    return str(path)


def resolved(tmp_path: Path, quick: str = QUICK, **values: str) -> Resolved:
    return resolve_config({"profile": profile_file(tmp_path, quick), **values}, {})


def test_reductions_hold_unless_the_run_is_full(tmp_path: Path) -> None:
    quick, full = resolved(tmp_path).config, resolved(tmp_path, full="true").config
    assert (quick.phase4_8_controls, quick.phase3_5_samples, quick.batch_size) == (5, 2, 4)
    assert (full.phase4_8_controls, full.phase3_5_samples, full.batch_size) == (30, DEFAULTS.phase3_5_samples, 4)


def test_full_results_lie_apart(tmp_path: Path) -> None:
    assert resolved(tmp_path).config.data_dir == "results/tiny"
    assert resolved(tmp_path, full="true").config.data_dir == "results/tiny-full"


def test_a_directory_that_was_given_is_kept_full_or_not(tmp_path: Path) -> None:
    for full in ("true", "false"):
        assert resolved(tmp_path, full=full, data_dir="mine").config.data_dir == "mine"


def test_without_reductions_a_full_run_is_the_same_run(tmp_path: Path) -> None:
    full = resolved(tmp_path, quick="", full="true").config
    assert (full.data_dir, full.phase4_8_controls) == ("results/tiny", 30)


def test_a_value_that_was_given_goes_before_a_reduction(tmp_path: Path) -> None:
    found = resolved(tmp_path, phase4_8_controls="7")
    assert found.config.phase4_8_controls == 7 and found.sources["phase4_8_controls"] == "command line"
    assert resolved(tmp_path).sources["phase4_8_controls"].startswith("profile ")


@pytest.mark.parametrize(("source", "environment"), [("environment", {"PVA_SAE_FULL": "yes"}), ("file", {})])
def test_it_may_come_from_environment_and_file(tmp_path: Path, source: str, environment: dict[str, str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("full = true\n", encoding="utf-8")
    found = resolve_config({"profile": profile_file(tmp_path)}, environment, file if source == "file" else None)
    assert found.config.full and found.config.data_dir == "results/tiny-full"
    assert found.sources["full"].startswith(source)


@pytest.mark.parametrize("quick", ["[quick]\nphase4_8_control = 5\n", "[quick]\nphase4_8_controls = 'many'\n"])
def test_a_reduction_of_nothing_known_is_refused(tmp_path: Path, quick: str) -> None:
    with pytest.raises(UsageError, match="phase4_8_control"):
        resolved(tmp_path, quick)


def test_every_shipped_profile_resolves_both_ways_and_keeps_full_results_apart_where_they_differ() -> None:
    for name in profile_names():
        quick, full = (resolve_config({"profile": name, "full": value}, {}).config for value in ("false", "true"))
        differing = {field for field in vars(quick) if getattr(quick, field) != getattr(full, field)} - {"full"}
        profile = load_profile(name)
        assert differing == ({*profile.quick, "data_dir"} if profile.quick else set())


def test_the_tiny_models_full_run_has_the_controls_of_a_real_one() -> None:
    full = resolve_config({"profile": "organism", "full": "true"}, {}).config
    names = ("phase4_8_controls", "phase4_8_control_problems", "phase3_5_samples")
    assert [getattr(full, name) for name in names] == [getattr(DEFAULTS, name) for name in names] == [39, None, 5]
    assert full.data_dir == "data/organism-full"


@pytest.mark.parametrize("values", [{}, {"full": "true"}, {"full": "true", "data_dir": "mine"}, {"data_dir": "mine"}])
def test_a_command_that_is_recommended_finds_the_same_directory(values: dict[str, str]) -> None:
    config = resolve_config({"profile": "organism", **values}, {}).config
    words = shlex.split(run_command(config, "4.5"))
    assert words[:4] == ["python3", "run.py", "phase", "4.5"]
    again = resolved_config(build_parser().parse_args(words[2:])).config
    assert again == config
