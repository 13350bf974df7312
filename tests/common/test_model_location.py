from __future__ import annotations

from pathlib import Path

import pytest

from common.config import Config, resolve_config
from common.errors import UsageError
from common.model_location import BASE, INSTRUCT, configured_model, identify_model
from common.profiles import REPOSITORY, load_profile
from tests.common_simplified.fixtures import write_model

pytestmark = pytest.mark.unit


def configured(role: str, **settings: str) -> tuple[str, str, str | None]:
    resolved = resolve_config(settings, {})
    return tuple(configured_model(resolved.config, resolved.profile, role))  # type: ignore[return-value]


def test_each_role_has_the_profiles_model_at_the_profiles_commit() -> None:
    profile = load_profile("gemma-2-2b")
    assert configured(BASE) == (profile.model, profile.model, profile.model_revision)
    assert configured(INSTRUCT) == ("google/gemma-2-2b-it", "google/gemma-2-2b-it", profile.instruct_revision)


def test_a_setting_of_one_role_leaves_the_other_alone() -> None:
    settings = {"phase7_3_model_name": "a/b"}
    assert configured(INSTRUCT, **settings) == ("a/b", "a/b", None)
    assert configured(BASE, **settings) == configured(BASE)
    assert configured(INSTRUCT, model_name="c/d") == configured(INSTRUCT)
    assert configured(BASE, model_name="c/d") == ("c/d", "c/d", None)


def test_a_given_commit_is_kept() -> None:
    assert configured(INSTRUCT, phase7_3_model_revision="abc")[2] == "abc"
    assert configured(INSTRUCT, phase7_3_model_name="a/b", phase7_3_model_revision="abc") == ("a/b", "a/b", "abc")


def test_no_name_is_the_profiles_sibling() -> None:
    assert configured(INSTRUCT, phase7_3_model_name="none") == configured(INSTRUCT)
    profile = load_profile("gemma-2-2b")
    assert configured_model(Config(), profile, INSTRUCT).revision == profile.instruct_revision


def test_bundled_models_lie_in_the_repository() -> None:
    assert configured(INSTRUCT, profile="organism")[1] == str(REPOSITORY / "organism/instance/instruct")
    assert configured(BASE, profile="organism")[1] == str(REPOSITORY / "organism/instance/base")
    assert configured(INSTRUCT, profile="organism", phase7_3_model_name="somewhere/else")[1] == "somewhere/else"


def test_a_profile_without_a_sibling_is_refused_in_one_line(tmp_path: Path) -> None:
    text = (REPOSITORY / "profiles" / "organism.toml").read_text()
    path = tmp_path / "alone.toml"
    path.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("instruct_model")))
    with pytest.raises(UsageError, match="profile alone names no instruction-tuned model; add instruct_model"):
        configured(INSTRUCT, profile=str(path))
    assert configured(BASE, profile=str(path))[0] == "organism/instance/base"


def test_the_two_models_of_a_profile_are_told_apart_by_their_content(tmp_path: Path) -> None:
    names = {"model_name": "base", "phase7_3_model_name": "sibling"}
    paths = {field: str(write_model(tmp_path / name, seed=len(name))) for field, name in names.items()}
    resolved = resolve_config(paths, {})
    base, sibling = (identify_model(resolved.config, resolved.profile, role) for role in (BASE, INSTRUCT))
    assert (base.name, sibling.name) == (paths["model_name"], paths["phase7_3_model_name"])
    assert base.fingerprint() != sibling.fingerprint()
