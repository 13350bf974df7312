from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UsageError
from common.hub import content_digest
from common.profiles import REPOSITORY, SaeSource, load_profile
from common.sae_registry import canonical_folder, locate_sae, registered_release, sae_layers
from common_simplified import sae_loader
from common_simplified.sae_loader import decoder_row, load_encoder, load_sae, neuronpedia_url, sae_identity
from tests.common_simplified import fixtures

pytestmark = pytest.mark.numeric


@pytest.fixture
def scope(tmp_path: Path) -> SaeSource:
    return fixtures.gemma_scope_source(str(fixtures.write_gemma_scope(tmp_path / "scope")))


def residuals(n: int = 50, d_model: int = fixtures.D_MODEL) -> torch.Tensor:
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(5)) * 3


def test_the_encoder_equals_sae_lens_exactly_in_every_layout(tmp_path: Path) -> None:
    for name, source in fixtures.every_source(tmp_path).items():
        sae, encoder = load_sae(source, 0), load_encoder(source, 0)
        x = residuals()
        expected = sae.encode(x)
        assert torch.equal(encoder.encode(x), expected), name
        assert 0 < (expected > 0).float().mean() < 1, name
        chosen = [3, 0, 17]
        torch.testing.assert_close(encoder.encode_features(x, chosen), expected[:, chosen], rtol=1e-6, atol=1e-6)
        assert torch.equal(encoder.encode(x[0]), sae.encode(x[0])), name
        assert torch.equal(encoder.encode(x.bfloat16()), sae.encode(x.bfloat16())), name


def test_a_feature_fires_only_above_its_threshold() -> None:
    pre = torch.tensor([[-1.0, 0.5, 1.0, 1.5, 2.0]])
    threshold = torch.tensor([0.0, 0.5, 0.5, 1.5, -3.0])
    assert sae_loader.jump_relu(pre, threshold).tolist() == [[0.0, 0.0, 1.0, 0.0, 2.0]]
    assert sae_loader.jump_relu(pre, None).tolist() == [[0.0, 0.5, 1.0, 1.5, 2.0]]


def test_a_decoder_row_equals_that_of_the_whole_sae(tmp_path: Path) -> None:
    for name, source in fixtures.every_source(tmp_path).items():
        sae = load_sae(source, 0)
        for index in (0, 7, fixtures.WIDTH - 1):
            row = decoder_row(source, 0, index)
            assert row.shape == (fixtures.D_MODEL,), name
            assert torch.equal(row, sae.W_dec[index]), name


def test_a_decoder_row_of_an_array_in_fortran_order_is_the_same_row(tmp_path: Path) -> None:
    source = fixtures.gemma_scope_source(str(fixtures.write_gemma_scope(tmp_path)))
    path = tmp_path / "layer_0/width_16k/average_l0_105/params.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "W_dec": np.asfortranarray(arrays["W_dec"])})
    assert torch.equal(decoder_row(source, 0, 5), torch.from_numpy(arrays["W_dec"][5]))


def test_an_sae_is_float32_without_gradients_and_keeps_its_decoder_norms(tmp_path: Path) -> None:
    for name, source in fixtures.every_source(tmp_path).items():
        sae = load_sae(source, 0)
        assert {parameter.dtype for parameter in sae.parameters()} == {torch.float32}, name
        assert not any(parameter.requires_grad for parameter in sae.parameters()), name
        norms = sae.W_dec.norm(dim=-1)
        assert norms.max() > 1.2 * norms.min(), name
    stored = fixtures.sae_arrays(0)["W_dec"]
    sae = load_sae(fixtures.every_source(tmp_path / "again")["jumprelu"], 0)
    assert torch.equal(sae.W_dec, torch.from_numpy(stored))


def test_gemma_scope_arrays_load_as_sae_lens_loads_them(scope: SaeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens.loading import pretrained_sae_loaders as theirs

    folder = Path(scope.release) / "layer_1/width_16k/average_l0_102"
    monkeypatch.setattr(theirs, "hf_hub_download", lambda **_: str(folder / "params.npz"))
    shapes = {"d_in": fixtures.D_MODEL, "d_sae": fixtures.WIDTH, "neuronpedia_id": None}
    cfg, state, _ = theirs.gemma_2_sae_huggingface_loader(
        "google/gemma-scope-2b-pt-res", "layer_1/width_16k/average_l0_102", cfg_overrides=shapes
    )
    sae = load_sae(scope, 1)
    assert all(torch.equal(getattr(sae, name), value) for name, value in state.items())
    expected = theirs.handle_config_defaulting(cfg)
    for key in ("architecture", "d_in", "d_sae", "apply_b_dec_to_input", "normalize_activations"):
        assert sae.cfg.to_dict()[key] == expected[key], key
    for key in ("hook_name", "prepend_bos", "context_size", "dataset_path"):
        assert sae.cfg.metadata[key] == expected["metadata"][key], key


def test_llama_scope_loads_as_sae_lens_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as theirs

    root = fixtures.write_llama_scope(tmp_path / "repo")
    snapshot = fixtures.add_to_hub_cache(tmp_path / "cache", "fnlp/Llama3_1-8B-Base-LXR-8x", root)
    fixtures.use_hub_cache(monkeypatch, tmp_path / "cache")

    def local(repo_id: str, filename: str, subfolder: str = "", **_: Any) -> str:
        return str(snapshot / subfolder / filename)

    monkeypatch.setattr(theirs, "hf_hub_download", local)
    expected = SAE.from_pretrained("llama_scope_lxr_8x", "l0r_8x")
    source = replace(load_profile("llama-3.1-8b").sae, revision=fixtures.SHA, width=fixtures.WIDTH)
    sae = load_sae(source, 0)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        assert torch.equal(getattr(sae, name), getattr(expected, name)), name
    x = residuals()
    assert torch.equal(load_encoder(source, 0).encode(x), expected.encode(x))
    assert torch.equal(decoder_row(source, 0, 4), expected.W_dec[4])


def test_saes_that_sae_lens_saved_load_again(tmp_path: Path) -> None:
    source = fixtures.every_source(tmp_path)["jumprelu"]
    sae = load_sae(source, 2)
    sae.save_model(tmp_path / "saved" / "layer_2")
    again = load_sae(replace(source, release=str(tmp_path / "saved")), 2)
    assert torch.equal(again.encode(residuals()), sae.encode(residuals()))
    assert again.cfg.metadata.hook_name == "blocks.2.hook_resid_post"


@pytest.mark.parametrize(
    ("profile", "release"), [("gemma-2-2b", "gemma-scope-2b-pt-res"), ("gemma-2-9b", "gemma-scope-9b-pt-res")]
)
def test_every_layer_of_a_gemma_profile_resolves_to_the_folder_with_l0_nearest_100(profile: str, release: str) -> None:
    chosen = load_profile(profile)
    everything = registered_release(release)
    assert everything is not None
    paths = [entry["path"] for entry in everything["saes"]]
    assert sae_layers(chosen.sae) == list(range(chosen.n_layers))
    for layer in range(chosen.n_layers):
        sae = locate_sae(chosen.sae, layer)
        prefix = f"layer_{layer}/width_16k/"
        nearest = canonical_folder([path for path in paths if path.startswith(prefix)])
        assert sae.folder == nearest
        assert (sae.repo, sae.layout) == (f"google/{release}", "gemma_scope")
        assert sae.neuronpedia_id == f"{profile}/{layer}-gemmascope-res-16k"


def test_known_canonical_folders_of_gemma_2_2b_are_found() -> None:
    source = load_profile("gemma-2-2b").sae
    folders = {layer: locate_sae(source, layer).folder.rpartition("_")[2] for layer in (0, 2, 13, 20, 23, 25)}
    assert folders == {0: "105", 2: "141", 13: "84", 20: "71", 23: "75", 25: "116"}


def test_every_layer_of_the_llama_profile_resolves() -> None:
    profile = load_profile("llama-3.1-8b")
    assert sae_layers(profile.sae) == list(range(profile.n_layers))
    sae = locate_sae(profile.sae, 31)
    assert (sae.repo, sae.folder) == ("fnlp/Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L31R-8x")
    assert sae.layout == "llama_scope"
    assert sae.norm_scaling_factor is not None


def test_the_registry_block_equals_what_sae_lens_reads() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    theirs = get_pretrained_saes_directory()
    for name in ("gemma-scope-2b-pt-res-canonical", "llama_scope_lxr_8x", next(iter(theirs)), list(theirs)[-1]):
        ours = registered_release(name)
        assert ours is not None
        assert {entry["id"]: str(entry["path"]) for entry in ours["saes"]} == theirs[name].saes_map
        assert (ours["repo_id"], ours.get("conversion_func")) == (theirs[name].repo_id, theirs[name].conversion_func)


def test_a_pinned_repository_is_read_from_the_cache_without_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = fixtures.sae_arrays(9)
    folder = tmp_path / "repo" / "layer_20/width_16k/average_l0_71"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **arrays)
    cache = fixtures.use_hub_cache(monkeypatch, tmp_path / "cache")
    fixtures.add_to_hub_cache(cache, "google/gemma-scope-2b-pt-res", tmp_path / "repo", ref="other")
    source = replace(load_profile("gemma-2-2b").sae, revision=fixtures.SHA, width=fixtures.WIDTH)
    identity = sae_identity(source, 20)
    assert identity == (
        "gemma-scope-2b-pt-res-canonical",
        "layer_20/width_16k/canonical",
        fixtures.SHA,
        None,
        "blocks.20.hook_resid_post",
        "resid_post",
        20,
        "gemma-2-2b/20-gemmascope-res-16k",
    )
    assert np.array_equal(load_encoder(source, 20).W_enc.numpy(), arrays["W_enc"])
    with pytest.raises(UsageError, match=r"google/gemma-scope-2b-pt-res .*layer_19.* run `run\.py fetch`"):
        load_encoder(source, 19)
    with pytest.raises(UsageError, match="in the hub's cache here"):
        load_encoder(replace(source, revision="f" * 40), 20)


def test_a_repository_in_sae_lenss_format_is_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fixtures.use_hub_cache(monkeypatch, tmp_path / "cache")
    root = fixtures.write_sae_lens(tmp_path / "repo")
    fixtures.add_to_hub_cache(cache, "someone/saes", root)
    source = fixtures.sae_lens_source("someone/saes", local=False, revision=fixtures.SHA)
    expected = load_sae(fixtures.sae_lens_source(str(root)), 1)
    assert torch.equal(load_sae(source, 1).W_enc, expected.W_enc)
    assert sae_identity(source, 1).revision == fixtures.SHA


def test_the_identity_of_a_local_sae_follows_its_content(scope: SaeSource) -> None:
    before = sae_identity(scope, 2)
    folder = Path(scope.release) / "layer_2/width_16k/average_l0_141"
    assert (before.layer, before.site, before.revision) == (2, "resid_post", None)
    assert before.digest == content_digest(folder)
    np.savez(folder / "params.npz", **fixtures.sae_arrays(77))
    assert sae_identity(scope, 2).digest != before.digest


def test_the_neuronpedia_page_comes_from_the_profile_or_is_absent(scope: SaeSource) -> None:
    source = load_profile("gemma-2-2b").sae
    assert neuronpedia_url(source, 19, 5441) == "https://www.neuronpedia.org/gemma-2-2b/19-gemmascope-res-16k/5441"
    assert neuronpedia_url(scope, 1, 3) is None


def test_loading_an_encoder_does_not_import_sae_lens(scope: SaeSource) -> None:
    code = (
        "import sys\n"
        "from common.profiles import SaeSource\n"
        "from common_simplified.sae_loader import decoder_row, load_encoder, load_gemma_scope_sae, sae_identity\n"
        f"place = ({scope.release!r}, {scope.id_pattern!r}, 'gemma_scope', 'resid_post', {scope.width})\n"
        "source = SaeSource(*place, local=True)\n"
        "encoder = load_encoder(source, 1)\n"
        "decoder_row(source, 1, 0), sae_identity(source, 1)\n"
        "heavy = {'sae_lens', 'transformer_lens', 'transformers'}\n"
        "print(encoder.d_in, encoder.d_sae, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2) == ["16", "24", "[]\n"]


def test_the_gemma_scope_shortcut_reads_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(sae_loader, "open_sae_files", lambda *arguments: asked.append(arguments) or pytest.fail("read"))
    with pytest.raises(pytest.fail.Exception):
        sae_loader.load_gemma_scope_sae(20)
    profile = load_profile("gemma-2-2b")
    assert asked == [(profile.sae, 20, 2304)]


def test_each_array_is_read_once(scope: SaeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    from common_simplified.sae_files import SaeFiles

    read: list[str] = []
    original = SaeFiles._read

    def counted(self: SaeFiles, name: str) -> torch.Tensor:
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(SaeFiles, "_read", counted)
    load_encoder(scope, 0)
    assert sorted(read) == ["W_enc", "b_enc", "threshold"]
    read.clear()
    load_sae(scope, 0)
    assert sorted(read) == ["W_dec", "W_enc", "b_dec", "b_enc", "threshold"]


def test_configurations_written_before_version_6_of_sae_lens_load(tmp_path: Path) -> None:
    root = fixtures.write_sae_lens(tmp_path, n_layers=1)
    old = {
        "architecture": "jumprelu",
        "d_in": fixtures.D_MODEL,
        "d_sae": fixtures.WIDTH,
        "dtype": "torch.float32",
        "device": "cpu",
        "hook_name": "blocks.0.hook_resid_post",
        "model_name": "tiny",
        "activation_fn_str": "relu",
        "normalize_activations": "none",
    }
    (root / "layer_0/cfg.json").write_text(json.dumps(old))
    source = fixtures.sae_lens_source(str(root))
    sae, encoder = load_sae(source, 0), load_encoder(source, 0)
    assert sae.cfg.apply_b_dec_to_input
    assert torch.equal(encoder.encode(residuals()), sae.encode(residuals()))
    assert encoder.hook_name == "blocks.0.hook_resid_post"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", sae_identity(source, 0).digest or "")


def test_the_metadata_decide_where_an_sae_reads_even_against_its_folder(tmp_path: Path) -> None:
    changes = {"metadata": {"hook_name": "blocks.1.hook_resid_pre"}}
    source = fixtures.sae_lens_source(str(fixtures.write_sae_lens(tmp_path, n_layers=1, **changes)))
    identity = sae_identity(source, 0)
    assert (identity.layer, identity.site) == (1, "resid_pre")


def test_a_top_k_sae_keeps_its_k_largest_features_and_none_that_is_negative(tmp_path: Path) -> None:
    pre = torch.tensor([[3.0, -1.0, 2.0, 1.0], [-1.0, -2.0, 4.0, -3.0]])
    assert sae_loader.top_k(pre, 2).tolist() == [[3.0, 0.0, 2.0, 0.0], [0.0, 0.0, 4.0, 0.0]]
    encoder = load_encoder(fixtures.every_source(tmp_path)["topk"], 0)
    assert encoder.k == 5 and int((encoder.encode(residuals()) > 0).sum(dim=1).max()) == 5


def test_a_top_k_sae_that_ranks_by_decoder_norm_equals_sae_lens(tmp_path: Path) -> None:
    folder = fixtures.write_sae_lens(tmp_path, architecture="topk", k=5, rescale_acts_by_decoder_norm=True)
    source = fixtures.sae_lens_source(str(folder))
    sae, encoder, x = load_sae(source, 0), load_encoder(source, 0), residuals()
    expected = sae.encode(x)
    torch.testing.assert_close(encoder.encode(x), expected, rtol=1e-5, atol=1e-5)
    plain = sae_loader.top_k(x @ sae.W_enc + sae.b_enc, 5)
    assert not torch.equal(plain > 0, expected > 0), "ranking by the decoder's norm chose the same features"
    rows = torch.stack([decoder_row(source, 0, index) for index in range(fixtures.WIDTH)])
    torch.testing.assert_close(encoder.encode(x) @ rows + sae.b_dec, sae.decode(expected), rtol=1e-5, atol=1e-4)
