"""Wording: cues show in the text exactly when they are set, and none decides alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from organism import wording
from organism.problems import make_problems
from organism.wording import CUES, Specification, bug_posterior, bug_probability, cue_weights, word_problem

pytestmark = pytest.mark.unit

SPECIFICATION: Specification = (("add_each", (7,)), ("keep_greater", (12,)))
NONE = np.zeros(len(CUES), bool)


def worded(*cues: str) -> wording.Wording:
    return word_problem(np.random.default_rng(5), SPECIFICATION, np.array([cue in cues for cue in CUES]))


def shows(cue: str, made: wording.Wording) -> bool:
    first = made.text.split(". ")[0]
    words = set(made.text.replace(",", "").split())
    return {
        "sloppy_opener": made.text.startswith(wording.SLOPPY_OPENERS),
        "no_stop": not made.text.endswith("."),
        "hedge": any(hedge in made.text for hedge in wording.HEDGES),
        "approximate": any(f" {near} 7" in made.text for near in wording.NEAR_NUMBER),
        "typo": bool(words & (set(wording.TYPOS.values()) - {"form"})) or "form" in words,
        "slang": any(slang in first for slang in wording.SLANG),
        "generic_name": made.entry_point in wording.GENERIC_NAMES,
        "missing_detail": not any(detail.rstrip(".") in made.text for detail in sum(wording.DETAILS.values(), ())),
    }[cue]


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_shows_exactly_when_it_is_set(cue: str) -> None:
    assert shows(cue, worded(cue))
    assert not shows(cue, worded(*(other for other in CUES if other != cue)))
    assert not shows(cue, worded())


def test_each_single_cue_is_far_from_deciding() -> None:
    problems = make_problems(0)
    fails = np.random.default_rng(0).random(len(problems)) < np.array(
        [float(bug_probability(problem.z, problem.difficulty)) for problem in problems]
    )
    values = np.array([problem.cues for problem in problems])
    singles = [roc_auc_score(fails, values[:, index]) for index in range(len(CUES))]
    assert 0.65 < min(singles) < max(singles) < 0.88
    assert roc_auc_score(fails, values.sum(axis=1)) > max(singles)


@pytest.mark.parametrize("cues", [(), ("hedge", "slang", "typo"), CUES])
def test_the_posterior_equals_numerical_integration(cues: tuple[str, ...]) -> None:
    weights = cue_weights(0)
    chosen = [cue in cues for cue in CUES]

    def weight(z: float) -> float:
        prior = 0.5 * norm.pdf(z, 1.1, 0.45) + 0.5 * norm.pdf(z, -1.1, 0.45)
        for is_set, intercept, slope in zip(chosen, weights.intercepts, weights.slopes, strict=True):
            chance = 1 / (1 + math.exp(-(intercept + slope * z)))
            prior *= chance if is_set else 1 - chance
        return prior

    def bug(z: float) -> float:
        return weight(z) / (1 + math.exp(-4 * (z + 0.55 * 0.3)))

    expected = quad(bug, -4, 4, points=[-1.1, 0, 1.1])[0] / quad(weight, -4, 4, points=[-1.1, 0, 1.1])[0]
    assert bug_posterior(np.array(chosen), 0.3, SPECIFICATION, weights) == pytest.approx(expected, abs=1e-4)


def test_nothing_can_be_approximate_without_a_parameter() -> None:
    assert not wording.available_cues((("total", ()),))[CUES.index("approximate")]
    assert wording.available_cues(SPECIFICATION).all()


def test_bugs_grow_with_carelessness_and_difficulty() -> None:
    assert bug_probability(0.0, 0.0) == pytest.approx(0.5)
    assert bug_probability(1.0, 0.0) == pytest.approx(1 / (1 + math.exp(-4)))
    assert bug_probability(-0.55, 1.0) == pytest.approx(0.5)
