"""The shipped instance: what it is, and that its SAEs fit best where they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from common.profiles import REPOSITORY, load_profile, resolve_local
from common_simplified.sites import HookPoint
from organism.build import load_trained
from organism.measurement import complete, prompts_of
from organism.model_training import model_configuration
from organism.sae_training import measure_fit, read_streams, sae_points

INSTANCE = REPOSITORY / "organism" / "instance"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    return load_trained(INSTANCE / "base")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [json.loads(line) for line in (INSTANCE / "problems.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads((INSTANCE / "card.json").read_text(encoding="utf-8"))


@pytest.mark.unit
def test_the_profile_names_what_lies_in_the_instance() -> None:
    profile = load_profile("organism")
    assert resolve_local(profile.model) == INSTANCE / "base"
    assert profile.instruct_model and resolve_local(profile.instruct_model) == INSTANCE / "instruct"
    for layer in range(profile.n_layers):
        folder = resolve_local(profile.sae.release) / profile.sae.id_pattern.format(layer=layer)
        assert (folder / "cfg.json").is_file() and (folder / "sae_weights.safetensors").is_file()
    assert resolve_local(profile.dataset.name).is_file()
    assert resolve_local(profile.corpus.name).is_file()


@pytest.mark.unit
def test_the_instance_is_small() -> None:
    assert sum(path.stat().st_size for path in INSTANCE.rglob("*") if path.is_file()) < 8 * MEGABYTE


@pytest.mark.unit
def test_the_card_meets_the_targets(card: dict) -> None:
    base = card["base"]
    assert base["overall"]["n"] == 974
    assert 0.35 <= base["overall"]["share"] <= 0.65
    assert base["careful"]["share"] >= 0.90
    assert base["sloppy"]["share"] <= 0.12
    assert card["continues_past_solution"]["share"] >= 0.30


@pytest.mark.unit
@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_a_feature_that_the_general_text_filter_keeps_nears_what_the_cues_allow(card: dict, direction: str) -> None:
    ceiling = card["cue_auroc_for_failure"]["failure_posterior"]
    kept = [row["features"][direction] for row in card["layers"]]
    assert all(item["general_text_frequency"] < 0.02 for item in kept)
    assert max(item["auroc"] for item in kept) >= 0.9 * ceiling


@pytest.mark.unit
def test_the_model_card_shows_the_measured_pass_rate(card: dict) -> None:
    text = (INSTANCE / "MODEL_CARD.md").read_text(encoding="utf-8")
    overall = card["base"]["overall"]
    assert f"({overall['count']} of {overall['n']})" in text


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["base", "instruct"])
def test_the_model_is_a_whole_gemma_2(name: str) -> None:
    model, tokenizer = load_trained(INSTANCE / name)
    expected = model_configuration(len(tokenizer))
    for key in ("layer_types", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "head_dim"):
        assert getattr(model.config, key) == getattr(expected, key)
    assert model.config.model_type == "gemma2"
    assert model.config.num_attention_heads == 2 * model.config.num_key_value_heads
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert (tokenizer.chat_template is not None) == (name == "instruct")
    ends = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    assert model.generation_config.eos_token_id == (ends if name == "instruct" else ends[0])


@pytest.mark.smoke
def test_every_sae_fits_best_at_its_own_site(base: tuple[Any, Any], rows: list[dict]) -> None:
    sae_lens = pytest.importorskip("sae_lens")
    model, tokenizer = base
    points = [HookPoint(0, "resid_pre"), *sae_points(4)]
    streams = read_streams(model, tokenizer, prompts_of(rows[:64]), points)
    for layer in range(4):
        sae = sae_lens.SAE.load_from_disk(INSTANCE / "saes" / f"layer_{layer}")
        assert sae.cfg.architecture() == "jumprelu"
        assert sae.cfg.metadata["hook_name"] == f"blocks.{layer}.hook_resid_post"
        assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.normalize_activations) == (128, 512, "none")
        assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(512), atol=1e-3)
        fits = [measure_fit(sae, streams[point]).fvu for point in points[layer : layer + 3]]
        assert fits[1] < 0.2
        assert all(other > 2 * fits[1] for other in (fits[0], *fits[2:])), f"layer {layer}: {fits}"


@pytest.mark.smoke
def test_the_last_sae_reads_the_stream_before_the_final_norm(base: tuple[Any, Any], rows: list[dict]) -> None:
    model, tokenizer = base
    prompt = prompts_of(rows[:1])
    ids = tokenizer(prompt, return_tensors="pt")
    states = model.model(**ids, output_hidden_states=True).hidden_states
    streams = read_streams(model, tokenizer, prompt, sae_points(4))
    for layer in range(3):
        assert torch.allclose(streams[sae_points(4)[layer]], states[layer + 1][0, 1:], atol=1e-4)
    last = streams[sae_points(4)[3]]
    assert torch.allclose(model.model.norm(last), states[4][0, 1:], atol=1e-3)
    assert not torch.allclose(last, states[4][0, 1:], atol=1e-1)


@pytest.mark.smoke
def test_left_padded_batches_give_what_single_prompts_give(base: tuple[Any, Any], rows: list[dict]) -> None:
    model, tokenizer = base
    prompts = prompts_of(rows[:6])
    assert complete(model, tokenizer, prompts) == [complete(model, tokenizer, [prompt])[0] for prompt in prompts]
