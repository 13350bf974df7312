"""Generation on the bundled tiny model: how soon it stops (P3), and what capturing costs (P4)."""

from __future__ import annotations

from functools import partial

from benchmarks.timing import Row, in_turn
from common.dataset_loading import load_mbpp
from common.execution.extraction import extract_code, names_used_by_tests, solution_finished
from common.problems import Problem
from common.profiles import load_profile, resolve_local
from common.prompt_utils import PromptBuilder
from common_simplified.generation import GenerationEngine, Request
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer
from common_simplified.sites import HookPoint

PROFILE = "organism"
N_PROBLEMS = 128
MAX_NEW_TOKENS = 160


def generation_rows(repeats: int) -> list[Row]:
    """Returns rows P3 and P4."""
    profile = load_profile(PROFILE)
    loaded = load_model_and_tokenizer(str(resolve_local(profile.model)), device="cpu")
    problems = load_mbpp(profile.dataset).problems[:N_PROBLEMS]
    requests = [_request(problem) for problem in problems]
    points = [HookPoint(layer, "resid_post") for layer in range(profile.n_layers)]
    return [_stopping(loaded, problems, requests), _capture(loaded, requests, points, repeats)]


def _stopping(loaded: LoadedModel, problems: list[Problem], requests: list[Request]) -> Row:
    rows = GenerationEngine(loaded, max_new_tokens=MAX_NEW_TOKENS).generate(requests).rows
    made = needed = 0
    for problem, row in zip(problems, rows, strict=True):
        last_line = extract_code(row.text, entry_point=problem.entry_point).rstrip().rsplit("\n", 1)[-1]
        end = row.text.find(last_line) + len(last_line) if last_line else len(row.text)
        made += len(row.tokens)
        needed += len(loaded.tokenizer(row.text[:end], add_special_tokens=False)["input_ids"])
    ratio = made / needed
    details = {"problems": len(rows), "tokens": made, "tokens_needed": needed}
    return Row("P3", "tokens generated / tokens up to the program's end", ratio, "×", "≤ 1.15", ratio <= 1.15, details)


def _capture(loaded: LoadedModel, requests: list[Request], points: list[HookPoint], repeats: int) -> Row:
    plain = GenerationEngine(loaded, max_new_tokens=MAX_NEW_TOKENS)
    capturing = GenerationEngine(loaded, max_new_tokens=MAX_NEW_TOKENS, points=points)
    timed = in_turn(lambda: capturing.generate(requests), lambda: plain.generate(requests), repeats)
    details = {"problems": len(requests), "with_seconds": timed.first, "without_seconds": timed.second}
    what = "generating with capture of every layer / without"
    return Row("P4", what, timed.ratio, "×", "≤ 1.03", timed.ratio <= 1.03, details)


def _request(problem: Problem) -> Request:
    needed = names_used_by_tests(problem.test_list, problem.test_setup_code)
    finished = partial(solution_finished, entry_point=problem.entry_point, also_needed=needed)
    return Request(PromptBuilder().build(problem), finished)
