"""A patching study with known truth, of any size up to the expected one (358 checkpoints, 199 logs, 1.8 M trials).

Planted: features whose patch moves the outcome, the same way in both prompt classes, and a word that the responses of
class a's patch carry; beside them features that do nothing, some of which the study's own flag calls causal all the
same. Both kinds of study and both generations of the schema. The full size takes about 10 s and 0.8 GB of disk.

    python -m experiment_pathway_token_analysis.synthetic_study DIRECTORY --profile llama-3.1-8b --size full
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import PipelineError
from common.logging import get_logger, setup_console
from common.profiles import load_profile
from common.runs.files import ensure_directory, write_bytes, write_json, writing
from common.statistics.seeding import generator
from experiment_pathway_token_analysis.src.settings import Study, load_settings
from experiment_pathway_token_analysis.synthetic_faults import FAULTS, plant

STARTED = datetime(2025, 10, 21, 8, 0, 0)
_log = get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How large a study is, and what is planted in it; `effect` is the difference of the rates under both patches."""

    layers: tuple[int, ...]
    features_per_layer: int
    causal_per_layer: int
    trials: int
    checkpoints: int
    logs: int
    effect: float = 0.8
    flagged_null_share: float = 0.04
    missed_share: float = 0.0
    second_generation_share: float = 0.5
    words: int = 60
    word_share: float = 0.9

    @property
    def total_trials(self) -> int:
        """Trials of all features under all six conditions."""
        return len(self.layers) * self.features_per_layer * 6 * self.trials


FULL = Plan(tuple(range(1, 32)), 323, 50, 30, checkpoints=358, logs=199)  # 1,802,340 trials
SMALL = Plan((1, 2, 3), 12, 2, 24, checkpoints=9, logs=6)
SIZES = {"small": SMALL, "full": FULL}


class Feature(NamedTuple):
    """One tested feature and what is true of it."""

    name: str
    layer: int
    feature_id: int
    planted: bool
    flagged: bool
    of_first_class: bool
    cohen_d: float


def write_study(root: Path, study: Study, plan: Plan, *, width: int, seed: int = 42) -> dict[str, Any]:
    """Writes checkpoints, logs and `truth.json` below `root`, and returns the truth; equal arguments, equal bytes."""
    layers = {layer: _features(plan, layer, width, seed) for layer in plan.layers}
    for layer, n_files in zip(plan.layers, _shares(plan.checkpoints, len(plan.layers)), strict=True):
        _write_checkpoints(root, study, plan, layers[layer], n_files, seed)
    for layer, n_files in zip(plan.layers, _shares(plan.logs, len(plan.layers)), strict=True):
        _write_logs(root, study, plan, layers[layer], n_files, seed)
    truth = _truth(study, plan, [feature for features in layers.values() for feature in features])
    write_json(root / "truth.json", truth)
    return truth


def planted_word(feature: str) -> str:
    """Returns the word that a planted feature's first-class patch puts into responses."""
    return f"mark{sum(map(ord, feature)) % 7}"


def _features(plan: Plan, layer: int, width: int, seed: int) -> list[Feature]:
    rng = generator(seed, "synthetic", "features", layer)
    ids = rng.choice(width, plan.features_per_layer, replace=False).tolist()
    draws = rng.random((plan.features_per_layer, 3))
    found = []
    for place, (feature_id, (flag, side, size)) in enumerate(zip(ids, draws.tolist(), strict=True)):
        planted = place < plan.causal_per_layer
        flagged = flag >= plan.missed_share if planted else flag < plan.flagged_null_share
        cohen_d = (1 if side < 0.5 else -1) * (0.2 + size + (0.5 if planted else 0.0))
        name = f"L{layer}-{feature_id}"
        found.append(Feature(name, layer, feature_id, planted, flagged, side < 0.5, round(cohen_d, 6)))
    order = rng.permutation(len(found)).tolist()  # planted ones stand anywhere among those tested
    return [found[place] for place in order]


def _shares(total: int, parts: int) -> list[int]:
    """Returns `total` in `parts` whole numbers that differ by at most one."""
    if total < parts:
        raise PipelineError(f"a study of {parts} layers needs at least {parts} files of a kind, not {total}")
    return [total // parts + (place < total % parts) for place in range(parts)]


def _write_checkpoints(
    root: Path, study: Study, plan: Plan, features: Sequence[Feature], n_files: int, seed: int
) -> None:
    """Writes one layer's cumulative checkpoints: each holds all features tested so far."""
    layer = features[0].layer
    rng = generator(seed, "synthetic", "checkpoints", layer)
    second = bool(generator(seed, "synthetic", "generation", layer).random() < plan.second_generation_share)
    results = [_result(study, feature, second, rng) for feature in features]
    for number in range(1, n_files + 1):
        tested = len(features) * number // n_files
        when = STARTED + timedelta(hours=number, minutes=layer)
        header = {
            "timestamp": when.isoformat(),
            "process_id": layer,
            "layer_range": [layer, layer],
            "features_tested": tested,
            "n_trials_per_condition": plan.trials,
        }
        name = study.checkpoints.replace("*", f"L{layer}_{layer}_p{layer}_{when:%Y%m%d_%H%M%S}")
        text = json.dumps({**header, "results": results[:tested]})
        write_bytes(root / name, text.encode("utf-8"), durable=False)


def _result(study: Study, feature: Feature, second: bool, rng: np.random.Generator) -> dict[str, Any]:
    a, b = study.classes
    low, high = sorted(rng.gamma(2.0, 0.5, 2).round(6).tolist())
    of_a, of_b = (high, low) if feature.of_first_class else (low, high)
    result: dict[str, Any] = {
        "feature": feature.name,
        "layer": feature.layer,
        "feature_id": feature.feature_id,
        "cohen_d": feature.cohen_d if study.kind == "program_validity" else -feature.cohen_d,
        f"mean_{a}": of_a,
        f"mean_{b}": of_b,
    }
    if second:
        flags = {f"is_causal_{a}": feature.flagged, f"is_causal_{b}": False}
        return {**result, "causality": {**flags, "interpretation": "none"}}
    return {**result, "is_causal": feature.flagged, "class": a if feature.of_first_class else b}


def _write_logs(root: Path, study: Study, plan: Plan, features: Sequence[Feature], n_files: int, seed: int) -> None:
    """Writes one layer's logs: each holds all trials of its share of the features."""
    starts = [len(features) * number // n_files for number in range(n_files + 1)]
    for number in range(n_files):
        when = STARTED + timedelta(hours=number, minutes=features[0].layer)
        layer = features[0].layer
        path = root / study.response_logs.replace("*", f"response_log_L{layer}_{layer}_p{layer}_{when:%Y%m%d_%H%M%S}")
        ensure_directory(path.parent)
        with writing(path), open(path, "w", encoding="utf-8") as handle:
            first = True
            for feature in features[starts[number] : starts[number + 1]]:
                for line in _trials(study, plan, feature, seed):
                    handle.write(("[\n" if first else ",\n") + line)
                    first = False
            handle.write("[]" if first else "\n]\n")


def _trials(study: Study, plan: Plan, feature: Feature, seed: int) -> Iterator[str]:
    """Yields a feature's trials as JSON; the text is put together by hand, which is ten times as fast."""
    rng = generator(seed, "synthetic", "trials", feature.layer, feature.feature_id)
    canonical = [(name, *_arm(study, name)) for name in study.conditions]
    problems = 1000 * (1 + np.arange(2)[:, None]) + np.arange(plan.trials)
    fragments = _FRAGMENTS[study.kind == "program_validity"]
    for name, of_a, patched_to_a in canonical:
        shift = 0.0 if patched_to_a is None or not feature.planted else plan.effect * (0.5 if patched_to_a else -0.5)
        outcomes = rng.random(plan.trials) < 0.5 + shift
        marked = (rng.random(plan.trials) < plan.word_share) & (feature.planted and patched_to_a is True)
        texts = rng.integers(len(fragments), size=(plan.trials, max(1, plan.words // 10))).tolist()
        found = (study.conditions[name] or [name])[-1]  # aliases are what logs are written with
        word = planted_word(feature.name)
        for trial in range(plan.trials):
            response = " ".join([fragments[place] for place in texts[trial]])
            response = f"{response} {word}" if marked[trial] else response
            yield (
                f'{{"feature": "{feature.name}", "condition": "{found}", "trial": {trial}, '
                f'"response": "{response}", {_outcome(study, bool(outcomes[trial]), problems[int(of_a)][trial])}}}'
            )


def _arm(study: Study, name: str) -> tuple[bool, bool | None]:
    """Returns whether a condition's prompts are class a's, and whether its patch is (None: it has none)."""
    a, b = study.classes
    arms = {study.condition(of, what): (of, what) for of in (a, b) for what in ("baseline", "own", "opposite")}
    of, what = arms[name]
    return of == a, None if what == "baseline" else (of == a) == (what == "own")


def _outcome(study: Study, positive: bool, problem: int) -> str:
    if study.positive_outcome is None:
        return f'"task_id": {problem}, "test_passed": {str(positive).lower()}'
    action = study.positive_outcome if positive else "bet"
    return f'"parsed": {{"action": "{action}", "bet": {0 if positive else 10}, "valid": true}}'


def _truth(study: Study, plan: Plan, features: Sequence[Feature]) -> dict[str, Any]:
    return {
        "plan": asdict(plan),
        "kind": study.kind,
        "total_trials": plan.total_trials,
        "planted": {feature.name: planted_word(feature.name) for feature in features if feature.planted},
        "flagged": sorted(feature.name for feature in features if feature.flagged),
        "features": len(features),
    }


def _fragments(text: str, name: str, per_fragment: int = 10) -> list[str]:
    """Returns pieces of responses as they stand inside JSON: ten words each, drawn from the text."""
    words, rng = text.split(" "), generator(0, "synthetic", "fragments", name)
    drawn = rng.integers(len(words), size=(256, per_fragment)).tolist()
    return [json.dumps(" ".join(words[place] for place in places))[1:-1] for places in drawn]


_PROSE = (
    "the balance is still low so I think about the next round and what it may cost me to bet five dollars again while "
    "waiting for a win that does not come because luck turns slowly here and nobody knows when"
)
_CODE = "def f(x):\n     return x + 1 for i in range(n): \n     if y == 0: a else b [] None"
_FRAGMENTS = {False: _fragments(_PROSE, "prose"), True: _fragments(_CODE, "code")}


def main(arguments: Sequence[str]) -> int:
    """Writes a study from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="where the study goes")
    parser.add_argument("--profile", default="llama-3.1-8b", help="whose dictionary and kind of study")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), default=[], help="a fault to plant in it")
    given = parser.parse_args(arguments)
    setup_console()
    try:
        profile, study = load_profile(given.profile), load_settings(given.profile).study
        truth = write_study(given.directory, study, SIZES[given.size], width=profile.sae.width, seed=given.seed)
        for fault in given.fault:
            _log.info("%s", plant(given.directory, study, fault))
    except PipelineError as error:
        _log.error("error: %s", error)
        return error.exit_code
    _log.info("%d features, %d trials in %s", truth["features"], truth["total_trials"], given.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
