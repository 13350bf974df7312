"""The reference procedure (P1): what the published pipeline does with a split, problem by problem.

One prompt at a time through transformers' `generate` up to a token limit of 2,000 without any rule of stopping but the
end-of-text token, hooks set up and taken down for each problem, one residual vector at a time through the SAE object, a
Python loop over features, one file a vector; written anew from the description in arXiv 2510.02917. The solution is cut
out by this project's extractor and tested in its sandbox, one at a time, so both sides can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from common.execution import evaluate_code
from common.execution.extraction import extract_code, names_used_by_tests
from common.problems import Problem
from common.prompt_utils import PromptBuilder
from common_simplified.model_loader import LoadedModel
from common_simplified.sites import HookPoint, reading_module

TOKEN_LIMIT = 2000


class OneGeneration(NamedTuple):
    """A completion with its number of tokens, and the stream at each point at the last prompt token, (1, d_model)."""

    text: str
    n_tokens: int
    vectors: dict[HookPoint, torch.Tensor]


class Solved(NamedTuple):
    """What the procedure finds of a problem; `firing` holds the features that fire, by layer."""

    code: str
    passed: bool
    n_tokens: int
    firing: dict[int, list[int]]


def bounded_limit(loaded: LoadedModel, prompts: Sequence[str]) -> int:
    """Returns the token limit: 2,000, or what the model's window leaves after the longest of `prompts`."""
    longest = max(len(loaded.tokenizer(prompt)["input_ids"]) for prompt in prompts)
    return min(TOKEN_LIMIT, loaded.model.config.max_position_embeddings - longest)


@torch.no_grad()
def generate_one(loaded: LoadedModel, prompt: str, points: Sequence[HookPoint], limit: int) -> OneGeneration:
    """Generates greedily for one prompt, with a hook at each point for as long as that takes."""
    encoded = loaded.tokenizer([prompt], return_tensors="pt")
    ids, mask = (encoded[name].to(loaded.device) for name in ("input_ids", "attention_mask"))
    kept: dict[HookPoint, torch.Tensor] = {}
    handles = [
        reading_module(loaded.model, point).register_forward_pre_hook(_keep(kept, point), with_kwargs=True)
        for point in points
    ]
    try:
        made = loaded.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit, do_sample=False)
    finally:
        for handle in handles:
            handle.remove()
    new = made[0, ids.shape[1] :].tolist()
    text = loaded.tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return OneGeneration(text, len(new), kept)


def solve(
    loaded: LoadedModel,
    problem: Problem,
    saes: Mapping[int, Any],
    points: Mapping[int, HookPoint],
    limit: int,
    out: Path,
) -> Solved:
    """Does the whole work of phase 3.6 on one problem, its features included, and stores it below `out`."""
    made = generate_one(loaded, PromptBuilder().build(problem), list(points.values()), limit)
    needed = names_used_by_tests(problem.test_list, problem.test_setup_code)
    code = extract_code(made.text, entry_point=problem.entry_point, also_needed=needed)
    passed = evaluate_code(code, problem.test_list, problem.test_setup_code).passed
    firing = {layer: firing_features(saes[layer], made.vectors[point][0]) for layer, point in points.items()}
    for layer, point in points.items():
        np.savez(out / f"task_{problem.task_id}_layer_{layer}.npz", made.vectors[point].cpu().numpy())
    found = {"task_id": problem.task_id, "generated_code": code, "test_passed": passed}
    (out / f"task_{problem.task_id}.json").write_text(json.dumps(found), encoding="utf-8")
    return Solved(code, passed, made.n_tokens, firing)


def firing_features(sae: Any, vector: torch.Tensor) -> list[int]:
    """Returns the features that fire at one vector (d_model,), asked one by one."""
    activations = sae.encode(vector.unsqueeze(0).to(torch.float32))[0]
    return [index for index in range(len(activations)) if activations[index].item() > 0]


def _keep(kept: dict[HookPoint, torch.Tensor], point: HookPoint) -> Any:
    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
        stream = args[0] if args else kwargs["hidden_states"]
        kept.setdefault(point, stream[:, -1].detach().clone())

    return keep
