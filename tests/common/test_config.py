from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from common.config import Config, known_field, parse_value, resolve_config, show
from common.errors import UsageError

pytestmark = pytest.mark.unit


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(*arguments: Any, **named: Any) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_config(*arguments, **{"environment": {}, **named})
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- precedence


def test_each_source_goes_before_the_next(tmp_path: Path) -> None:
    file = toml(tmp_path, "seed = 3\nbatch_size = 3\nmax_new_tokens = 3\n")
    environment = {"PVA_SAE_SEED": "2", "PVA_SAE_BATCH_SIZE": "2", "HOME": "/nowhere"}
    resolved = resolve_config({"seed": "1", "profile": "organism"}, environment, file)
    config = resolved.config
    assert (config.seed, config.batch_size, config.max_new_tokens) == (1, 2, 3)
    assert config.data_dir == "data/organism"
    assert config.snapshot_every == 50
    assert {name: resolved.sources[name] for name in ("seed", "batch_size", "data_dir", "snapshot_every")} == {
        "seed": "command line",
        "batch_size": "environment",
        "data_dir": "profile organism",
        "snapshot_every": "default",
    }
    assert resolved.sources["max_new_tokens"] == f"file {file}"


@pytest.mark.parametrize("source", ["environment", "file"])
def test_the_profile_can_be_chosen_by_environment_and_by_file(tmp_path: Path, source: str) -> None:
    if source == "file":
        resolved = resolve_config({}, {}, toml(tmp_path, 'profile = "organism"'))
    else:
        resolved = resolve_config({}, {"PVA_SAE_PROFILE": "organism"})
    assert resolved.profile.name == "organism"
    assert resolved.config.batch_size == 64


def test_defaults_are_those_of_the_default_profile() -> None:
    resolved = resolve_config({}, {})
    assert resolved.config.model_name == "google/gemma-2-2b"
    assert resolved.config.model_revision == resolved.profile.model_revision
    assert resolved.config.data_dir == "data"


def test_another_model_drops_the_profiles_revision_and_keeps_a_given_one() -> None:
    other = resolve_config({"model_name": "google/gemma-2-2b-it"}, {})
    assert other.config.model_revision is None
    assert other.sources["model_revision"] == "default"
    given = resolve_config({"model_name": "google/gemma-2-2b-it", "model_revision": "abc"}, {})
    assert given.config.model_revision == "abc"


# --- values


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", " 8 ", 8),
        ("activation_layers", "0,6, 8,15", (0, 6, 8, 15)),
        ("activation_layers", "3", (3,)),
        ("activation_layers", [1, 2], (1, 2)),
        ("activation_layers", "none", None),
        ("phase0_1_ratios", "6,1,3", (6, 1, 3)),
        ("evaluation_timeout_seconds", "2.5", 2.5),
        ("evaluation_timeout_seconds", 3, 3.0),
        ("site", "resid_mid", "resid_mid"),
        ("site", "None", None),
        ("evaluation_workers", "null", None),
        ("model_revision", "", None),
        ("data_dir", "my data", "my data"),
    ],
)
def test_text_becomes_the_type_of_its_field(name: str, text: Any, value: Any) -> None:
    assert parse_value(name, text) == value
    assert type(parse_value(name, text)) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("batch_size", "many", "batch_size = 'many' is not a whole number"),
        ("batch_size", "1.5", "is not a whole number"),
        ("batch_size", 1.5, "is not a whole number"),
        ("batch_size", True, "is not a whole number"),
        ("batch_size", "-1", "batch_size = -1: must lie between 0 and 4096"),
        ("batch_size", "none", "batch_size needs a value (a whole number)"),
        ("seed", "-1", "seed = -1: must be at least 0"),
        ("max_excluded_share", "1.5", "must lie between 0 and 1"),
        ("max_excluded_share", "nan", "is not a number"),
        ("generation_timeout_seconds", "inf", "is not a number"),
        ("generation_timeout_seconds", "0", "must be at least 0.001"),
        ("dtype", "float16", "dtype = float16: must be one of auto, float32, bfloat16"),
        ("site", "resid", "must be one of resid_pre, resid_mid, resid_post"),
        ("prompt_format", "poem", "must be one of solution_marker, signature, chat"),
        ("activation_layers", "0,x", "is not a list of int, written 1,3,10"),
        ("activation_layers", "0,0", "activation_layers = 0,0: must be distinct layer numbers from 0"),
        ("activation_layers", "-1", "must be distinct layer numbers from 0"),
        ("activation_layers", ",", "must be distinct layer numbers from 0"),
        ("activation_layers", 3, "is not a list of int"),
        ("phase0_1_ratios", "5,5", "must be three tenths that sum to 10"),
        ("phase0_1_ratios", "9,1,0", "must be three tenths that sum to 10"),
        ("data_dir", "", "data_dir needs a value (text)"),
        ("model_name", 3, "is not text"),
        ("profile", "organsm", "profile 'organsm' is unknown"),
    ],
)
def test_each_bad_value_is_refused_in_one_line(name: str, value: Any, said: str) -> None:
    assert said in refused({name: value})


def test_no_setting_can_be_a_number_that_a_record_could_not_hold() -> None:
    for item in fields(Config):
        for text in ("nan", "inf", "-inf", "1e999"):
            if "float" in str(item.type):
                assert f"{item.name} = {text!r} is not " in refused({item.name: text})


def test_an_unknown_field_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    assert "unknown setting 'batchsize'; did you mean 'batch_size'?" in refused({"batchsize": "3"})
    assert "did you mean 'batch_size'?" in refused({}, environment={"PVA_SAE_BATCHSIZE": "3"})
    assert "did you mean 'seed'?" in refused({}, file=toml(tmp_path, "sed = 3"))
    assert "unknown setting 'zzz' (run.py show-config lists all)" in refused({"zzz": "3"})
    assert known_field("seed") == "seed"


def test_a_field_that_a_profile_does_not_know_is_refused(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[2] / "profiles" / "organism.toml"
    profile = tmp_path / "mine.toml"
    profile.write_text(source.read_text() + "\nbatchsize = 3\n", encoding="utf-8")
    assert "unknown setting 'batchsize'; did you mean 'batch_size'?" in refused({"profile": str(profile)})


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "does not exist"), ("seed = ", "cannot be read"), (b"\xff\xfe", "cannot be read"), ("[a]\nb = 1", "'a'")],
)
def test_an_unusable_configuration_file_is_refused_by_name(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in refused({}, file=path)


def test_a_directory_is_no_configuration_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused({}, file=tmp_path)


# --- the record itself


def test_every_setting_says_what_it_means_and_its_default_is_allowed() -> None:
    config = Config()
    assert all(item.metadata["doc"] for item in fields(Config))
    for item in fields(Config):
        default = getattr(config, item.name)
        if default is not None and default != "auto":
            assert parse_value(item.name, show(default)) == default


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]


def test_building_a_configuration_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        pytest.fail("the disk was touched")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "stat", refuse)
    assert Config(data_dir="/nowhere/at/all").phase_dir("2.5") == Path("/nowhere/at/all/phase2_5")


def test_phase_directories_stand_under_the_data_directory_unless_given() -> None:
    config = Config(data_dir="root", phase1_0_output_dir="elsewhere")
    assert config.phase_dir("0") == Path("root/phase0")
    assert config.phase_dir("0.1") == Path("root/phase0_1")
    assert config.phase_dir("2.10") == Path("root/phase2_10")
    assert config.phase_dir("1.0") == Path("elsewhere")


@pytest.mark.parametrize(("value", "text"), [((1, 3), "1,3"), (None, "none"), (2.5, "2.5"), ("a", "a"), (32, "32")])
def test_values_are_shown_as_they_are_written(value: Any, text: str) -> None:
    assert show(value) == text
