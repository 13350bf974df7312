"""What the steering phases publish, made by hand in their schema, for the tests of the report.

Problems are letters (see `tests.common.steering_rows`). Steered along the correct direction ("ffwwkkkb"): 4 failing and
4 passing before, 2 fixes, 1 break that parses, net +1. Along the incorrect one ("wwwfbbbB"): 1 fix, 4 breaks, 3 parse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common.conditions import Condition, random_direction, target
from common.runs.features import Feature
from common.statistics.steering import share
from common.steering_comparison import compare_steering
from common.steering_effects import SteeredArm, arms_of, direction_effects, noise_floor
from phase4_5.choice import coefficient_report
from tests.common.steering_rows import DOWN, UP, ZERO_ARM, direction_control, feature_control, results, steered

UP_LETTERS, DOWN_LETTERS = "ffwwkkkb", "wwwfbbbB"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="10pt"></svg>'
STEERING_PLOTS = ("steering_effects", "steering_controls", "steering_by_difficulty")


def down_control(draw: int) -> Condition:
    """A random direction beside the incorrect target."""
    return direction_control(draw)._replace(name=f"down_{draw}", direction="incorrect", layer=1)


def arms(
    up: str = UP_LETTERS, down: str = DOWN_LETTERS, *, controls: Sequence[str] = (), zero: str | None = "wwwwkkkk"
) -> list[SteeredArm]:
    """Returns both targets, the zero arm, and for each letters of `controls` a control of every kind and direction."""
    parts = [] if zero is None else [steered(ZERO_ARM, zero)]
    parts += [steered(UP, up), steered(DOWN, down)]
    for draw, letters in enumerate(controls):
        parts += [steered(direction_control(draw), letters), steered(feature_control(draw), letters)]
        parts += [steered(down_control(draw), letters)]
    return arms_of(results(*parts))


def analysis(made: Sequence[SteeredArm], role: str = "base", **changes: Any) -> dict[str, Any]:
    """Returns `steering_effect_analysis.json`, without selective steering."""
    content = {
        "what": "steering on the validation split against the stored baseline",
        "model": {"name": f"tiny-{role}", "role": role},
        "split": "validation",
        "n_problems": 8,
        "complete": True,
        "not_steered": {},
        "prompt_format": "solution_marker",
        "max_new_tokens": 20,
        "steer_bos": True,
        "controls_per_kind": 39,
        "control_problems": "all",
        "noise_floor": noise_floor(made),
        "directions": {name: direction(made, name) for name in ("correct", "incorrect")},
        **changes,
    }
    return json.loads(json.dumps(content))


def direction(made: Sequence[SteeredArm], name: Any) -> dict[str, Any]:
    """Returns one direction of an analysis as the runner completes it."""
    found = direction_effects(made, name)
    for entry in found["controls"]["random_feature"]["conditions"]:
        entry["firing_rate"], entry["decoder_norm"] = 0.25, 1.0
    return {
        **found,
        "coefficient_chosen": "suggested",
        "residual_norm": 40.0,
        "decoder_norm": 1.0,
        "in_residual_norms": found["coefficient"] / 40,
        "firing_rate": 0.5,
        "control_firing_rates": {"median": 0.25, "minimum": 0.25, "maximum": 0.25},
        "selective": None,
    }


def example(task_id: int, before: bool, after: bool | None, **changes: Any) -> dict[str, Any]:
    """Returns an example as `common.steering_examples` writes it."""
    return {
        "task_id": task_id,
        "text": f"Write function {task_id}.",
        "tests": ["assert f(1) == 1"],
        "condition": "correct_9",
        "coefficient": 9.0,
        "baseline_passed": before,
        "steered_passed": after,
        "flip": "none",
        "left_out": None,
        "outcome": "passed" if after else "wrong_answer",
        "failure_mode": "passed" if after else "wrong_answer",
        "error_message": None,
        "baseline_code": "def f(n):\n    return n",
        "generated_code": f"def f(n):\n    return n + {task_id}",
        **changes,
    }


def steering_files(content: dict[str, Any], examples: dict[str, list[dict[str, Any]]] | None = None) -> dict[str, Any]:
    """Returns the files of phase 4.8 that the report reads."""
    plots = {f"{name}.svg": SVG.encode() for name in STEERING_PLOTS}
    shown = {f"examples/{name}.json": rows for name, rows in (examples or {}).items()}
    return {"steering_effect_analysis.json": content, **plots, **shown}


# --- phase 4.5


def trial(name: Any, coefficient: float, letters: str, other: str, feature: Feature) -> dict[str, Any]:
    """Returns what one coefficient of one feature did, beside one random direction (`other`)."""
    own = target(name, feature, coefficient)
    beside = random_direction(name, feature, coefficient, 0)
    first, second = arms_of(results(steered(own, letters), steered(beside, other)))
    pairs = [("def f(): pass", "def f(): pass")] * len(first.baseline)
    return json.loads(json.dumps(coefficient_report(first, [second], pairs, 1 / 40)))


CORRECT, INCORRECT = Feature(2, 20), Feature(1, 10)


def choice(feature: Feature, coefficient: float, how: str = "suggested") -> dict[str, Any]:
    """Returns a choice as it stands in a record."""
    return {"feature": feature._asdict(), "coefficient": coefficient, "how": how, "rationale": "the most of 2 tried"}


def coefficient_summary(
    up: dict[str, Any] | None, down: dict[str, Any] | None, final: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Returns `phase_4_5_summary.json`; `up` and `down` are the choices, None while the grid is not whole."""
    content = {
        "what": "steering coefficients tried on the hyperparameter split against the stored baseline",
        "split": "hyperparams",
        "problems": list(range(100, 108)),
        "not_drawn": {},
        "max_new_tokens": 20,
        "noise_floor": noise_floor(arms()),
        "directions": {
            "correct": grid("correct", CORRECT, up, [(9.0, "ffwwkkkb", "wwwwkkkb"), (20.0, "fwwwbbkk", "wwwwbkkk")]),
            "incorrect": grid(
                "incorrect", INCORRECT, down, [(5.0, "wwwwbbkk", "wwwwbkkk"), (9.0, "wwwwBBBB", "wwwwBkkk")]
            ),
        },
        "final_evaluation": final or {"reason": "no problem is left for it", "n_problems": 0, "directions": {}},
        **changes,
    }
    return json.loads(json.dumps(content))


def grid(
    name: str, feature: Feature, chosen: dict[str, Any] | None, tried: list[tuple[float, str, str]]
) -> dict[str, Any]:
    """Returns one direction of phase 4.5's summary."""
    return {
        "feature": feature._asdict(),
        "residual_norm": 40.0,
        "decoder_norm": 1.0,
        "chosen": chosen,
        "coefficients": [trial(name, value, letters, other, feature) for value, letters, other in tried],
        "candidates": [feature._asdict()],
        "screening": None,
    }


def final(up: tuple[str, str], down: tuple[str, str]) -> dict[str, Any]:
    """Returns the evaluation of the choices on other problems; each pair is the target's and the random direction's."""
    return {
        "n_problems": len(up[0]),
        "noise_floor": None,
        "directions": {
            "correct": trial("correct", 9.0, *up, CORRECT),
            "incorrect": trial("incorrect", 5.0, *down, INCORRECT),
        },
    }


# --- phases 7.3 and 7.6


def pass_rate(passed: int, judged: int, reason: str | None = None) -> dict[str, Any]:
    """Returns a pass rate as phase 7.3's record holds it."""
    found = share(passed, judged)
    known = {"passed": passed if judged else None, "judged": judged, "pass_rate": found.value}
    return {**known, "low": found.low, "high": found.high, "reason": reason}


def instruct_record(own: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Returns what phase 7.3 adds to its record and the report reads."""
    layer = {"layer": 0, "hook_name": "blocks.0.hook_resid_post", "n_tokens": 90}
    return {
        "model": {"name": "tiny-instruct", "role": "instruct"},
        "prompt_format": "solution_marker",
        "pass_rates": {"instruct": own, "base": base},
        "base": None if base["pass_rate"] is None else {"model": "tiny-base", "prompt_format": "solution_marker"},
        "sae_note": "no SAEs were trained on this model",
        "sae_fit": {
            "n_problems": 4,
            "layers": [{**layer, "fraction_unexplained": 0.25, "mean_l0": 12.0, "dead_share": 0.5}],
            "reason": None,
        },
    }


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Returns a figure with its interval as artifacts hold it."""
    reason = "no positive row" if value is None else None if low is not None else "only one problem"
    return {"value": value, "low": low, "high": high, "n": 8, "reason": reason}


def detected(auroc: dict[str, Any]) -> dict[str, Any]:
    """Returns one model's figures of detection."""
    at = {"f1": 0.8, "f1_all_positive": 0.667, "balanced_accuracy": 0.75}
    rival = {"auroc": {"median": 0.6}, "reason": None, "target_minus_median": estimate(0.3, 0.2, 0.4)}
    rivals = {"random directions": rival, "logistic regression": {**rival, "auroc": {"median": 0.85}}}
    return {"n": 8, "auroc": auroc, "classification": at, "rivals": rivals, "reason": None}


def comparison(base: dict[str, Any], instruct: dict[str, Any], *, whole: bool = True) -> dict[str, Any]:
    """Returns `cross_model_comparison.json` of two analyses."""
    detection = {
        "feature": {"layer": 3, "index": 7},
        "positive": "passed",
        "base": detected(estimate(0.9, 0.8, 0.95)),
        "instruct": detected(estimate(0.85, 0.7, 0.9)),
        "auroc_difference": {"of": "instruct minus base", **estimate(-0.05, -0.1, 0.02)},
        "rule": "a predictor transfers if its interval lies above 0.5",
        "transferred": True,
        "statement": "transferred: AUROC 0.850",
    }
    pairs = {name: (base["directions"][name], instruct["directions"][name]) for name in ("correct", "incorrect")}
    content = {
        "models": {"base": "tiny-base", "instruct": "tiny-instruct"},
        "complete": whole,
        "detection": {"correct": detection, "incorrect": {**detection, "positive": "failed"}},
        "steering": {
            name: compare_steering(name, one, other, whole=whole)  # type: ignore[arg-type]
            for name, (one, other) in pairs.items()
        },
    }
    return json.loads(json.dumps(content))
