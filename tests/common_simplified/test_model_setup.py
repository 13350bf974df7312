from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from common.config import Config
from common.errors import UsageError
from common.model_location import BASE, INSTRUCT, chosen_layers
from common_simplified.model_setup import ModelSetup, set_up_model
from tests.common_simplified.fixtures import N_LAYERS, sae_lens_source, tiny_profile, write_model, write_sae_lens

pytestmark = pytest.mark.unit


def set_up(tmp_path: Path, role: str, sibling: Path) -> ModelSetup:
    profile = tiny_profile(
        tmp_path, sae=sae_lens_source(str(write_sae_lens(tmp_path / "lens"))), instruct_model=str(sibling)
    )
    config = Config(model_name=profile.model, device="cpu")
    return set_up_model(config, profile, role, partial(chosen_layers, config), site_given=False)


def test_the_role_says_which_model_is_loaded_and_stands_in_record_and_fingerprint(tmp_path: Path) -> None:
    sibling = write_model(tmp_path / "sibling", seed=3)
    base, other = (set_up(tmp_path / role, role, sibling) for role in (BASE, INSTRUCT))
    assert other.as_record()["model"]["role"] == other.fingerprint()["role"] == "instruct"
    assert other.model.location == str(sibling) and base.model.location == str(tmp_path / "base" / "model")
    assert base.fingerprint()["model"] != other.fingerprint()["model"]
    assert [entry["sae_layer"] for entry in other.as_record()["saes"]] == list(range(N_LAYERS))


def test_the_tokenizer_comes_alone_with_its_chat_template(tmp_path: Path) -> None:
    sibling = write_model(tmp_path / "sibling")
    setup = set_up(tmp_path, INSTRUCT, sibling)
    (sibling / "model.safetensors").write_bytes(b"never read")
    tokenizer = setup.load_tokenizer()
    assert tokenizer.chat_template and tokenizer.padding_side == "left"


def test_a_stream_that_the_saes_cannot_read_is_refused_with_both_widths(tmp_path: Path) -> None:
    wide = write_model(tmp_path / "wide", hidden_size=32)
    with pytest.raises(UsageError, match="a residual stream 32 wide, the SAEs of profile tiny read 16"):
        set_up(tmp_path, INSTRUCT, wide)


def test_a_layer_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    profile = tiny_profile(tmp_path)
    config = Config(model_name=profile.model, device="cpu")
    with pytest.raises(UsageError, match=f"has layers 0 to {N_LAYERS - 1}, but layer {N_LAYERS} is to be read"):
        set_up_model(config, profile, BASE, lambda facts: [0, facts.n_layers], site_given=False)
