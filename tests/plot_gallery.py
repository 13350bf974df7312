"""Every plot of the pipeline, from made-up data of full size and of the smallest: what the house tests look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from common import steering_plots
from common.conditions import RANDOM_DIRECTION, RANDOM_FEATURE, TARGET
from common.ranking_plots import firing_frequencies, score_by_layer
from common.sae_fit_plot import sae_fit_figure
from common.statistics.detection import classification_at, f1_optimal_threshold
from common.statistics.permutation import DIRECTIONS
from common.steering_effects import direction_effects
from experiment_pathway_token_analysis.src import network_plot, pathway_plots
from phase0.plots import complexity_histogram
from phase0_1.plots import split_difficulty
from phase3_5.temperature_plot import by_temperature
from phase3_8 import curve_plots, plots
from phase4_5.plots import coefficient_analysis
from phase7_6.plots import comparison_figure
from tests.common import test_steering_plots as steering
from tests.experiment_pathway_token_analysis import test_pathway_plots as pathway
from tests.phase3_8 import test_plots as detection
from tests.phase4_5 import test_plots as coefficients
from tests.phase7_6 import test_plots as both

LAYERS, WIDTH = 26, 16_384
COMPLEXITIES = np.repeat(np.arange(1, 17), [268, 250, 193, 121, 50, 30, 20, 12, 8, 6, 5, 4, 3, 2, 1, 1])
LONG = {"correct": "layer 25, feature 1,048,575", "incorrect": "layer 25, feature 1,048,574"}


def features() -> dict[str, np.ndarray]:
    """Layers and firing frequencies of all features of 26 SAEs on 489 problems, 147 of which were solved."""
    random, n = np.random.default_rng(1), LAYERS * WIDTH
    rate = np.where(random.random(n) < 0.3, 0, random.beta(0.25, 4, n))
    shifted = np.clip(rate + (random.random(n) < 0.002) * random.normal(0, 0.25, n), 0, 1)
    return {
        "layer": np.repeat(np.arange(LAYERS), WIDTH),
        "f_correct": random.binomial(147, shifted) / 147,
        "f_incorrect": random.binomial(342, rate) / 342,
    }


def score_landscape() -> Figure:
    of = features()
    return score_by_layer(of["layer"], of["f_correct"] - of["f_incorrect"], "separation score", 0.16, -0.16, 489, 1000)


def frequencies() -> Figure:
    of = features()
    order = np.argsort(of["f_incorrect"] - of["f_correct"])
    return firing_frequencies(of["f_correct"], of["f_incorrect"], order[:20], order[::-1][:20], 147, 342)


def sae_fit(n_layers: int, neighbour: float | None) -> Figure:
    def entry(layer: int) -> dict[str, Any]:
        beside = [{"offset": offset, "fraction_unexplained": neighbour} for offset in (-1, 1)]
        own = {"fraction_unexplained": None if neighbour is None else 0.1 + 0.005 * layer, "reason": "it does not vary"}
        sizes = {"n_tokens": 5995, "mean_l0": 50.0 + 3 * layer, "dead_share": 0.3, "d_sae": WIDTH}
        return {"layer": layer, "hook_name": f"blocks.{layer}.hook_resid_post", **own, **sizes, "neighbours": beside}

    note = "no SAEs were trained on this model: the base model's SAEs read its stream"
    return sae_fit_figure({"n_problems": 64, "note": note, "layers": [entry(layer) for layer in range(n_layers)]})


def splits() -> Figure:
    parts = {"sae": COMPLEXITIES[::2], "hyperparams": COMPLEXITIES[1::10], "validation": COMPLEXITIES[3::5] + 30}
    distances = {"sae-hyperparams": 0.009, "sae-validation": 0.006, "hyperparams-validation": 0.01}
    return split_difficulty({name: values.tolist() for name, values in parts.items()}, distances)


def temperatures(n: int) -> Figure:
    of = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 1940, "n_problems": 388, "reason": None}
    return by_temperature([0.3 * one for one in range(n)], [of] * n, {name: [of] * n for name in DIRECTIONS})


def detected(n: int, *, one_class: bool = False) -> dict[Any, plots.Detected]:
    random = np.random.default_rng(2)
    passed = random.random(n) < (1 if one_class else 0.3)
    rivals = {
        "logistic regression": (random.standard_normal(n) + passed)[:, None],
        "difference of class means": random.standard_normal((n, 1)),
        "random directions": random.standard_normal((n, 100)),
        "matched random features": np.maximum(random.standard_normal((n, 100)), 0),
        "prompt length": random.standard_normal((n, 1)),
        "cyclomatic complexity": random.integers(1, 7, (n, 1)),
    }
    scores = np.maximum(random.standard_normal(n) + 2 * passed, 0)
    found = {}
    for direction, own, positive in (("correct", scores, passed), ("incorrect", 3 - scores, ~passed)):
        of = detection.detected(own, positive)
        found[direction] = of._replace(feature=LONG[direction], rivals=rivals)
    return found


def thresholds(draw: Callable[..., Figure]) -> Figure:
    of = detected(388)
    chosen = {name: f1_optimal_threshold(one.scores, one.positive) for name, one in of.items()}
    at = {name: classification_at(one.scores, one.positive, chosen[name].threshold or 0.0) for name, one in of.items()}
    return draw(chosen, at, LONG) if draw is plots.f1_against_threshold else draw(at, LONG)


def steered(n_controls: int) -> dict[Any, Any]:
    arms = [steering.arm(TARGET, "correct", [4, 5]), steering.arm(TARGET, "incorrect", [0])]
    for kind in (RANDOM_FEATURE, RANDOM_DIRECTION):
        for direction in DIRECTIONS:
            arms += [steering.arm(kind, direction, [draw % 10] if draw % 3 else [], draw) for draw in range(n_controls)]
    return {name: direction_effects(arms, name) for name in DIRECTIONS}


def network(n_edges: int, n_layers: int, n_targets: int) -> Figure:
    return network_plot.network_figure(*pathway.graph(n_edges, n_layers, n_targets), {}, pathway.CLASSES)


def effect(n_edges: int, n_layers: int, n_targets: int) -> Figure:
    edges, _ = pathway.graph(n_edges, n_layers, n_targets)
    return pathway_plots.effect_figure(edges, {one["target"]: 0.5 for one in edges}, (0.5, 2.0))


NONE = np.empty(0, dtype=np.int64)
GALLERY: dict[str, Callable[[], Figure]] = {
    "complexity": lambda: complexity_histogram(COMPLEXITIES.tolist()),
    "complexity of one problem": lambda: complexity_histogram([1]),
    "complexity up to 60": lambda: complexity_histogram([1, 1, 2, 60]),
    "splits": splits,
    "splits of ten problems": lambda: split_difficulty({"sae": [1] * 5, "hyperparams": [1], "validation": [1] * 4}, {}),
    "fit of 26 layers": lambda: sae_fit(26, 3.0),
    "fit of one layer": lambda: sae_fit(1, 0.4),
    "fit that is not known": lambda: sae_fit(4, None),
    "scores of 26 layers": score_landscape,
    "scores of nothing": lambda: score_by_layer(NONE, NONE / 1, "Welch's t", math.inf, -math.inf, 3, 1),
    "frequencies of 26 layers": frequencies,
    "five temperatures": lambda: temperatures(5),
    "one temperature": lambda: temperatures(1),
    "ROC": lambda: curve_plots.roc_curves(detected(388)),
    "ROC of one class": lambda: curve_plots.roc_curves(detected(5, one_class=True)),
    "precision and recall": lambda: curve_plots.precision_recall_curves(detected(388)),
    "F1": lambda: thresholds(plots.f1_against_threshold),
    "confusion matrices": lambda: thresholds(plots.confusion_matrices),
    "score distributions": lambda: plots.score_distributions(detected(388), {"correct": 1.234, "incorrect": None}),
    "seven coefficients": lambda: coefficient_analysis(coefficients.panels([1, 3, 10, 30, 100, 300, 1000], chosen=300)),
    "effects of 78 controls": lambda: steering_plots.effects_figure(steered(39), steering.FLOOR),
    "effects of few controls on few problems": lambda: steering_plots.effects_figure(steering.effects((0, 4)), None),
    "78 controls": lambda: steering_plots.controls_figure(steered(39)),
    "no controls": lambda: steering_plots.controls_figure(steered(0)),
    "difficulty": lambda: steering_plots.difficulty_figure(steered(1)),
    "both models": lambda: comparison_figure(both.ROWS * 2),
    "network": lambda: network(60, 26, 20),
    "network of 500 edges": lambda: network(700, 26, 120),
    "no network": lambda: network_plot.network_figure([], [], {}, pathway.CLASSES),
    "effect against prediction": lambda: effect(60, 26, 20),
    "2,800 effects": lambda: effect(1400, 26, 60),
    "edges of 26 layers": lambda: pathway_plots.layer_figure(pathway.pairs(26), 26),
    "edges of 4 layers": lambda: pathway_plots.layer_figure(pathway.pairs(4), 4),
    "tokens": lambda: pathway_plots.token_figure(pathway.tokens(9, 10), pathway.metadata()),
    "no tokens": lambda: pathway_plots.token_figure([], pathway.metadata()),
}
