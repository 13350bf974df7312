"""The engine against transformers' own `generate`, against itself in other batches, and at its limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common_simplified.generation import GenerationEngine, GenerationTimeout, Request
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.sampling import SampleKey, sample, uniforms
from common_simplified.sites import HookPoint
from common_simplified.stopping import decode
from tests.common_simplified.conftest import PROMPTS

pytestmark = pytest.mark.numeric
NEW_TOKENS = 24


def never(text: str) -> bool:
    return False


def requests(keys: list[SampleKey] | None = None, prompts: tuple[str, ...] = PROMPTS) -> list[Request]:
    return [Request(prompt, never, keys[row] if keys else None) for row, prompt in enumerate(prompts)]


def engine(loaded: LoadedModel, **options: object) -> GenerationEngine:
    return GenerationEngine(loaded, **{"max_new_tokens": NEW_TOKENS, **options})


def test_greedy_tokens_equal_those_of_transformers_generate(loaded: LoadedModel) -> None:
    ids, mask = tokenize_prompts(loaded.tokenizer, PROMPTS)
    expected = loaded.model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False
    )
    suppressed = engine(loaded)
    suppressed._end_tokens = frozenset()
    ends = set(engine(loaded)._end_tokens)
    rows = suppressed.generate(requests()).rows
    for row, tokens in zip(rows, expected[:, ids.shape[1] :].tolist(), strict=True):
        assert not ends & set(row.tokens), "choose another seed: this one ends its text"
        assert list(row.tokens) == tokens


def test_a_batch_gives_the_tokens_and_vectors_of_single_prompts(loaded: LoadedModel) -> None:
    points = [HookPoint(layer, "resid_post") for layer in range(4)]
    together = engine(loaded, points=points).generate(requests())
    for index, request in enumerate(requests()):
        alone = engine(loaded, points=points).generate([request])
        assert alone.rows[0] == together.rows[index]
        for point in points:
            torch.testing.assert_close(alone.captured[point][0], together.captured[point][index], atol=1e-5, rtol=1e-5)


def test_dropping_finished_rows_leaves_the_others_as_they_are(loaded: LoadedModel) -> None:
    whole = engine(loaded).generate(requests()).rows
    for stop_after in (1, 5, 11):
        calls: list[int] = []

        def soon(text: str, limit: int = stop_after, calls: list[int] = calls) -> bool:
            calls.append(len(text))
            return len(text) >= limit

        first, *others = requests()
        mixed = engine(loaded)
        mixed._newlines = frozenset(range(len(loaded.tokenizer)))
        rows = mixed.generate([Request(first.prompt, soon), *others]).rows
        assert rows[0].stop_reason == "function_end" and whole[0].text.startswith(rows[0].text) and calls
        assert [row.tokens for row in rows[1:]] == [row.tokens for row in whole[1:]]


def test_an_end_token_ends_a_row_and_is_counted_but_not_shown(loaded: LoadedModel) -> None:
    whole = engine(loaded).generate(requests()).rows[0]
    ended = engine(loaded)
    ended._end_tokens = frozenset({whole.tokens[3]})
    row = ended.generate(requests()).rows[0]
    cut = whole.tokens.index(whole.tokens[3]) + 1
    assert row.stop_reason == "eos" and row.tokens == whole.tokens[:cut]


def test_sampled_rows_depend_on_their_key_alone(loaded: LoadedModel) -> None:
    keys = [SampleKey(7, task, 0.9, number) for task, number in ((1, 0), (2, 0), (1, 1))]
    prompts = (PROMPTS[0],) * 3
    rows = engine(loaded).generate(requests(keys, prompts), temperature=0.9).rows
    assert len({row.tokens for row in rows}) == 3
    backwards = engine(loaded).generate(requests(keys[::-1], prompts), temperature=0.9).rows
    assert [row.tokens for row in backwards[::-1]] == [row.tokens for row in rows]
    alone = engine(loaded).generate([Request(PROMPTS[0], never, keys[1])], temperature=0.9).rows
    assert alone[0].tokens == rows[1].tokens


def test_samples_of_one_prompt_share_its_prefill_and_are_what_they_would_be_alone(loaded: LoadedModel) -> None:
    point = HookPoint(1, "resid_post")
    prompts = (PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[0])
    keys = [SampleKey(7, task, 0.9, number) for task, number in ((1, 0), (2, 0), (1, 1), (1, 2))]
    rows_of_prefill: list[int] = []
    block = loaded.model.model.layers[0]
    hook = block.register_forward_pre_hook(lambda module, args: rows_of_prefill.append(len(args[0])))
    try:
        shared = engine(loaded, points=[point]).generate(requests(keys, prompts), temperature=0.9)
    finally:
        hook.remove()
    assert rows_of_prefill[0] == 2 and rows_of_prefill[1] == 4
    for index, (prompt, key) in enumerate(zip(prompts, keys, strict=True)):
        alone = engine(loaded, points=[point]).generate([Request(prompt, never, key)], temperature=0.9)
        assert alone.rows[0] == shared.rows[index]
        torch.testing.assert_close(alone.captured[point][0], shared.captured[point][index], atol=1e-5, rtol=1e-5)


def test_sampling_follows_the_softmax_at_its_temperature() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    draws = torch.from_numpy(uniforms(SampleKey(0, 1, 0.7, 0), 20_000))
    chosen = sample(logits.expand(len(draws), -1), 0.7, draws)
    share = np.bincount(chosen.numpy(), minlength=4) / len(draws)
    expected = np.exp(logits.numpy()[0] / 0.7) / np.exp(logits.numpy()[0] / 0.7).sum()
    assert np.abs(share - expected).max() < 0.01


def test_a_draw_beyond_the_last_step_of_the_distribution_stays_inside_the_vocabulary() -> None:
    logits = torch.full((1, 5), -50.0)
    logits[0, 4] = 0.0
    assert sample(logits, 1.0, torch.tensor([0.0])).item() == 0 or sample(logits, 1.0, torch.tensor([0.5])).item() == 4
    assert sample(logits, 1.0, torch.tensor([np.nextafter(1.0, 0.0)])).item() == 4


def test_the_first_draws_do_not_depend_on_how_many_are_asked_for() -> None:
    key = SampleKey(3, 11, 0.3, 2)
    assert np.array_equal(uniforms(key, 10), uniforms(key, 500)[:10])


def test_a_row_at_its_limit_says_so(loaded: LoadedModel) -> None:
    row = engine(loaded, max_new_tokens=3).generate(requests()).rows[0]
    assert row.stop_reason == "max_new_tokens" and len(row.tokens) == 3
    assert row.text == decode(loaded.tokenizer, row.tokens)


def test_prompt_lengths_do_not_count_padding_and_begin_with_one_bos(loaded: LoadedModel) -> None:
    rows = engine(loaded, max_new_tokens=1).generate(requests()).rows
    assert [row.n_prompt_tokens for row in rows] == [len(prompt) + 1 for prompt in PROMPTS]


def test_a_batch_that_takes_too_long_is_an_error_that_names_the_setting(loaded: LoadedModel) -> None:
    with pytest.raises(GenerationTimeout, match="generation_timeout_seconds"):
        engine(loaded, timeout_seconds=0.0).generate(requests())


def test_the_model_of_these_tests_writes_varied_text(loaded: LoadedModel) -> None:
    assert all(len(set(row.tokens)) > 8 for row in engine(loaded).generate(requests()).rows)


def test_the_soft_cap_of_attention_is_in_force(loaded: LoadedModel) -> None:
    """Attention logits of this model meet the cap, so an engine that dropped it would not notice its removal."""
    import copy

    capped = engine(loaded).generate(requests()).rows
    model = copy.deepcopy(loaded.model)
    for block in model.model.layers:
        block.self_attn.attn_logit_softcapping = 1e9
    uncapped = engine(loaded._replace(model=model)).generate(requests()).rows
    assert [row.tokens for row in capped] != [row.tokens for row in uncapped]
