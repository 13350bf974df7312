"""What validated edges connect: features that move the same words, features of the same class.

Both are answered against the same graph with something dealt anew inside layers, so that layers, hubs and degrees stay
as they are: token effects among the features of a layer, or classes among the targets of a pair of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import rankdata

from common.statistics.permutation import TIE_SLACK
from common.statistics.seeding import generator
from common.statistics.stratified_permutation import permuted_within
from common.statistics.summaries import wilson_interval
from experiment_pathway_token_analysis.src.integration import Row, place_of

LEVEL = "word"
MIN_FOR_RANKS = 3
CHUNK_CELLS = 2**20


class Effects(NamedTuple):
    """What raising each feature does to words: unit vectors, shape (n_features, n_words), zero where never tested."""

    features: list[str]
    vectors: csr_array


def word_effects(table: pa.Table, contrasts: Sequence[str], sign: Mapping[str, int]) -> Effects:
    """Returns the effects of features on words over `contrasts`, each permutation z times the feature's `sign`.

    It says what the patch towards the first class does. That raises a feature of the first class (sign 1) and lowers
    one of the second (-1), so that the product says what raising the feature does. Without a sign it is left out.
    """
    rows = table.filter((pc.field("level") == LEVEL) & pc.field("contrast").isin(list(contrasts)))
    feature, contrast, token = (rows[name].to_pylist() for name in ("feature", "contrast", "token"))
    names = sorted({one for one in feature if one in sign}, key=place_of)
    row_of = {name: place for place, name in enumerate(names)}
    column_of = {key: place for place, key in enumerate(sorted(set(zip(contrast, token, strict=True))))}
    z = np.nan_to_num(rows["permutation_z"].to_numpy())
    use = np.array([one in row_of for one in feature], dtype=bool)
    places = np.array([row_of.get(one, 0) for one in feature], dtype=np.int64)
    columns = np.array([column_of[key] for key in zip(contrast, token, strict=True)], dtype=np.int64)
    signed = z * np.array([sign.get(one, 0) for one in feature], dtype=np.float64)
    shape = (len(names), len(column_of))
    matrix = csr_array((signed[use], (places[use], columns[use])), shape=shape)
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return Effects(names, csr_array(matrix.multiply(scale[:, None])))


def similarity(edges: Sequence[Row], effects: Effects, n_draws: int, seed: int) -> dict[str, Any]:
    """Returns whether validated edges connect features that move the same words, against features dealt anew.

    An edge's similarity is the cosine of its ends' effects times the sign of its gradient: 1 where raising the source
    and raising the target move the same words, in the direction that the edge says. p is one-sided.
    """
    row_of = {name: place for place, name in enumerate(effects.features)}
    layers = np.array([place_of(name)[0] for name in effects.features], dtype=np.int64)
    n_of_layer = np.bincount(layers) if len(layers) else np.zeros(0, dtype=np.int64)
    measured = [edge for edge in edges if edge["source"] in row_of and edge["target"] in row_of]
    used = [one for one in measured if max(n_of_layer[one["source_layer"]], n_of_layer[one["target_layer"]]) > 1]
    counts = {"n_validated": len(edges), "n_both_ends_measured": len(measured), "n_compared": len(used)}
    if not used:
        why = "no validated edge has token effects at both ends" if not measured else "each such layer has one feature"
        return {**counts, **_NOTHING, "reason": why}
    sources, targets = (np.array([row_of[edge[end]] for edge in used]) for end in ("source", "target"))
    signs = np.sign([edge["gradient"]["mean"] for edge in used])
    cosines = (effects.vectors @ effects.vectors.T).toarray()
    observed = signs * cosines[sources, targets]
    strength = np.abs([edge["attribution"] for edge in used])
    null = [
        _figures(strength, signs * cosines[dealt[:, sources], dealt[:, targets]])
        for dealt in _dealt(layers, n_draws, seed, len(used))
    ]
    return {
        **counts,
        **_tested(_figures(strength, observed[None]), np.concatenate(null, axis=1)),
        "n_draws": n_draws,
        "reason": None,
        "edges": [
            {"edge_id": edge["edge_id"], "similarity": _short(one)}
            for edge, one in zip(used, observed.tolist(), strict=True)
        ],
    }


_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("mean", "null_mean", "null_low", "null_high", "p", "strength_spearman", "strength_p", "n_draws")),
    "edges": [],
}


def _dealt(layers: NDArray[np.int64], n_draws: int, seed: int, n_edges: int) -> Iterator[NDArray[np.int64]]:
    """Yields shuffles of features inside layers, some draws at a time, each (draws, n_features)."""
    assert (np.diff(layers) >= 0).all(), "features stand by layer"
    random = generator(seed, "token effects dealt anew")
    step = max(1, CHUNK_CELLS // n_edges)
    for start in range(0, n_draws, step):
        yield np.argsort(0.5 * random.random((min(step, n_draws - start), len(layers))) + layers, axis=1)


def _figures(strength: NDArray, similarities: NDArray) -> NDArray[np.float64]:
    """Returns, per draw (a row), the mean similarity and its Spearman correlation with strength, shape (2, draws)."""
    first, second = rankdata(strength), rankdata(similarities, axis=1)
    first, second = first - first.mean(), second - second.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = second @ first / (np.linalg.norm(first) * np.linalg.norm(second, axis=1))
    enough = len(strength) >= MIN_FOR_RANKS
    return np.stack([similarities.mean(axis=1), correlation if enough else np.full(len(similarities), np.nan)])


def _tested(observed: NDArray[np.float64], null: NDArray[np.float64]) -> dict[str, Any]:
    (mean,), (correlation,) = observed.tolist()
    low, high = np.quantile(null[0], (0.025, 0.975)).tolist()
    figures = {"mean": mean, "null_mean": float(null[0].mean()), "null_low": low, "null_high": high}
    return {
        **{name: _short(value) for name, value in figures.items()},
        "p": _exceedance(mean, null[0]),
        "strength_spearman": _short(correlation),
        "strength_p": None if np.isnan(correlation) else _exceedance(correlation, null[1]),
    }


def _exceedance(observed: float, null: NDArray[np.float64]) -> float:
    """Returns (1 + draws at least as large) / (1 + draws); a draw without a figure counts as large."""
    smaller = null < observed - TIE_SLACK * max(abs(observed), 1.0)
    return (1 + len(null) - int(smaller.sum())) / (1 + len(null))


def class_composition(
    edges: Sequence[Row], class_of: Mapping[str, str | None], classes: Sequence[str], n_draws: int, seed: int
) -> list[Row]:
    """Returns, per class of source and of target, how many edges were kept, tested and validated, and their signs.

    `expected` and `p` (two-sided) stand for the validated edges of known classes, against the targets' classes shuffled
    among the edges of each pair of layers. A feature that the study did not test has the class "unknown".
    """
    named = [*classes, "unknown"]
    ends = [(class_of.get(edge["source"]) or "unknown", class_of.get(edge["target"]) or "unknown") for edge in edges]
    null = _composition_null(edges, ends, classes, n_draws, seed)
    table = []
    for pair in ((source, target) for source in named for target in named):
        own = [edge for edge, end in zip(edges, ends, strict=True) if end == pair]
        validated = [edge for edge in own if edge["validated"]]
        n_tested = sum(edge["replay"]["tested"] for edge in own)
        interval = wilson_interval(len(validated), n_tested)
        n_positive = sum(edge["gradient"]["mean"] > 0 for edge in validated)
        table.append(
            {
                "source_class": pair[0],
                "target_class": pair[1],
                "n_kept": len(own),
                "n_tested": n_tested,
                "n_validated": len(validated),
                "share_low": _short(interval.low),
                "share_high": _short(interval.high),
                "n_positive": n_positive,
                "n_negative": len(validated) - n_positive,
                **_against(len(validated), null.get(pair)),
            }
        )
    return [row for row in table if row["n_kept"] or "unknown" not in (row["source_class"], row["target_class"])]


def _composition_null(
    edges: Sequence[Row], ends: Sequence[tuple[str, str]], classes: Sequence[str], n_draws: int, seed: int
) -> dict[tuple[str, str], NDArray]:
    """Returns how many validated edges each pair of known classes has under each shuffle."""
    known = [(edge, end) for edge, end in zip(edges, ends, strict=True) if edge["validated"] and "unknown" not in end]
    if not known:
        return {}
    pairs = [(edge["source_layer"], edge["target_layer"]) for edge, _ in known]
    number = {pair: place for place, pair in enumerate(sorted(set(pairs)))}
    first = classes[0]
    from_first = np.array([source == first for _, (source, _) in known])
    to_first = np.array([target == first for _, (_, target) in known])
    strata = np.array([number[pair] for pair in pairs])
    shuffled = permuted_within(to_first, strata, n_draws, seed, "classes of targets")
    return {
        (source, target): (shuffled[:, from_first == (source == first)] == (target == first)).sum(axis=1)
        for source in classes
        for target in classes
    }


def _against(observed: int, null: NDArray | None) -> dict[str, Any]:
    if null is None:
        return {"expected": None, "p": None}
    tails = min(int((null >= observed).sum()), int((null <= observed).sum()))
    return {"expected": _short(float(null.mean())), "p": min(1.0, 2 * (1 + tails) / (1 + len(null)))}


def _short(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")
