"""The engine on the bundled tiny model: batches, early stopping, and captured vectors, over real problems."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch

from common.dataset_loading import load_mbpp
from common.execution.extraction import extract_code, names_used_by_tests, solution_finished
from common.problems import Problem
from common.profiles import load_profile, resolve_local
from common.prompt_utils import PromptBuilder
from common_simplified.generation import BatchResult, GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer, tokenize_prompts
from common_simplified.sites import HookPoint

PROFILE = load_profile("organism")
MAX_NEW_TOKENS = PROFILE.settings["max_new_tokens"]
POINTS = [HookPoint(layer, "resid_post") for layer in range(PROFILE.n_layers)]
SIZES = [pytest.param(100, marks=pytest.mark.smoke), pytest.param(974, marks=pytest.mark.slow)]
BATCH = 50


@cache
def loaded() -> LoadedModel:
    return load_model_and_tokenizer(str(resolve_local(PROFILE.model)), device="cpu")


@cache
def problems() -> tuple[Problem, ...]:
    return tuple(load_mbpp(PROFILE.dataset).problems)


def request(problem: Problem, *, stops: bool = True) -> Request:
    needed = names_used_by_tests(problem.test_list, problem.test_setup_code)
    finished = partial(solution_finished, entry_point=problem.entry_point, also_needed=needed)
    return Request(PromptBuilder().build(problem), finished if stops else lambda text: False)


def generate(count: int, batch: int, *, stops: bool = True) -> list[BatchResult]:
    engine = GenerationEngine(loaded(), max_new_tokens=MAX_NEW_TOKENS, points=POINTS)
    chosen = problems()[:count]
    return [
        engine.generate([request(problem, stops=stops) for problem in chosen[first : first + batch]])
        for first in range(0, count, batch)
    ]


@cache
def stopped(count: int) -> tuple[BatchResult, ...]:
    return tuple(generate(count, BATCH))


@pytest.mark.parametrize("count", SIZES)
def test_batched_and_single_generation_give_the_same_tokens_and_vectors(count: int) -> None:
    together = [row for result in stopped(count) for row in result.rows]
    vectors = {point: torch.cat([result.captured[point] for result in stopped(count)]) for point in POINTS}
    for index, alone in enumerate(generate(count, 1)):
        assert alone.rows[0].tokens == together[index].tokens, problems()[index].task_id
        for point in POINTS:
            torch.testing.assert_close(alone.captured[point][0], vectors[point][index], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("count", SIZES)
def test_stopping_early_gives_the_code_of_running_on(count: int) -> None:
    early = [row for result in stopped(count) for row in result.rows]
    whole = [row for result in generate(count, BATCH, stops=False) for row in result.rows]
    goes_on = 0
    for problem, short, long in zip(problems(), early, whole, strict=False):
        needed = names_used_by_tests(problem.test_list, problem.test_setup_code)
        codes = [extract_code(row.text, entry_point=problem.entry_point, also_needed=needed) for row in (short, long)]
        assert codes[0] == codes[1], problem.task_id
        assert long.text.startswith(short.text), problem.task_id
        goes_on += len(long.tokens) > len(short.tokens)
    assert goes_on >= 0.3 * count, f"only {goes_on} of {count} outputs go on past the solution"


@pytest.mark.smoke
def test_captured_vectors_equal_hidden_states_and_transformer_lens_in_every_layer() -> None:
    from transformer_lens.model_bridge import TransformerBridge

    prompts = [PromptBuilder().build(problem) for problem in problems()[:8]]
    captured = stopped(100)[0].captured
    bridge = TransformerBridge.boot_transformers(str(resolve_local(PROFILE.model)), device="cpu", dtype=torch.float32)
    for row, prompt in enumerate(prompts):
        ids, _ = tokenize_prompts(loaded().tokenizer, [prompt])
        with torch.no_grad():
            hidden = loaded().model(input_ids=ids, output_hidden_states=True).hidden_states
            _, cache = bridge.run_with_cache(ids, names_filter=[str(point) for point in POINTS])
        for point in POINTS:
            vector = captured[point][row]
            torch.testing.assert_close(vector, cache[str(point)][0, -1], atol=1e-3, rtol=1e-4)
            if point.layer + 1 < PROFILE.n_layers:
                torch.testing.assert_close(vector, hidden[point.layer + 1][0, -1], atol=1e-3, rtol=1e-4)
            else:
                with torch.no_grad():
                    normed = loaded().model.model.norm(vector)
                torch.testing.assert_close(normed, hidden[-1][0, -1], atol=1e-3, rtol=1e-4)
