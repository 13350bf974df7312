"""SAEs that cannot be used: each is refused in one line that names what was found and what was expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UsageError
from common.profiles import SaeSource, load_profile
from common_simplified.sae_loader import decoder_row, load_encoder, load_sae, sae_identity
from tests.common_simplified import fixtures

pytestmark = pytest.mark.numeric


@pytest.fixture
def scope(tmp_path: Path) -> SaeSource:
    return fixtures.gemma_scope_source(str(fixtures.write_gemma_scope(tmp_path / "scope")))


def test_a_layer_out_of_range_is_refused_with_what_exists(scope: SaeSource) -> None:
    with pytest.raises(UsageError, match=r"no SAE for layer 7 \(it has 0-2\); did you mean 2\?"):
        load_encoder(scope, 7)
    with pytest.raises(UsageError, match=r"no SAE for layer 26 \(it has 0-25\); did you mean 25\?"):
        load_sae(load_profile("gemma-2-2b"), 26)
    with pytest.raises(UsageError, match="did you mean 'gemma-scope-2b-pt-res-canonical'"):
        load_sae(replace(scope, release="gemma-scope-2b-pt-res-canonica", local=False), 1)


def test_the_nearest_of_the_layers_that_exist_is_suggested(scope: SaeSource) -> None:
    for old, new in ((1, 5), (2, 9)):
        (Path(scope.release) / f"layer_{old}").rename(Path(scope.release) / f"layer_{new}")
    for layer, nearest in ((6, 5), (8, 9), (2, 0), (20, 9)):
        with pytest.raises(UsageError, match=rf"layer {layer} \(it has 0, 5, 9\); did you mean {nearest}\?"):
            load_encoder(scope, layer)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 64]) + data[middle + 64 :])


@pytest.mark.parametrize("how", ["truncated", "empty", "altered"])
def test_a_damaged_npz_is_one_line(scope: SaeSource, how: str) -> None:
    damage(Path(scope.release) / "layer_0/width_16k/average_l0_105/params.npz", how)
    with pytest.raises(UsageError, match=r"params\.npz is damaged") as raised:
        load_sae(scope, 0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("how", ["truncated", "empty"])
def test_a_damaged_safetensors_file_is_one_line(tmp_path: Path, how: str) -> None:
    source = fixtures.every_source(tmp_path)["jumprelu"]
    damage(Path(source.release) / "layer_0/sae_weights.safetensors", how)
    for load in (load_sae, load_encoder, lambda *where: decoder_row(*where, 0)):
        with pytest.raises(UsageError, match=r"sae_weights\.safetensors is damaged"):
            load(source, 0)


def test_pickled_arrays_are_never_read(scope: SaeSource) -> None:
    path = Path(scope.release) / "layer_0/width_16k/average_l0_105/params.npz"
    np.savez(path, **{**dict(np.load(path)), "b_enc": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UsageError, match="damaged or not an array file"):
        load_encoder(scope, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, r"no array threshold .*\(it holds W_dec, W_enc, b_dec, b_enc\)"),
        ({"W_enc": (16, 23)}, r"W_enc has shape \(16, 23\), expected \(16, 24\)"),
        ({"W_enc": (15, 24)}, r"W_enc has shape \(15, 24\), expected \(16, 24\) for d_model 16"),
        ({"W_dec": (16, 24)}, r"W_dec has shape \(16, 24\), expected \(24, 16\)"),
        ({"b_dec": (24,)}, r"b_dec has shape \(24,\), expected \(16,\)"),
        ({"threshold": (1,)}, r"threshold has shape \(1,\), expected \(24,\)"),
        ({"W_enc": (24,)}, r"W_enc has shape \(24,\), expected \(d_model, width\)"),
    ],
)
def test_wrong_arrays_are_named_with_what_was_expected(
    tmp_path: Path, changes: dict[str, tuple[int, ...] | None], message: str
) -> None:
    profile = fixtures.tiny_profile(tmp_path)
    path = tmp_path / "saes/layer_0/width_16k/average_l0_105/params.npz"
    arrays = dict(np.load(path))
    for name, shape in changes.items():
        del arrays[name]
        if shape is not None:
            arrays[name] = np.ones(shape, dtype=np.float32)
    np.savez(path, **arrays)
    for load in (load_sae, load_encoder, sae_identity):
        with pytest.raises(UsageError, match=message):
            load(profile, 0)


def test_an_sae_of_another_model_or_width_is_refused(tmp_path: Path) -> None:
    profile = fixtures.tiny_profile(tmp_path)
    with pytest.raises(UsageError, match=r"expected \(32, 24\) for d_model 32"):
        load_encoder(replace(profile, d_model=32), 0)
    with pytest.raises(UsageError, match=r"expected \(16, 512\) for d_model 16 and width 512"):
        load_encoder(replace(profile.sae, width=512), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gated"}, "has architecture 'gated', expected jumprelu, standard, topk"),
        ({"architecture": "topk"}, r"cfg\.json is not a configuration of an SAE"),
        ({"architecture": "topk", "k": 0}, r"cfg\.json is not a configuration of an SAE"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm without being a top-k SAE"),
        ({"normalize_activations": "layer_norm"}, "has normalize_activations 'layer_norm', expected 'none'"),
        ({"metadata": {"hook_name": "blocks.0.hook_mlp_out"}}, r"blocks\.0\.hook_mlp_out.* is not of the form"),
        ({"metadata": {}}, r"cfg\.json is not a configuration of an SAE"),
    ],
)
def test_an_sae_that_cannot_be_used_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = fixtures.sae_lens_source(str(fixtures.write_sae_lens(tmp_path, n_layers=1, **changes)))
    with pytest.raises(UsageError, match=message):
        load_encoder(source, 0)


def test_a_missing_file_or_index_is_refused(tmp_path: Path) -> None:
    source = fixtures.every_source(tmp_path)["jumprelu"]
    with pytest.raises(UsageError, match=r"has no feature 24 \(it has 0-23\)"):
        decoder_row(source, 0, fixtures.WIDTH)
    (Path(source.release) / "layer_0/cfg.json").unlink()
    with pytest.raises(UsageError, match=r"has no cfg\.json"):
        load_sae(source, 0)
    (Path(source.release) / "layer_1/cfg.json").write_text("{")
    with pytest.raises(UsageError, match=r"cfg\.json is not a configuration"):
        load_sae(source, 1)
    with pytest.raises(UsageError, match="does not exist; check sae.release"):
        load_sae(replace(source, release=str(tmp_path / "nowhere")), 1)


def test_arrays_of_whole_numbers_are_named_with_their_type(scope: SaeSource) -> None:
    path = Path(scope.release) / "layer_0/width_16k/average_l0_105/params.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "W_enc": (arrays["W_enc"] * 100).astype(np.int8)})
    for load in (load_encoder, load_sae, sae_identity):
        with pytest.raises(UsageError, match=r"params\.npz stores W_enc as int8, expected floating-point numbers"):
            load(scope, 0)


@pytest.mark.parametrize(("stored", "named"), [(np.int8, "I8"), (np.int32, "I32"), (np.bool_, "BOOL")])
def test_quantised_safetensors_are_refused_and_other_floats_are_read(tmp_path: Path, stored: Any, named: str) -> None:
    from safetensors.numpy import load_file, save_file

    source = fixtures.every_source(tmp_path)["jumprelu"]
    path = Path(source.release) / "layer_0/sae_weights.safetensors"
    arrays = load_file(path)
    save_file({**arrays, "W_enc": arrays["W_enc"].astype(np.float16)}, path)
    assert load_encoder(source, 0).W_enc.dtype.is_floating_point
    save_file({**arrays, "W_enc": arrays["W_enc"].astype(stored)}, path)
    with pytest.raises(UsageError, match=f"stores W_enc as {named}, expected one of F64, F32, F16, BF16"):
        load_encoder(source, 0)
