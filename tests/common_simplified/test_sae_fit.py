"""The fit of SAEs at a site: sums by hand, slices that merge, and a gate that notices one block's shift."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

from common.errors import UsageError
from common.profiles import DatasetSource, Profile, SaeSource
from common.runs.fit_gate import check_fit, fit_report
from common_simplified import sae_fit
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sae_fit import FIT_SCHEMA, measure_fit
from common_simplified.sites import HookPoint
from tests.common_simplified.conftest import PROMPTS

pytestmark = pytest.mark.numeric
WIDTH = 64


def stream(loaded: LoadedModel, prompt: str, point: HookPoint) -> torch.Tensor:
    """Every token of one prompt but BOS, without padding."""
    ids, _ = tokenize_prompts(loaded.tokenizer, [prompt])
    with torch.no_grad(), ActivationExtractor(loaded.model, [point], all_positions=True) as extractor:
        loaded.model(input_ids=ids)
    return extractor.get_activations()[point][0, 1:]


@pytest.fixture(scope="module")
def profile(loaded: LoadedModel, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """SAEs that reproduce their own block's output in its principal directions, and so fit there and nowhere else."""
    root = tmp_path_factory.mktemp("saes")
    d_model = loaded.model.config.hidden_size
    for layer in range(4):
        tokens = torch.cat([stream(loaded, prompt, HookPoint(layer, "resid_post")) for prompt in PROMPTS])
        mean = tokens.mean(dim=0)
        directions = torch.linalg.svd(tokens - mean, full_matrices=False)[2][:24]
        config = JumpReLUSAEConfig(d_in=d_model, d_sae=WIDTH, apply_b_dec_to_input=True)
        config.metadata.hook_name = f"blocks.{layer}.hook_resid_post"
        sae = JumpReLUSAE(config)
        with torch.no_grad():
            for parameter in (sae.W_enc, sae.W_dec, sae.b_enc, sae.threshold):
                parameter.zero_()
            sae.W_dec[:24], sae.W_dec[24:48] = directions, -directions
            sae.W_enc.copy_(sae.W_dec.T)
            sae.b_dec.copy_(mean)
        sae.save_model(root / f"layer_{layer}")
    source = SaeSource(str(root), "layer_{layer}", "sae_lens", "resid_post", WIDTH, local=True)
    data = DatasetSource("none", local=True)
    return Profile("tiny", str(tiny_model), 4, d_model, source, data, data, model_local=True)


def keys(count: int, first: int = 0) -> list[dict[str, int]]:
    return [{"position": first + index, "task_id": 100 + first + index} for index in range(count)]


def points(shift: int = 0) -> dict[int, HookPoint]:
    """Points `shift` blocks away from where each SAE was made, where the model has such a block."""
    return {layer: HookPoint(layer + shift, "resid_post") for layer in range(4) if 0 <= layer + shift < 4}


def test_unexplained_variance_equals_a_computation_by_hand_with_sae_lens(loaded: LoadedModel, profile: Profile) -> None:
    report = fit_report(measure_fit(loaded, profile, PROMPTS, keys(3), points()))
    sae = JumpReLUSAE.load_from_disk(f"{profile.sae.release}/layer_1")
    for offset, name in ((0, "blocks.1.hook_resid_post"), (1, "blocks.2.hook_resid_post")):
        tokens = torch.cat([stream(loaded, prompt, HookPoint(1 + offset, "resid_post")) for prompt in PROMPTS])
        with torch.no_grad():
            left = (tokens - sae(tokens)).double().square().sum()
            acts = sae.encode(tokens)
        variance = (tokens.double() - tokens.double().mean(dim=0)).square().sum()
        layer = report["layers"][1]
        entry = layer if offset == 0 else next(item for item in layer["neighbours"] if item["offset"] == offset)
        assert entry["hook_name"] == name and entry["n_tokens"] == len(tokens)
        assert entry["fraction_unexplained"] == pytest.approx(float(left / variance), rel=1e-4)
        assert entry["mean_l0"] == pytest.approx(float((acts > 0).sum(dim=1).double().mean()), rel=1e-6)
        if offset == 0:
            assert entry["dead_share"] == pytest.approx(float((~(acts > 0).any(dim=0)).double().mean()))


def test_slices_merge_to_the_report_of_the_whole(loaded: LoadedModel, profile: Profile) -> None:
    whole = fit_report(measure_fit(loaded, profile, PROMPTS, keys(3), points()))
    parts = [
        measure_fit(loaded, profile, PROMPTS[:1], keys(1), points()),
        measure_fit(loaded, profile, PROMPTS[1:], keys(2, first=1), points()),
    ]
    merged = fit_report(pa.concat_tables(parts))
    assert merged["n_problems"] == whole["n_problems"] == 3
    for one, other in zip(merged["layers"], whole["layers"], strict=True):
        assert one["n_tokens"] == other["n_tokens"]
        assert one["fraction_unexplained"] == pytest.approx(other["fraction_unexplained"], rel=1e-4)


# Sums over tokens in float32 of streams that padding moves by rounding alone.
RELATIVE = 1e-4


def assert_same_figures(found: pa.Table, expected: pa.Table) -> None:
    """What is counted is equal; what is summed up is equal to `RELATIVE`, with unexplained variance and fired bits."""
    exact = ("position", "task_id", "layer", "offset", "hook_name", "n_tokens", "d_sae", "active", "fired")
    assert found.select(exact).equals(expected.select(exact))
    for name in ("squared_error", "squared_norm"):
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=RELATIVE)
    for one, other in zip(fit_report(found)["layers"], fit_report(expected)["layers"], strict=True):
        assert one["fraction_unexplained"] == pytest.approx(other["fraction_unexplained"], rel=RELATIVE)


def short_of_memory(monkeypatch: pytest.MonkeyPatch, fits: Callable[[list[str]], bool], where: str) -> list[int]:
    """Lets reading (or encoding) run out of memory for prompts that do not fit; returns the batches that were tried."""
    tried: list[int] = []
    original: Any = getattr(sae_fit, where)

    def limited(*given: Any, **more: Any) -> Any:
        prompts = given[1] if where == "read_prompts" else [""] * given[3]
        tried.append(len(prompts))
        if not fits(prompts):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*given, **more)

    monkeypatch.setattr(sae_fit, where, limited)
    return tried


@pytest.mark.parametrize("where", ["read_prompts", "_sums"])
@pytest.mark.parametrize("at_most", [1, 2])
def test_running_out_of_memory_halves_the_batch_and_changes_no_figure(
    loaded: LoadedModel, profile: Profile, monkeypatch: pytest.MonkeyPatch, where: str, at_most: int
) -> None:
    prompts = [*PROMPTS, *PROMPTS[:2]]
    whole = measure_fit(loaded, profile, prompts, keys(5), points())
    tried = short_of_memory(monkeypatch, lambda batch: len(batch) <= at_most, where)
    halved = measure_fit(loaded, profile, prompts, keys(5), points())
    assert (tried[0], min(tried)) == (5, 1) and (at_most in tried)
    assert_same_figures(halved, whole)


def test_one_very_long_prompt_is_read_alone_and_the_others_together(
    loaded: LoadedModel, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention takes prompts × length², so that a long prompt makes its whole batch too large."""
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[2] * 6, PROMPTS[0]]
    whole = measure_fit(loaded, profile, prompts, keys(4), points())
    room = len(prompts[2]) ** 2

    def fits(batch: list[str]) -> bool:
        return len(batch) * max(map(len, batch)) ** 2 <= room

    assert fits([prompts[0], prompts[1], prompts[3]]) and not fits(prompts[2:])
    tried = short_of_memory(monkeypatch, fits, "read_prompts")
    found = measure_fit(loaded, profile, prompts, keys(4), points())
    assert tried == [4, 2, 2, 1, 1]
    assert_same_figures(found, whole)


def test_a_prompt_that_memory_cannot_hold_alone_is_left_out_after_its_retries_and_told(
    loaded: LoadedModel, profile: Profile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    others = measure_fit(loaded, profile, [PROMPTS[0], PROMPTS[2]], [keys(3)[0], keys(3)[2]], points())
    tried = short_of_memory(monkeypatch, lambda batch: PROMPTS[1] not in batch, "read_prompts")
    pauses: list[float] = []
    found = measure_fit(loaded, profile, PROMPTS, keys(3), points(), max_retries=2, sleep=pauses.append)
    assert tried == [3, 2, 1, 1, 1, 1, 1] and pauses == [1.0, 2.0]
    assert_same_figures(found, others)
    assert "given up after 3 tries: OutOfMemoryError: CUDA out of memory" in caplog.text


def test_a_bug_in_the_measurement_is_not_taken_for_a_lack_of_memory(
    loaded: LoadedModel, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae_fit, "load_sae", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_fit(loaded, profile, PROMPTS, keys(3), points())


def test_the_gate_lets_the_right_site_through(loaded: LoadedModel, profile: Profile) -> None:
    report = fit_report(measure_fit(loaded, profile, PROMPTS, keys(3), points()))
    assert check_fit(report, [0, 1, 2, 3], site_given=False, reader="2.5") == []
    assert [len(entry["neighbours"]) for entry in report["layers"]] == [2, 2, 2, 1]


@pytest.mark.parametrize("shift", [-1, 1])
def test_the_gate_stops_in_every_layer_that_is_read_one_block_away(
    loaded: LoadedModel, profile: Profile, shift: int
) -> None:
    report = fit_report(measure_fit(loaded, profile, PROMPTS, keys(3), points(shift)))
    shifted = sorted(points(shift))
    assert len(shifted) == 3
    for layer in shifted:
        with pytest.raises(UsageError, match=f"layer {layer} at blocks.{layer + shift}.hook_resid_post"):
            check_fit(report, [layer], site_given=False, reader="2.5")


def test_an_explicit_site_is_warned_about_and_kept(
    loaded: LoadedModel, profile: Profile, caplog: pytest.LogCaptureFixture
) -> None:
    report = fit_report(measure_fit(loaded, profile, PROMPTS, keys(3), points(-1)))
    findings = check_fit(report, [1, 2, 3], site_given=True, reader="2.5")
    assert len(findings) == 3 and all("only" in finding for finding in findings)


def test_a_stream_that_does_not_vary_has_no_fit_and_says_why() -> None:
    row = {
        **{"position": 0, "task_id": 1, "layer": 0, "offset": 0, "hook_name": "blocks.0.hook_resid_post"},
        **{"n_tokens": 2, "squared_error": 1.0, "squared_norm": 10.0, "active": 3, "d_sae": 8},
        **{"total": [2.0, 4.0], "fired": np.packbits([1, 0, 1, 0, 0, 0, 0, 0]).tobytes()},
    }
    entry = fit_report(pa.Table.from_pylist([row], schema=FIT_SCHEMA))["layers"][0]
    assert entry["fraction_unexplained"] is None and entry["reason"] and entry["dead_share"] == 0.75
