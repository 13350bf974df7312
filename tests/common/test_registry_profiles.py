"""Every shipped profile against SAELens's own registry file and against TransformerLens's table of models."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from common.model_location import BASE, INSTRUCT, configured_model
from common.profiles import REPOSITORY, Profile, load_profile, profile_names
from common.sae_registry import locate_sae, neuronpedia_url, sae_layers

pytestmark = pytest.mark.unit

REAL = [name for name in profile_names() if not load_profile(name).sae.local]
# What SAELens's converters of these names read, by its own source: one folder with these files.
CONVERTED = {
    "gemma_2": ("gemma_scope", ("params.npz",)),
    "llama_scope": ("llama_scope", ("hyperparams.json", "checkpoints/final.safetensors")),
}


@cache
def registry() -> dict[str, Any]:
    """SAELens's whole registry, parsed anew by yaml: none of our reader's code takes part."""
    import yaml

    spec = find_spec("sae_lens")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).with_name("pretrained_saes.yaml")
    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def entries(release: str) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in registry()[release]["saes"]}


def test_the_profiles_of_real_models_are_those_that_are_shipped() -> None:
    assert REAL == ["gemma-2-2b", "gemma-2-9b", "llama-3.1-8b"]


@pytest.mark.parametrize("name", REAL)
def test_every_layer_is_the_registrys_entry_of_that_layer(name: str) -> None:
    profile = load_profile(name)
    release = registry()[profile.sae.release]
    layout, files = CONVERTED[release["conversion_func"]]
    for layer in range(profile.n_layers):
        sae = locate_sae(profile.sae, layer)
        entry = entries(profile.sae.release)[sae.sae_id]
        assert (sae.repo, sae.folder, sae.layout, sae.files) == (release["repo_id"], entry["path"], layout, files)
        assert sae.norm_scaling_factor == entry.get("norm_scaling_factor")
        assert (sae.neuronpedia_id, sae.model) == (entry["neuronpedia"], release["model"])
        assert neuronpedia_url(profile.sae, layer, 7) == f"https://www.neuronpedia.org/{entry['neuronpedia']}/7"
        numbers = re.findall(r"\d+", sae.sae_id), re.findall(r"[Ll](?:ayer_)?(\d+)", entry["path"])
        assert int(numbers[0][0]) == int(numbers[1][0]) == layer


@pytest.mark.parametrize("name", REAL)
def test_no_layer_of_the_model_is_missing_and_none_is_named_twice(name: str) -> None:
    profile = load_profile(name)
    ids = [locate_sae(profile.sae, layer).sae_id for layer in range(profile.n_layers)]
    assert len(set(ids)) == profile.n_layers == len(sae_layers(profile.sae))
    same_kind = [key for key in entries(profile.sae.release) if re.sub(r"\d+", "N", key, count=1) == _pattern(ids[0])]
    assert sorted(same_kind) == sorted(ids)


def _pattern(sae_id: str) -> str:
    return re.sub(r"\d+", "N", sae_id, count=1)


@pytest.mark.parametrize("name", REAL)
def test_the_width_and_the_site_are_those_that_the_registrys_names_say(name: str) -> None:
    profile = load_profile(name)
    release = registry()[profile.sae.release]
    assert profile.sae.site == "resid_post"
    for layer in range(profile.n_layers):
        entry = entries(profile.sae.release)[locate_sae(profile.sae, layer).sae_id]
        thousands = re.search(r"-res-(\d+)k$", entry["neuronpedia"])
        assert thousands is not None and int(thousands[1]) * 1024 == profile.sae.width
        if profile.sae.format == "gemma_scope":  # `-res`: the residual stream, after the block (GemmaScope, section 3)
            assert release["repo_id"].endswith("-pt-res") and "/width_16k/" in entry["path"]
        else:  # `L0R-8x`: residual stream after block 0, eight times as wide (LlamaScope, section 3)
            assert entry["path"].endswith(f"L{layer}R-8x") and profile.sae.width == 8 * profile.d_model


@pytest.mark.parametrize("name", [name for name in REAL if name.startswith("gemma")])
def test_hook_width_and_stream_are_those_that_sae_lenss_loader_derives(name: str) -> None:
    from sae_lens.loading.pretrained_sae_loaders import get_gemma_2_config_from_hf

    profile = load_profile(name)
    for layer in range(profile.n_layers):
        sae = locate_sae(profile.sae, layer)
        theirs = get_gemma_2_config_from_hf(sae.repo, sae.folder, "cpu")
        assert theirs["hook_name"] == f"blocks.{layer}.hook_{profile.sae.site}"
        assert (theirs["d_in"], theirs["d_sae"]) == (profile.d_model, profile.sae.width)
        assert theirs["model_name"] == sae.model


@pytest.mark.parametrize("name", REAL)
def test_the_registrys_model_is_the_profiles(name: str) -> None:
    profile = load_profile(name)
    theirs = registry()[profile.sae.release]["model"]
    assert profile.model.rpartition("/")[2].lower() == theirs.rpartition("/")[2].lower()
    assert entries(profile.sae.release)[locate_sae(profile.sae, 0).sae_id]["neuronpedia"].startswith(
        theirs.rpartition("/")[2].lower().replace("llama-", "llama")
    )


@pytest.mark.parametrize("name", REAL)
def test_the_instruct_sibling_is_the_same_model_tuned_and_pinned_too(name: str) -> None:
    from common.config import resolve_config

    resolved = resolve_config({"profile": name}, {})
    base, sibling = (configured_model(resolved.config, resolved.profile, role) for role in (BASE, INSTRUCT))
    assert sibling.name in (f"{base.name}-it", f"{base.name}-Instruct")
    assert all(re.fullmatch(r"[0-9a-f]{40}", str(model.revision)) for model in (base, sibling))
    assert base.revision != sibling.revision


@pytest.mark.parametrize("name", REAL)
def test_an_sae_revision_is_a_commit_or_says_that_the_newest_is_recorded(name: str) -> None:
    revision = load_profile(name).sae.revision
    text = (REPOSITORY / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    if revision is None:
        assert "# No revision: the newest one is taken when it is fetched, and recorded." in text
    else:
        assert re.fullmatch(r"[0-9a-f]{40}", revision)


def parameters(profile: Profile) -> int:
    """Counts the parameters that transformers gives a model of the profile's shape, without making them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = profile.shape
    assert shape is not None
    kind = "gemma2" if "gemma" in profile.name else "llama"
    config = AutoConfig.for_model(
        kind,
        vocab_size=shape.vocab_size,
        hidden_size=profile.d_model,
        num_hidden_layers=profile.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.d_mlp,
        tie_word_embeddings=kind == "gemma2",
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


@pytest.mark.parametrize("name", REAL)
def test_the_shape_is_that_of_transformer_lenss_table_for_model_and_sibling(name: str) -> None:
    from transformer_lens.loading_from_pretrained import convert_hf_model_config

    profile = load_profile(name)
    assert profile.shape is not None
    for model in (profile.model, profile.instruct_model):
        theirs = convert_hf_model_config(str(model))
        assert (profile.n_layers, profile.d_model) == (theirs["n_layers"], theirs["d_model"])
        ours = profile.shape
        assert (ours.vocab_size, ours.d_mlp) == (theirs["d_vocab"], theirs["d_mlp"])
        heads = (theirs["n_heads"], theirs["n_key_value_heads"], theirs["d_head"])
        assert (ours.n_heads, ours.n_kv_heads, ours.head_dim) == heads


@pytest.mark.parametrize("name", REAL)
def test_the_stated_size_is_that_of_the_shapes_parameters_in_bfloat16(name: str) -> None:
    profile = load_profile(name)
    assert profile.model_size_gb == pytest.approx(parameters(profile) * 2 / 1e9, abs=0.08)


def test_gemma_2_2b_has_the_parameters_of_its_card() -> None:
    assert parameters(load_profile("gemma-2-2b")) == 2_614_341_888


def test_profiles_resolve_without_network() -> None:
    """Every socket is refused, and still each layer of each profile is found."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no network')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from common.profiles import load_profile\n"
        "from common.sae_registry import locate_sae\n"
        f"for name in {REAL!r}:\n"
        "    profile = load_profile(name)\n"
        "    print(name, len({locate_sae(profile.sae, layer).folder for layer in range(profile.n_layers)}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "gemma-2-2b 26\ngemma-2-9b 42\nllama-3.1-8b 32\n"
