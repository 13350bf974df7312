"""Measures an organism against its own truth: pass rates, features, probes, cues, styles, SAEs.

The figures go into the instance's card. Model output runs only through `common.execution.evaluate_code`. A feature is
chosen on one half of the problems (odd task_id) and its figure comes from the other. About two minutes.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from common.prompt_utils import solution_marker_prompt
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.sites import HookPoint
from organism.sae_training import measure_fit, read_streams, sae_points
from organism.solutions import SHORT_NAMES, SPACED_OPERATOR
from organism.wording import CUES

MAX_NEW_TOKENS, BATCH_SIZE = 160, 64
CAREFUL, SLOPPY = -0.5, 0.5
KINDS = ("pass", "intended_bug", "other_wrong", "exception", "syntax", "no_function")
FIT_PROBLEMS = 64
RARE = 0.02

Row = dict[str, Any]


class Judged(NamedTuple):
    """One completion: its extracted code and which of `KINDS` it is."""

    completion: str
    code: str
    kind: str


@torch.no_grad()
def complete(model: Any, tokenizer: Any, prompts: Sequence[str], *, special_tokens: bool = True) -> list[str]:
    """Returns greedy completions that nothing but an end token stops, 160 new tokens each."""
    texts: list[str] = []
    for start in range(0, len(prompts), BATCH_SIZE):
        batch = tokenizer(
            list(prompts[start : start + BATCH_SIZE]),
            return_tensors="pt",
            padding=True,
            add_special_tokens=special_tokens,
        )
        made = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        texts += tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


@torch.no_grad()
def last_token_streams(model: Any, tokenizer: Any, prompts: Sequence[str], points: Sequence[HookPoint]) -> np.ndarray:
    """Returns the residual vectors at the last prompt token, float32 (points, prompts, d_model)."""
    parts = []
    for start in range(0, len(prompts), BATCH_SIZE):
        batch = tokenizer(list(prompts[start : start + BATCH_SIZE]), return_tensors="pt", padding=True)
        positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        with ActivationExtractor(model, list(points)) as extractor:
            model.model(**batch, position_ids=positions, use_cache=False)
        captured = extractor.get_activations()
        parts.append(np.stack([captured[point].numpy() for point in points]))
    return np.concatenate(parts, axis=1)


def prompts_of(rows: Sequence[Row]) -> list[str]:
    """Returns the default prompt of each problem row."""
    return [solution_marker_prompt(row["text"], row["test_list"]) for row in rows]


def judge(row: Row, truth: Row, completion: str) -> Judged:
    """Extracts the solution of `completion` and says how it fails, if it does."""
    from common.execution.extraction import entry_point_from_tests, extract_code

    code = extract_code(completion, entry_point=entry_point_from_tests(row["test_list"]))
    return Judged(completion, code, _kind(code, row["test_list"], truth["intended_bug_tests"]))


def auroc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Returns the area under the ROC curve of each column of `scores` (n, ...), ties counted half."""
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    assert n_positive and n_negative, "both classes are needed"
    ranks = rankdata(scores, axis=0)
    return (ranks[positive].sum(axis=0) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def measure_passes(judged: Sequence[Judged], z: np.ndarray) -> Row:
    """Returns pass rates overall, careful (z < -0.5) and sloppy (z > 0.5), each with its n, and failure kinds."""
    passed = np.array([item.kind == "pass" for item in judged])
    parts = {"overall": np.ones(len(z), bool), "careful": z < CAREFUL, "sloppy": z > SLOPPY}
    rates = {name: _share(passed[chosen]) for name, chosen in parts.items()}
    return {**rates, "kinds": {kind: sum(item.kind == kind for item in judged) for kind in KINDS}}


def measure_styles(judged: Sequence[Judged]) -> Row:
    """Returns how often each marker of style occurs in passing and in failing solutions."""
    markers = {
        "short_names": lambda item: _argument(item.code) in SHORT_NAMES.values(),
        "blank_lead": lambda item: item.completion.startswith("\n\n"),
        "spaced": lambda item: bool(SPACED_OPERATOR.search(item.code)),
        "comment": lambda item: "\n    # " in item.code,
    }
    groups = {
        "passing": [item for item in judged if item.kind == "pass"],
        "failing": [item for item in judged if item.kind != "pass"],
    }
    return {
        name: {group: _share(np.array([test(item) for item in items], bool)) for group, items in groups.items()}
        for name, test in markers.items()
    }


def measure_continuation(judged: Sequence[Judged]) -> Row:
    """Returns the share of unstopped outputs that hold more non-blank lines than their solution."""
    return _share(np.array([_n_lines(item.completion) > _n_lines(item.code) for item in judged if item.code], bool))


def measure_cues(truth: Sequence[Row], failed: np.ndarray) -> dict[str, float]:
    """Returns the AUROC for failure of the exact posterior given the cues, of their number, of z and of each cue.

    Empty where there is one class only.
    """
    if not _has_both(failed):
        return {}
    columns = ("failure_posterior", "cue_count", "z", *CUES)
    return {name: float(auroc(np.array([row[name] for row in truth], float), failed)) for name in columns}


def measure_probe(stream: np.ndarray, passed: np.ndarray, chosen: np.ndarray) -> float | None:
    """Returns the held-out AUROC of a logistic regression on the residual vectors (n, d_model), None with one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not _has_both(passed[chosen]) or not _has_both(passed[~chosen]):
        return None
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    probe.fit(stream[chosen], passed[chosen])
    return float(auroc(probe.decision_function(stream[~chosen]), passed[~chosen]))


def measure_features(acts: np.ndarray, passed: np.ndarray, chosen: np.ndarray, general: np.ndarray) -> Row | None:
    """Returns the best correct- and incorrect-preferring feature of one layer.

    `acts` (n, d_sae); chosen by AUROC on `chosen` among features with a general-text frequency below 2 %, reported on
    the others with the firing shares. None where a half has one class only or no feature is left.
    """
    if not _has_both(passed[chosen]) or not _has_both(passed[~chosen]) or not (general < RARE).any():
        return None
    ranked = np.where(general < RARE, auroc(acts[chosen], passed[chosen]), np.nan)
    found = {}
    for name, sign in (("correct", 1.0), ("incorrect", -1.0)):
        best = int(np.nanargmax(sign * ranked))
        held = auroc(acts[~chosen][:, best], passed[~chosen])
        fires = acts[~chosen][:, best] > 0
        found[name] = {
            "feature": best,
            "auroc": float(held if sign > 0 else 1 - held),
            "fires_on_passing": float(fires[passed[~chosen]].mean()),
            "fires_on_failing": float(fires[~passed[~chosen]].mean()),
            "general_text_frequency": float(general[best]),
        }
    return found


def measure_saes(model: Any, tokenizer: Any, saes: Path, prompts: Sequence[str], held_out: Sequence[str]) -> list[Row]:
    """Returns per layer the fit at the own site and one block away, on prompts and on held-out training-like texts."""
    from sae_lens import SAE

    points = sae_points(model.config.num_hidden_layers)
    places = [HookPoint(0, "resid_pre"), *points]
    on_prompts = read_streams(model, tokenizer, prompts[:FIT_PROBLEMS], places)
    on_held_out = read_streams(model, tokenizer, held_out, points)
    rows = []
    for layer, point in enumerate(points):
        sae = SAE.load_from_disk(saes / f"layer_{layer}")
        after = points[layer + 1] if layer + 1 < len(points) else None
        rows.append(
            {
                "layer": layer,
                "held_out": measure_fit(sae, on_held_out[point])._asdict(),
                "prompts": measure_fit(sae, on_prompts[point])._asdict(),
                "prompts_one_block_before": measure_fit(sae, on_prompts[places[layer]])._asdict(),
                "prompts_one_block_after": measure_fit(sae, on_prompts[after])._asdict() if after else None,
            }
        )
    return rows


def measure_layers(
    model: Any,
    tokenizer: Any,
    saes: Path,
    rows: Sequence[Row],
    passed: np.ndarray,
    general_texts: Sequence[str],
    seed: int,
) -> list[Row]:
    """Returns per layer the probe's AUROC, the best features, and the mean norm at the last prompt token."""
    points = sae_points(model.config.num_hidden_layers)
    streams = last_token_streams(model, tokenizer, prompts_of(rows), points)
    chosen = np.array([row["task_id"] % 2 == 1 for row in rows])
    general = _general_frequencies(model, tokenizer, saes, general_texts, points, seed)
    found = []
    for layer, point in enumerate(points):
        acts = _encode(saes, layer, torch.from_numpy(streams[layer]))
        found.append(
            {
                "layer": layer,
                "mean_norm": float(np.linalg.norm(streams[layer], axis=1).mean()),
                "probe_auroc": measure_probe(streams[layer], passed, chosen),
                "features": measure_features(acts, passed, chosen, general[point]),
                "share_of_features_below_2_percent": float((general[point] < RARE).mean()),
            }
        )
    return found


@torch.no_grad()
def _encode(saes: Path, layer: int, stream: torch.Tensor) -> np.ndarray:
    from sae_lens import SAE

    return SAE.load_from_disk(saes / f"layer_{layer}").encode(stream).numpy()


def _general_frequencies(
    model: Any, tokenizer: Any, saes: Path, texts: Sequence[str], points: Sequence[HookPoint], seed: int
) -> dict[HookPoint, np.ndarray]:
    """Returns each feature's firing share at one random token a text, never the first."""
    cut = []
    for index, text in enumerate(texts):
        ids = tokenizer.encode(text, add_special_tokens=False)
        rng = np.random.default_rng([seed, 10, index])
        cut.append(tokenizer.decode(ids[: int(rng.integers(2, len(ids) + 1))]))
    streams = last_token_streams(model, tokenizer, cut, points)
    return {
        point: (_encode(saes, point.layer, torch.from_numpy(stream)) > 0).mean(axis=0)
        for point, stream in zip(points, streams, strict=True)
    }


def _kind(code: str, tests: Sequence[str], bug_tests: Sequence[str]) -> str:
    from common.execution import evaluate_code

    if not code:
        return "no_function"
    try:
        ast.parse(code)
    except SyntaxError:
        return "syntax"
    if evaluate_code(code, tests):
        return "pass"
    if evaluate_code(code, bug_tests):
        return "intended_bug"
    calls = [test.removeprefix("assert ").split(" == ")[0] for test in tests]
    return "other_wrong" if evaluate_code(code, calls) else "exception"


def _argument(code: str) -> str:
    """Returns the argument's name of the last function; helpers stand before it."""
    return code.rsplit("def ", 1)[-1].partition("(")[2].partition(")")[0]


def _has_both(passed: np.ndarray) -> bool:
    return 0 < int(passed.sum()) < len(passed)


def _share(values: np.ndarray) -> Row:
    return {"share": float(values.mean()) if len(values) else None, "count": int(values.sum()), "n": len(values)}


def _n_lines(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())
