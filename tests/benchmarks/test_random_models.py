"""Random models have the shape that they name, and rows of scripted lengths."""

from __future__ import annotations

import pytest
import torch

from benchmarks.random_models import BOS, GEMMA_2_2B, LONGEST_PROMPT, PAD, CharacterTokenizer, n_tokens, random_model
from benchmarks.workloads import Workload
from common.profiles import load_profile

pytestmark = pytest.mark.unit


def test_the_exact_shape_has_the_published_number_of_parameters_and_the_profiles_sizes() -> None:
    model = random_model(GEMMA_2_2B, "meta", torch.bfloat16).model
    assert sum(value.numel() for value in model.parameters()) == 2_614_341_888
    profile, config = load_profile("gemma-2-2b"), model.config
    assert (config.num_hidden_layers, config.hidden_size) == (profile.n_layers, profile.d_model)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)
    assert (config.query_pre_attn_scalar, config.sliding_window, config._attn_implementation) == (256, 4096, "eager")


def test_rows_become_exactly_as_long_as_scripted_in_any_batch(small: Workload) -> None:
    rows = small.engine().generate(small.requests).rows
    assert [len(row.tokens) for row in rows] == [8, 9, 10, 12]
    assert [row.stop_reason for row in rows] == ["function_end"] * 3 + ["function_end"]
    alone = small.engine().generate(small.requests[1:2]).rows[0]
    assert alone == rows[1]


def test_prompts_are_padded_on_the_left_begin_with_one_bos_and_are_cut() -> None:
    tokenizer = CharacterTokenizer(64)
    encoded = tokenizer(["abcdef", "abcdefg", "a" * 3 * LONGEST_PROMPT])
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    assert mask.sum(dim=1).tolist() == [3, 4, LONGEST_PROMPT]
    assert ids[0, :-3].unique().tolist() == [PAD] and ids[0, -3] == BOS == ids[2, 0]
    assert ids[0, -2:].tolist() == ids[1, -3:-1].tolist(), "a token depends on its own characters alone"
    assert int(ids.max()) < 64


@pytest.mark.parametrize(("characters", "tokens"), [(0, 1), (1, 1), (3, 1), (4, 2), (30, 10)])
def test_a_token_is_three_characters(characters: int, tokens: int) -> None:
    assert n_tokens("x" * characters) == tokens


def test_the_same_weights_are_made_each_time(small: Workload) -> None:
    from tests.benchmarks.conftest import SMALL

    again = random_model(SMALL).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in small.loaded.model.state_dict().items())
