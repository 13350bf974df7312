"""The steering hook for notebooks, and writing a point of the stream, against forward passes made by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import PipelineError
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sites import HookPoint, register_writer
from common_simplified.steering import SteeringHook, create_steering_hook
from tests.common_simplified.conftest import PROMPTS
from tests.common_simplified.steering_cases import (
    CLOSE,
    MODELS,
    batch,
    direction,
    logits,
    model_named,
    n_hooks,
)

pytestmark = pytest.mark.numeric


class _Attention(nn.Module):
    """Doubles its input, given as it is or with its weights."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden_states: torch.Tensor) -> Any:
        return (2 * hidden_states, "weights") if self.as_tuple else 2 * hidden_states


class _Block(nn.Module):
    """A Llama-like block: the stream plus attention, tripled by its 'MLP' beside the skip connection."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.self_attn = _Attention(as_tuple)
        self.post_attention_layernorm = nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        attention = self.self_attn(hidden_states)
        middle = hidden_states + (attention[0] if self.self_attn.as_tuple else attention)
        return middle + 3 * self.post_attention_layernorm(middle)


class _Decoder(nn.Module):
    """Two such blocks, which take the stream by position or by keyword, and a final norm."""

    def __init__(self, as_tuple: bool, by_keyword: bool) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.layers = nn.ModuleList([_Block(as_tuple), _Block(as_tuple)])
        self.model.norm = nn.Identity()
        self.by_keyword = by_keyword

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        for block in self.model.layers:
            stream = block(hidden_states=stream) if self.by_keyword else block(stream)
        return self.model.norm(stream)


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("by_keyword", [False, True])
def test_tensors_tuples_positions_and_keywords_are_all_written(as_tuple: bool, by_keyword: bool) -> None:
    """Each block is 12 x; one added before a block counts 12-fold after it, in its middle 4-fold."""
    model, stream = _Decoder(as_tuple, by_keyword), torch.ones(1, 2, 3)
    effects = {
        HookPoint(0, "resid_pre"): 144.0,
        HookPoint(0, "resid_mid"): 48.0,
        HookPoint(0, "resid_post"): 12.0,
        HookPoint(1, "resid_pre"): 12.0,
        HookPoint(1, "resid_mid"): 4.0,
        HookPoint(1, "resid_post"): 1.0,
    }
    for point, effect in effects.items():
        handle = register_writer(model, point, lambda value: value + 1.0)
        assert torch.equal(model(stream), torch.full((1, 2, 3), 144.0 + effect)), point
        handle.remove()
        assert torch.equal(model(stream), torch.full((1, 2, 3), 144.0)), point


def test_a_steering_hook_is_a_forward_pre_hook_with_and_without_keywords() -> None:
    module, stream = _Block(as_tuple=False), torch.ones(1, 2, 3)
    hook = create_steering_hook(torch.tensor([1.0, 0.0, -1.0]), 2.0, steer_generated=True)
    expected = 12 * (stream + torch.tensor([2.0, 0.0, -2.0]))
    for with_kwargs in (False, True):
        handle = module.register_forward_pre_hook(hook, with_kwargs=with_kwargs)
        assert torch.equal(module(stream), expected)
        if with_kwargs:
            assert torch.equal(module(hidden_states=stream), expected)
        else:
            with pytest.raises(AssertionError, match="with_kwargs"):
                module(hidden_states=stream)
        handle.remove()
    assert hook.n_passes == hook.n_steered == 3


@pytest.mark.parametrize("steer_generated", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_generated_tokens_are_steered_under_generate_only_if_asked(
    loaded: LoadedModel, name: str, steer_generated: bool
) -> None:
    """By hand: what enters block 0 is the embedding, so steering there is adding to the embeddings, without a hook."""
    case = model_named(name, loaded)
    point, added = HookPoint(0, "resid_pre"), 2.0 * direction(case)
    ids, mask = tokenize_prompts(case.tokenizer, PROMPTS[:1])
    hook = create_steering_hook(direction(case), 2.0, steer_generated=steer_generated)
    with hook.on(case.model, point, expected_passes=4):
        output = case.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert hook.n_passes == 4 and hook.n_steered == (4 if steer_generated else 1)
    embed = case.model.get_input_embeddings()
    with torch.no_grad():
        passed = case.model(inputs_embeds=embed(ids) + added, use_cache=True)
        torch.testing.assert_close(output.logits[0], passed.logits[:, -1], **CLOSE)
        for step in range(1, 4):
            new = embed(output.sequences[:, ids.shape[1] + step - 1].unsqueeze(1))
            both = [
                case.model(
                    inputs_embeds=new + moved, past_key_values=copy.deepcopy(passed.past_key_values), use_cache=True
                )
                for moved in (torch.zeros_like(added), added)
            ]
            assert (both[0].logits - both[1].logits).abs().amax() > 0.1
            passed = both[steer_generated]
            torch.testing.assert_close(output.logits[step], passed.logits[:, -1], **CLOSE)


def test_a_padded_row_under_a_steering_hook_is_as_it_is_alone(loaded: LoadedModel) -> None:
    hook = create_steering_hook(direction(loaded), 1.5, steer_generated=False)
    with hook.on(loaded.model, HookPoint(1, "resid_mid"), expected_passes=4):
        together = logits(loaded, PROMPTS)
        for row, prompt in enumerate(PROMPTS):
            alone = logits(loaded, (prompt,))
            torch.testing.assert_close(together[row, -alone.shape[1] :], alone[0], **CLOSE)


def test_a_hook_that_no_pass_or_too_few_passes_went_through_is_an_error(loaded: LoadedModel) -> None:
    before = n_hooks(loaded.model)
    hook = create_steering_hook(direction(loaded), 1.0, steer_generated=True)
    with pytest.raises(PipelineError, match="0 of 1 forward passes"), hook.on(loaded.model, HookPoint(1, "resid_mid")):
        pass
    three = hook.on(loaded.model, HookPoint(1, "resid_post"), expected_passes=3)
    with pytest.raises(PipelineError, match="1 of 3 forward passes"), three:
        logits(loaded, PROMPTS[:1])
    assert n_hooks(loaded.model) == before


def test_a_steering_hook_is_removed_after_an_exception_which_is_not_hidden(loaded: LoadedModel) -> None:
    before = n_hooks(loaded.model)
    hook = SteeringHook(direction(loaded), 1.0, steer_generated=True)
    with pytest.raises(RuntimeError, match="stop here"), hook.on(loaded.model, HookPoint(1, "resid_post")):
        assert n_hooks(loaded.model) == before + 1
        raise RuntimeError("stop here")
    assert n_hooks(loaded.model) == before


def test_a_hook_on_a_compiled_model_that_ignores_it_is_an_error(loaded: LoadedModel) -> None:
    torch._dynamo.reset()
    model = copy.deepcopy(loaded.model)
    compiled = torch.compile(model, backend="eager")
    ids = batch(loaded, PROMPTS[:1])["input_ids"]
    with torch.no_grad():
        compiled(ids)
        hook = create_steering_hook(direction(loaded), 1.0, steer_generated=True)
        with pytest.raises(PipelineError, match="compile"), hook.on(model, HookPoint(1, "resid_post")):
            compiled(ids)
    torch._dynamo.reset()
