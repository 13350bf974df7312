"""Captured vectors are the residual stream: against Hugging Face's own tuple and TransformerLens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sites import HookPoint, parse_hook_name, reading_module
from tests.common_simplified.conftest import PROMPTS

pytestmark = pytest.mark.numeric


def forward(loaded: LoadedModel, prompts: tuple[str, ...], **options: object) -> object:
    ids, mask = tokenize_prompts(loaded.tokenizer, prompts)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        return loaded.model(input_ids=ids, attention_mask=mask, position_ids=positions, **options)


def captured(loaded: LoadedModel, prompts: tuple[str, ...], points: list[HookPoint], **options: object) -> dict:
    with ActivationExtractor(loaded.model, points, **options) as extractor:
        forward(loaded, prompts)
    return extractor.get_activations()


def test_resid_post_equals_the_next_entry_of_hidden_states_in_every_block_but_the_last(loaded: LoadedModel) -> None:
    n_layers = loaded.model.config.num_hidden_layers
    hidden = forward(loaded, PROMPTS, output_hidden_states=True).hidden_states
    found = captured(loaded, PROMPTS, [HookPoint(layer, "resid_post") for layer in range(n_layers)])
    for layer in range(n_layers - 1):
        assert torch.equal(found[HookPoint(layer, "resid_post")], hidden[layer + 1][:, -1])


def test_the_last_block_is_read_before_the_final_norm(loaded: LoadedModel) -> None:
    last = loaded.model.config.num_hidden_layers - 1
    hidden = forward(loaded, PROMPTS, output_hidden_states=True).hidden_states
    vector = captured(loaded, PROMPTS, [HookPoint(last, "resid_post")])[HookPoint(last, "resid_post")]
    assert not torch.allclose(vector, hidden[-1][:, -1], atol=1e-3)
    with torch.no_grad():
        assert torch.allclose(loaded.model.model.norm(vector), hidden[-1][:, -1], atol=1e-5)


def test_resid_pre_is_the_output_of_the_block_before(loaded: LoadedModel) -> None:
    points = [HookPoint(2, "resid_pre"), HookPoint(1, "resid_post")]
    found = captured(loaded, PROMPTS, points)
    assert torch.equal(found[points[0]], found[points[1]])


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_every_site_of_every_block_equals_transformer_lens(tiny_model: Path, loaded: LoadedModel, site: str) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(tiny_model), device="cpu", dtype=torch.float32)
    points = [HookPoint(layer, site) for layer in range(loaded.model.config.num_hidden_layers)]
    for prompt in PROMPTS:
        ids, _ = tokenize_prompts(loaded.tokenizer, [prompt])
        with torch.no_grad():
            _, cache = bridge.run_with_cache(ids, names_filter=[str(point) for point in points])
        found = captured(loaded, (prompt,), points)
        for point in points:
            torch.testing.assert_close(found[point], cache[str(point)][:, -1], atol=2e-5, rtol=1e-5)


def test_a_batch_of_different_prompts_captures_what_each_captures_alone(loaded: LoadedModel) -> None:
    points = [HookPoint(layer, "resid_post") for layer in range(loaded.model.config.num_hidden_layers)]
    together = captured(loaded, PROMPTS, points)
    for row, prompt in enumerate(PROMPTS):
        alone = captured(loaded, (prompt,), points)
        for point in points:
            torch.testing.assert_close(together[point][row], alone[point][0], atol=1e-5, rtol=1e-5)


def test_all_positions_end_with_the_last_one(loaded: LoadedModel) -> None:
    point = HookPoint(1, "resid_post")
    every = captured(loaded, PROMPTS, [point], all_positions=True)[point]
    last = captured(loaded, PROMPTS, [point])[point]
    assert every.ndim == 3 and torch.equal(every[:, -1], last)


def test_layers_by_number_are_read_at_the_named_site(loaded: LoadedModel) -> None:
    with ActivationExtractor(loaded.model, [0, 2], site="resid_pre") as extractor:
        forward(loaded, PROMPTS)
    assert list(extractor.get_activations()) == [HookPoint(0, "resid_pre"), HookPoint(2, "resid_pre")]


def test_only_the_prefill_of_a_generation_is_captured(loaded: LoadedModel) -> None:
    point = HookPoint(1, "resid_post")
    ids, mask = tokenize_prompts(loaded.tokenizer, PROMPTS)
    with ActivationExtractor(loaded.model, [point]) as extractor:
        loaded.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=4, do_sample=False)
    torch.testing.assert_close(extractor.get_activations()[point], captured(loaded, PROMPTS, [point])[point])


def test_hooks_are_removed_when_the_forward_pass_fails(loaded: LoadedModel) -> None:
    module = reading_module(loaded.model, HookPoint(1, "resid_post"))
    before = len(module._forward_pre_hooks)
    with pytest.raises(RuntimeError, match="stop here"), ActivationExtractor(loaded.model, [1]):
        assert len(module._forward_pre_hooks) == before + 1
        raise RuntimeError("stop here")
    assert len(module._forward_pre_hooks) == before


def test_a_point_that_no_pass_reached_is_an_error(loaded: LoadedModel) -> None:
    extractor = ActivationExtractor(loaded.model, [1])
    extractor.setup_hooks()
    extractor.remove_hooks()
    with pytest.raises(AssertionError, match="blocks.1.hook_resid_post"):
        extractor.get_activations()


def test_a_layer_that_does_not_exist_is_refused_with_the_ones_that_do(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="layers 0 to 3"):
        ActivationExtractor(loaded.model, [4]).setup_hooks()


def test_a_hook_name_means_a_point_and_a_foreign_one_is_refused() -> None:
    assert parse_hook_name("blocks.12.hook_resid_mid") == HookPoint(12, "resid_mid")
    with pytest.raises(UsageError, match="blocks.N.hook_SITE"):
        parse_hook_name("model.layers.12")


def test_neighbours_end_at_the_embedding_and_at_the_final_norm() -> None:
    assert HookPoint(0, "resid_post").shifted(-1, 4) == HookPoint(0, "resid_pre")
    assert HookPoint(3, "resid_post").shifted(1, 4) is None
    assert HookPoint(3, "resid_pre").shifted(1, 4) == HookPoint(3, "resid_post")
    assert HookPoint(0, "resid_pre").shifted(-1, 4) is None
    assert HookPoint(1, "resid_mid").shifted(1, 4) == HookPoint(2, "resid_mid")
