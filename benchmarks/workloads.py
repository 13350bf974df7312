"""What benchmarks generate: the bundled tiny model's own problems, or rows of scripted lengths on random weights.

Scripted rows have the prompts of MBPP's problems and become as long as their references are, from the file that
`BENCH_MBPP` names or that lies in `../shared/data`; the tiny model's problems serve where there is neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.random_models import MIDDLE, Shape, n_tokens, random_model
from benchmarks.sandbox_rows import source
from common.dataset_loading import load_mbpp
from common.execution.extraction import names_used_by_tests, solution_finished
from common.problems import Problem
from common.profiles import load_profile, resolve_local
from common.prompt_utils import PromptBuilder
from common_simplified.captured_decoding import cuda_graph
from common_simplified.generation import BatchResult, GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.sites import HookPoint

PROFILE = "organism"
TINY = "the tiny model"
TINY_MODEL = resolve_local(load_profile(PROFILE).model)
OWN_LENGTHS = "until the solution is finished"
TINY_LIMIT = 160
LONGEST_NEW = 512
MIDDLE_ROWS, MIDDLE_LIMIT = 16, 48


@dataclass(frozen=True)
class Workload:
    """A model, what it is asked, and the limit of new tokens; `lengths` says what decides how long rows become."""

    name: str
    loaded: LoadedModel
    problems: Sequence[Problem]
    requests: list[Request]
    limit: int
    lengths: str

    @property
    def points(self) -> list[HookPoint]:
        """The output of every block."""
        return [HookPoint(layer, "resid_post") for layer in range(self.loaded.model.config.num_hidden_layers)]

    def first(self, count: int) -> Workload:
        """Returns the same with its first `count` rows only."""
        return replace(self, problems=self.problems[:count], requests=self.requests[:count])

    def engine(self, **options: object) -> GenerationEngine:
        """Returns an engine on the model, with the workload's limit, which decodes as phases do by default."""
        own = {"capture": cuda_graph if self.loaded.device.type == "cuda" else None, **options}
        return GenerationEngine(self.loaded, max_new_tokens=self.limit, **own)  # type: ignore[arg-type]


def tiny(rows: int) -> Workload:
    """Returns the bundled model on its own problems, each row until its solution is finished."""
    profile = load_profile(PROFILE)
    loaded = load_model_and_tokenizer(str(TINY_MODEL), device="cpu")
    problems = load_mbpp(profile.dataset).problems[:rows]
    return Workload(TINY, loaded, problems, [_request(problem) for problem in problems], TINY_LIMIT, OWN_LENGTHS)


def middle(rows: int = MIDDLE_ROWS) -> Workload:
    """Returns a mid-size random model on the CPU, with scripted lengths."""
    return scripted(MIDDLE, rows, longest=MIDDLE_LIMIT)


def scripted(
    shape: Shape,
    rows: int,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    longest: int = LONGEST_NEW,
) -> Workload:
    """Returns a random model of `shape` whose rows become as long as the references of `rows` problems."""
    path, name = source()
    lengths = f"those of the references of {name}, at most {longest} tokens"
    return scripted_on(random_model(shape, device, dtype), spread(load_mbpp(path).problems, rows), lengths, longest)


def scripted_on(loaded: LoadedModel, problems: Sequence[Problem], lengths: str, longest: int = LONGEST_NEW) -> Workload:
    """Returns a model of random weights with the prompts of `problems` and the lengths of their references."""
    tokens = [min(n_tokens(problem.code), longest) for problem in problems]
    prompts = PromptBuilder()
    requests = [
        Request(prompts.build(problem), partial(_has_length, length=length))
        for problem, length in zip(problems, tokens, strict=True)
    ]
    return Workload(loaded.name, loaded, problems, requests, max(tokens), lengths)


def spread(problems: Sequence[Problem], rows: int) -> list[Problem]:
    """Returns `rows` of the problems, spread evenly over them."""
    return [problems[place * len(problems) // rows] for place in range(rows)]


def tokens_made(result: BatchResult) -> int:
    """Returns how many new tokens a batch has."""
    return sum(len(row.tokens) for row in result.rows)


def _request(problem: Problem) -> Request:
    needed = names_used_by_tests(problem.test_list, problem.test_setup_code)
    finished = partial(solution_finished, entry_point=problem.entry_point, also_needed=needed)
    return Request(PromptBuilder().build(problem), finished)


def _has_length(text: str, length: int) -> bool:
    return len(text) >= length
