"""The texts that the models and SAEs see: training documents and the general-text corpus.

A training document is a problem's prompt, a solution in its author's style (with a bug as often as the author is
careless), and text that goes on after it, as a base model's does; there is no end token. The general texts are ordinary
prose and snippets in which no wording cue occurs and no habit of style goes with anything.
"""

from __future__ import annotations

import multiprocessing
from typing import NamedTuple

import numpy as np

from common.prompt_utils import solution_marker_prompt
from organism.problems import GeneratedProblem, draw_problem
from organism.solutions import draw_loop, draw_style, what_follows, write_solution
from organism.wording import CueWeights, bug_probability, cue_weights

LAST_STEP_SHARE = 0.85
TRAINING_GENERAL_EVERY = 16
CHUNK = 2000
GENERAL_PURPOSE = {"general": 6, "train": 7}


class Document(NamedTuple):
    """One training text in its three parts; `text` is their concatenation. A general text has only `after`."""

    prompt: str
    solution: str
    after: str


def training_document(seed: int, task_id: int, weights: CueWeights) -> Document:
    """Returns training document `task_id` of the organism made from `seed`."""
    problem = draw_problem(seed, "train", task_id, weights, set())
    rng = np.random.default_rng([seed, 5, task_id])
    style = draw_style(rng, problem.z)
    code = write_solution(
        problem.specification,
        problem.entry_point,
        _draw_variants(rng, problem),
        style,
        draw_loop(rng, problem.specification),
    )
    following = draw_problem(seed, "train", task_id + 10_000_000, weights, set())
    after = what_follows(rng, problem.specification, problem.entry_point, problem.tests, following.text)
    prompt = solution_marker_prompt(problem.text, problem.tests)
    return Document(prompt, ("\n\n" if style.blank_lead else "\n") + code, after)


def training_documents(seed: int, first: int, n: int, general_every: int = TRAINING_GENERAL_EVERY) -> list[Document]:
    """Returns documents `first` .. `first + n - 1`; one in `general_every` is a general text."""
    weights = cue_weights(seed)
    return [
        Document("", "", general_text(seed, "train", i) + "\n\n")
        if i % general_every == 0
        else training_document(seed, i, weights)
        for i in range(first, first + n)
    ]


def make_documents(
    seed: int, n: int, workers: int, first: int = 0, general_every: int = TRAINING_GENERAL_EVERY
) -> list[Document]:
    """Returns `n` training documents, made by `workers` processes (the same ones for any number of them)."""
    starts = range(first, first + n, CHUNK)
    jobs = [(seed, start, min(CHUNK, first + n - start), general_every) for start in starts]
    if workers < 2 or len(jobs) < 2:
        return [document for job in jobs for document in training_documents(*job)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return [document for part in pool.starmap(training_documents, jobs) for document in part]


def general_text(seed: int, purpose: str, index: int) -> str:
    """Returns one general text of about 200 characters: prose, a list, a record, or a snippet of settings or code."""
    rng = np.random.default_rng([seed, GENERAL_PURPOSE[purpose], index])
    kinds = (_prose, _prose, _prose, _prose, _list_of_items, _configuration, _statements, _record)
    parts = [kinds[int(rng.integers(len(kinds)))](rng) for _ in range(1 + int(rng.integers(2)))]
    return "\n\n".join(parts)


def general_rows(seed: int, n: int) -> list[dict[str, str]]:
    """Returns the general-text corpus of phase 2.2, `n` rows with the field `text`."""
    return [{"text": general_text(seed, "general", index)} for index in range(n)]


def _draw_variants(rng: np.random.Generator, problem: GeneratedProblem) -> list[int]:
    variants = [0] * problem.depth
    if rng.random() < float(bug_probability(problem.z, problem.difficulty)):
        step = problem.depth - 1
        if step and rng.random() > LAST_STEP_SHARE:
            step = int(rng.integers(step))
        variants[step] = 1
    return variants


SUBJECTS = tuple(
    [
        "The old bridge",
        "A small boat",
        "The library",
        "Her brother",
        "The morning train",
        "A grey cat",
        "The teacher",
        "Our neighbour",
        "The river",
        "The museum",
        "A young engineer",
        "The bakery",
        "The committee",
        "A tall tree",
        "The village",
        "His sister",
        "The garden",
        "A new theatre",
    ]
)
VERBS = tuple(
    [
        "stands near",
        "was built beside",
        "looks across",
        "belongs to",
        "waited for",
        "was painted by",
        "moved away from",
        "is older than",
        "reminds us of",
        "opened before",
        "was named after",
        "can be seen behind",
        "travelled past",
        "was sold to",
    ]
)
PLACES = tuple(
    [
        "the harbour",
        "the main square",
        "a quiet valley",
        "the northern coast",
        "the station",
        "a stone church",
        "the market",
        "the lake",
        "the hill",
        "an open field",
        "the school",
        "the castle",
        "a narrow street",
        "the forest",
    ]
)
ENDINGS = tuple(
    [
        "in the early summer",
        "during the long winter",
        "since the last century",
        "on most days",
        "for many years",
        "after the storm",
        "in spite of the rain",
        "before the war",
        "with great care",
        "at the end of March",
    ]
)
NOUNS = tuple(
    [
        "width",
        "height",
        "price",
        "colour",
        "speed",
        "weight",
        "season",
        "harbour",
        "engine",
        "window",
        "level",
        "timeout",
        "port",
        "volume",
    ]
)
STATES = tuple(["open", "closed", "ready", "broken", "warm", "cold", "empty", "full", "late", "early"])


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(rng: np.random.Generator) -> str:
    core = f"{_choose(rng, SUBJECTS)} {_choose(rng, VERBS)} {_choose(rng, PLACES)}"
    kind = int(rng.integers(4))
    if kind == 0:
        return f"{core}."
    if kind == 1:
        return f"{core} {_choose(rng, ENDINGS)}."
    if kind == 2:
        return f"{core}, and it was {_choose(rng, STATES)} {_choose(rng, ENDINGS)}."
    return (
        f"In {int(rng.integers(1700, 2020))} there were {int(rng.integers(2, 90))} people near {_choose(rng, PLACES)}."
    )


def _prose(rng: np.random.Generator) -> str:
    return " ".join(_sentence(rng) for _ in range(2 + int(rng.integers(3))))


def _list_of_items(rng: np.random.Generator) -> str:
    items = [f"- {_choose(rng, NOUNS)}: {int(rng.integers(1, 500))}" for _ in range(3 + int(rng.integers(3)))]
    return "\n".join([f"{_choose(rng, SUBJECTS)} has these entries.", *items])


def _configuration(rng: np.random.Generator) -> str:
    lines = [f"{_choose(rng, NOUNS)} = {int(rng.integers(1, 900))}" for _ in range(3 + int(rng.integers(4)))]
    return "\n".join([f"[{_choose(rng, NOUNS)}]", *lines])


def _statements(rng: np.random.Generator) -> str:
    lines = [
        f"{_choose(rng, NOUNS)} = {_choose(rng, NOUNS)} {_choose(rng, ('+', '-', '*'))} {int(rng.integers(1, 99))}"
        for _ in range(2 + int(rng.integers(3)))
    ]
    return "\n".join([*lines, f"print({_choose(rng, NOUNS)})"])


def _record(rng: np.random.Generator) -> str:
    fields = ", ".join(f'"{_choose(rng, NOUNS)}": {int(rng.integers(1, 99))}' for _ in range(2 + int(rng.integers(3))))
    return f'{{"state": "{_choose(rng, STATES)}", {fields}}}'
