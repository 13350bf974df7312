from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from common.profiles import DEFAULT_PROFILE, PROFILE_DIR, REPOSITORY, load_profile, profile_names, resolve_local

pytestmark = pytest.mark.unit

TINY = """
model = "some/model"
n_layers = 2
d_model = 16
[sae]
release = "saes"
id_pattern = "layer_{layer}"
format = "sae_lens"
site = "resid_post"
width = 32
[dataset]
name = "problems"
files = ["a.parquet", "b.parquet"]
[corpus]
name = "texts"
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_profile(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_whole(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.n_layers > 0
    assert profile.sae.width > 0
    assert "{layer}" in profile.sae.id_pattern
    assert profile.sae.site == "resid_post"
    assert profile.instruct_model
    assert profile.data_dir.startswith("data")


def test_the_default_profile_is_the_published_studys_model() -> None:
    profile = load_profile(DEFAULT_PROFILE)
    assert (profile.model, profile.n_layers, profile.d_model) == ("google/gemma-2-2b", 26, 2304)
    assert profile.sae.release == "gemma-scope-2b-pt-res-canonical"
    assert len(profile.dataset.files) == 4


def test_hub_models_and_data_sets_of_shipped_profiles_are_pinned() -> None:
    for name in profile_names():
        profile = load_profile(name)
        if not profile.model_local:
            assert profile.model_revision is not None
            assert len(profile.model_revision) == 40
        for source in (profile.dataset, profile.corpus):
            assert source.local or (source.revision is not None and len(source.revision) == 40)


def test_no_two_shipped_profiles_share_a_data_directory() -> None:
    directories = [load_profile(name).data_dir for name in profile_names()]
    assert len(set(directories)) == len(directories)


def test_a_profile_can_be_given_as_a_file(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, TINY))
    assert profile.name == "mine"
    assert profile.dataset.files == ("a.parquet", "b.parquet")
    assert profile.corpus.files == ()
    assert profile.settings == {}
    assert not profile.sae.local


def test_an_unknown_profile_is_refused_with_the_nearest_and_all_known_ones() -> None:
    said = refusal("gemma-2-2")
    assert "did you mean 'gemma-2-2b'?" in said
    assert all(name in said for name in profile_names())
    assert "unknown" in refusal("nowhere/at/all.toml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("n_layers = 2", "n_layer = 2"), "unknown key 'n_layer'; did you mean 'n_layers'?"),
        (("n_layers = 2\n", ""), "is incomplete: "),
        (("width = 32\n", ""), "[sae] is incomplete: "),
        (("[corpus]", "[texts]"), "has no [corpus] table"),
        (('format = "sae_lens"', 'format = "zip"'), "sae.format is 'zip', expected one of sae_lens, gemma_scope"),
        (("n_layers = 2", "n_layers = "), "is not valid TOML"),
    ],
)
def test_an_unusable_profile_is_refused_in_one_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in TINY
    assert said in refusal(written(tmp_path, TINY.replace(*change)))


def test_a_profile_of_other_bytes_than_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"model = '\xff'")
    assert "is not valid TOML" in refusal(str(path))


def test_relative_paths_are_taken_from_the_repository(tmp_path: Path) -> None:
    assert resolve_local("organism/instance") == REPOSITORY / "organism" / "instance"
    assert resolve_local(str(tmp_path)) == tmp_path
    assert resolve_local("~/models") == Path.home() / "models"
    assert PROFILE_DIR == REPOSITORY / "profiles"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_layers = 26", 'n_layers = "four"', "n_layers = 'four' is of the wrong type"),
        ("width = 16384", "width = true", "width = True is of the wrong type"),
        ('revision = "fd571b47', 'local = "yes"\nrevision = "fd571b47', "local = 'yes' is of the wrong type"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (REPOSITORY / "profiles" / "gemma-2-2b.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        load_profile(str(path))


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('model = "m"\nn_layers = 1\nd_model = 2\nsae = 3\n')
    with pytest.raises(UsageError, match="expected a table, found 3"):
        load_profile(str(path))
