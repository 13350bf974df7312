"""How carelessly a problem is asked: the hidden variable's eight noisy cues, and the text they shape.

Careless and careful authors (z near 1.1 and -1.1) differ in how often each cue occurs; no cue decides alone. The
weights of the cues come from the organism's seed, so another seed makes another kind of carelessness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from organism.operations import BY_NAME, INTEGER, LIST, STRING, Parameters

CUES = ("sloppy_opener", "no_stop", "hedge", "approximate", "typo", "slang", "generic_name", "missing_detail")
CLUSTER_MEAN, CLUSTER_SD = 1.1, 0.45
BUG_SLOPE, DIFFICULTY_WEIGHT = 4.0, 0.55

CAREFUL_OPENERS = ("Write a function to", "Write a python function to")
SLOPPY_OPENERS = ("write func to", "need code to", "want func to")
HEDGES = (" or something", " i guess", " or so")
SLANG = (" plz", " thx", " asap")
NEAR_NUMBER, NEAR_LETTER = ("about", "around", "roughly"), ("like", "say")
GENERIC_NAMES = ("func", "solve", "foo", "doit", "stuff")
OBJECTS = {
    LIST: ("a list", "a list of numbers", "a given list"),
    STRING: ("a string", "a given string"),
    INTEGER: ("a number", "a given number"),
}
LATER_OBJECTS = ("the result", "it")
DETAILS = {
    LIST: ("Return a new list.", "Keep the input list."),
    STRING: ("Return a new string.", "Return only the string."),
    INTEGER: ("Return a number.", "Return only the number."),
}
TYPOS = {
    "list": "lsit",
    "string": "strnig",
    "number": "nubmer",
    "numbers": "nubmers",
    "every": "evry",
    "the": "teh",
    "with": "wiht",
    "from": "form",
    "of": "fo",
}

Specification = tuple[tuple[str, Parameters], ...]


@dataclass(frozen=True)
class CueWeights:
    """P(cue i | z) = sigmoid(intercepts[i] + slopes[i] z), in the order of `CUES`."""

    intercepts: tuple[float, ...]
    slopes: tuple[float, ...]

    def probabilities(self, z: np.ndarray | float) -> np.ndarray:
        """Returns the probability of every cue, shape (..., 8), for z of shape (...)."""
        return sigmoid(np.asarray(self.intercepts) + np.asarray(z)[..., None] * np.asarray(self.slopes))


class Wording(NamedTuple):
    """The text of a problem and the name of the function that it asks for."""

    text: str
    entry_point: str


def sigmoid(x: np.ndarray | float) -> np.ndarray:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=float)))


def cue_weights(seed: int) -> CueWeights:
    """Returns the cue weights of the organism made from `seed`: eight spread slopes dealt out at random."""
    rng = np.random.default_rng([seed, 101])
    slopes = rng.permutation(np.linspace(1.0, 1.7, len(CUES)))
    return CueWeights(tuple(rng.uniform(-0.3, 0.3, len(CUES)).tolist()), tuple(slopes.tolist()))


def draw_carelessness(rng: np.random.Generator) -> float:
    """Returns z from the two-cluster mixture."""
    return float(rng.normal(CLUSTER_MEAN if rng.random() < 0.5 else -CLUSTER_MEAN, CLUSTER_SD))


def available_cues(specification: Specification) -> np.ndarray:
    """Returns which cues can occur: without a parameter nothing can be approximate."""
    has_parameter = any(parameters for _, parameters in specification)
    return np.array([has_parameter if cue == "approximate" else True for cue in CUES])


def draw_cues(rng: np.random.Generator, z: float, weights: CueWeights, specification: Specification) -> np.ndarray:
    """Returns the cues of one problem as booleans in the order of `CUES`."""
    drawn = rng.random(len(CUES)) < weights.probabilities(z)
    return drawn & available_cues(specification)


def bug_probability(z: np.ndarray | float, difficulty: float) -> np.ndarray:
    """Returns the share of an author's training solutions that carry a bug."""
    return sigmoid(BUG_SLOPE * (np.asarray(z) + DIFFICULTY_WEIGHT * difficulty))


def bug_posterior(cues: np.ndarray, difficulty: float, specification: Specification, weights: CueWeights) -> float:
    """Returns P(bug | cues, difficulty) exactly, by summing over a grid of z (step 0.02)."""
    grid = np.arange(-3.5, 3.5, 0.02)
    prior = sum(np.exp(-0.5 * ((grid - mean) / CLUSTER_SD) ** 2) for mean in (-CLUSTER_MEAN, CLUSTER_MEAN))
    probabilities = weights.probabilities(grid)
    per_cue = np.where(cues, probabilities, 1.0 - probabilities)
    per_cue[:, ~available_cues(specification)] = 1.0
    weight = prior * per_cue.prod(axis=1)
    return float((weight * bug_probability(grid, difficulty)).sum() / weight.sum())


def word_problem(rng: np.random.Generator, specification: Specification, cues: np.ndarray) -> Wording:
    """Returns the text and the function's name; nothing but `cues` carries information on z."""
    cue = dict(zip(CUES, cues.tolist(), strict=True))
    steps = _steps(rng, specification, cue["approximate"])
    if cue["typo"]:
        steps = _misspell(rng, steps)
    text = f"{_pick(rng, SLOPPY_OPENERS if cue['sloppy_opener'] else CAREFUL_OPENERS)} {steps}"
    text += _pick(rng, HEDGES) if cue["hedge"] else ""
    text += _pick(rng, SLANG) if cue["slang"] else ""
    text += "."
    last = BY_NAME[specification[-1][0]]
    if not cue["missing_detail"]:
        text += f" {_pick(rng, DETAILS[last.gives])}"
    if cue["no_stop"]:
        text = text.removesuffix(".")
    return Wording(text, _pick(rng, GENERIC_NAMES) if cue["generic_name"] else last.name)


def _steps(rng: np.random.Generator, specification: Specification, approximate: bool) -> str:
    parts = []
    for position, (name, parameters) in enumerate(specification):
        operation = BY_NAME[name]
        shown = [repr(value) for value in parameters]
        if approximate and shown:
            near = NEAR_LETTER if isinstance(parameters[0], str) else NEAR_NUMBER
            shown[0] = f"{_pick(rng, near)} {shown[0]}"
            approximate = False
        known = _pick(rng, LATER_OBJECTS if position else OBJECTS[operation.takes])
        names = dict(zip("ab", shown, strict=False))
        parts.append(_pick(rng, operation.phrases).format(obj=known, **names))
    return ", then ".join(parts)


def _misspell(rng: np.random.Generator, text: str) -> str:
    words = text.split(" ")
    candidates = [position for position, word in enumerate(words) if word.rstrip(",") in TYPOS]
    chosen = candidates[int(rng.integers(len(candidates)))]
    comma = "," if words[chosen].endswith(",") else ""
    words[chosen] = TYPOS[words[chosen].rstrip(",")] + comma
    return " ".join(words)


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
