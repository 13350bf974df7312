from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config, resolve_config
from common.runs.status import read_back
from report.settings import decisive_settings, reductions, set_otherwise

pytestmark = pytest.mark.unit


def record(config: Config) -> dict[str, Any]:
    return {"config": read_back(config), "profile": config.profile}


def test_defaults_are_not_set_otherwise() -> None:
    found = decisive_settings({"1.0": record(Config())})
    assert len(found) > 10 and not set_otherwise(found)
    assert all(item.origin == "default" and item.value == item.default for item in found)


def test_a_setting_is_shown_for_the_phases_that_it_concerns_only() -> None:
    changed = record(Config(phase4_5_problems_per_coeff=5))
    found = {item.name for item in set_otherwise(decisive_settings({"1.0": changed, "3.5": changed}))}
    assert found == set()
    (item,) = set_otherwise(decisive_settings({"1.0": changed, "4.5": changed}))
    assert (item.name, item.value, item.default, item.phases) == ("phase4_5_problems_per_coeff", "5", "10", ("4.5",))


def test_where_and_how_something_is_computed_is_no_setting_that_decides() -> None:
    found = {item.name for item in decisive_settings({"1.0": record(Config(data_dir="elsewhere"))})}
    assert "data_dir" not in found and "seed" in found


def test_a_profile_is_named_for_what_it_sets_and_for_what_it_lowers_to_be_quick() -> None:
    config = resolve_config({"profile": "organism", "max_new_tokens": "77"}, {}).config
    found = {item.name: item for item in set_otherwise(decisive_settings({"3.5": record(config)}))}
    assert found["model_name"].origin == "profile organism"
    assert found["phase3_5_samples"].origin == "profile organism, to be quick"
    assert found["max_new_tokens"].origin == "given by the user"
    assert [item.name for item in reductions({"3.5": record(config)})] == ["phase3_5_samples"]


def test_a_full_run_has_no_reductions() -> None:
    config = resolve_config({"profile": "organism", "full": "true"}, {}).config
    assert reductions({"3.5": record(config)}) == []


def test_a_value_that_a_user_gave_and_a_profile_would_have_lowered_to_is_a_reduction_only_without_full() -> None:
    config = resolve_config({"profile": "organism", "full": "true", "phase3_5_samples": "2"}, {}).config
    (item,) = [one for one in decisive_settings({"3.5": record(config)}) if one.name == "phase3_5_samples"]
    assert item.origin == "given by the user"


def test_lists_are_written_as_people_write_them() -> None:
    found = decisive_settings({"4.5": record(Config(phase4_5_coefficients=(1.0, 2.5)))})
    (item,) = [one for one in found if one.name == "phase4_5_coefficients"]
    assert (item.value, item.default) == ("1, 2.5", "1, 3, 10, 30, 100, 300, 1000")


def test_the_profile_of_a_record_that_has_gone_since_explains_nothing(tmp_path: Path) -> None:
    gone = {**record(Config(max_new_tokens=77)), "profile": str(tmp_path / "gone.toml")}
    (item,) = set_otherwise(decisive_settings({"1.0": gone}))
    assert item.origin == "given by the user"


def test_a_record_from_before_a_setting_existed_does_not_show_it() -> None:
    old = record(Config())
    del old["config"]["steer_bos"]
    names = {item.name for item in decisive_settings({"4.5": old})}
    assert "steer_bos" not in names and "seed" in names
