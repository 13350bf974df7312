"""What is validated: the rule over all edges at once, its null from matched sources, chains, and the final file.

p of an edge is the larger of two: that the source moves the target at all (`p_effect`), and that what it brings differs
between the classes (`p_class`); both must be rejected (intersection and union: Berger, Technometrics 24, 1982). q is
Benjamini and Hochberg's over all tested edges. Half of the matched sources of a pair of layers set what an edge of the
pair must exceed (`matched_p`); the other half go through the whole rule as if they were edges, and the share of them
that passes is the rule's false-positive rate as measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.statistics.edges import largest_rejected, tail_p_values
from common.statistics.feature_tests import benjamini_hochberg
from common.statistics.steering import share
from experiment_pathway_token_analysis.src.settings import Replay

Record = Mapping[str, Any]
Pair = tuple[int, int]


def build_results(records: Sequence[Record], settings: Replay, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of validated_pathways.json from the targets' records, in their order."""
    edges = [_edge(edge, record, settings) for record in records for edge in record["edges"]]
    tested = [edge for edge in edges if edge["replay"]["tested"]]
    p_values = np.array([edge["replay"]["p"] for edge in tested], dtype=np.float64)
    q_values = benjamini_hochberg(p_values).q_values
    threshold = largest_rejected(p_values, q_values <= settings.alpha)
    setting, measuring = _halves(records, settings)
    null = {pair: np.array(sizes) for pair, sizes in _sizes(setting).items()}
    for edge, q in zip(tested, q_values, strict=True):
        edge["replay"]["q"] = float(q)
        edge["replay"]["matched_p"] = _matched_p(edge["replay"], edge["scale"], _pair(edge), null)
        edge["validated"] = is_valid(edge["replay"], edge["scale"], settings, float(q) <= settings.alpha)
    chains = _chains(records, edges, settings)
    return {
        "metadata": {
            **metadata,
            "counts": _counts(records, edges, chains),
            "p_threshold": threshold,
            "matched_null": _null_report(setting, measuring, null, threshold, settings),
        },
        "edges": [{key: value for key, value in edge.items() if key != "scale"} for edge in edges],
        "targets": [_target(record, edges) for record in records],
        "chains": chains,
    }


def _edge(edge: Record, record: Record, settings: Replay) -> dict[str, Any]:
    """Returns an edge as it stands in the file, not yet judged; `scale` is the target's, for the rule."""
    figures = edge["figures"]
    head = {key: value for key, value in edge.items() if key != "figures"}
    replay = _replay(figures, settings)
    return {
        **{key: head[key] for key in ("edge_id", "source", "target", "source_layer", "source_id")},
        **{key: head[key] for key in ("target_layer", "target_id")},
        "n_prompts": 0 if figures is None else figures["n"],
        **{key: head[key] for key in ("gradient", "attribution", "rank", "skip_share", "decoder_cosine", "label")},
        "predicted_delta": None if figures is None else figures["predicted_delta"],
        "replay": replay,
        "validated": False,
        "scale": record["scale"],
    }


def _replay(figures: Record | None, settings: Replay) -> dict[str, Any]:
    untested = {"p": None, "q": None, "matched_p": None, "tested": False}
    if figures is None:
        return {**untested, "reason": "beyond replay.max_edges"}
    kept = {key: value for key, value in figures.items() if key not in ("n", "predicted_delta")}
    kept["linear_ok"] = _is_linear(kept["small_step_slope"], settings.linear_tolerance)
    if figures["n"] < settings.min_prompts:
        reason = f"the patch changes the source on {figures['n']} prompts, {settings.min_prompts} are needed"
        return {**kept, **untested, "reason": reason}
    return {**kept, **untested, "p": combined_p(figures), "tested": True, "reason": None}


def combined_p(figures: Record) -> float:
    """Returns the p that decides: the larger of the two; 1 where the class effect cannot be tested."""
    return max(figures["p_effect"], 1.0 if figures["p_class"] is None else figures["p_class"])


def _is_linear(slope: float | None, tolerance: float) -> bool | None:
    return None if slope is None else abs(slope - 1) <= tolerance


def is_valid(figures: Record, scale: float, settings: Replay, is_rejected: bool) -> bool:
    """Returns whether an edge, or a control held to the same rule, passes every part of it."""
    low, high, slope, same = (figures[name] for name in ("ci_low", "ci_high", "slope", "sign_agreement"))
    matched = figures["matched_p"]
    return bool(
        is_rejected
        and matched is not None
        and matched <= settings.alpha
        and same is not None
        and same >= settings.min_sign_agreement
        and low is not None
        and (low > 0 or high < 0)
        and slope is not None
        and settings.slope_low <= slope <= settings.slope_high
        and abs(figures["mean_delta"]) >= settings.min_effect * scale
    )


def _halves(records: Sequence[Record], settings: Replay) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Deals each pair's controls, in their order, to the half that sets the threshold and the half that is measured."""
    dealt: dict[Pair, int] = {}
    halves: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for record in records:
        for control in record["controls"]:
            if control["figures"]["n"] < settings.min_prompts:
                continue
            pair = (control["source_layer"], record["layer"])
            turn = dealt.get(pair, 0)
            dealt[pair] = turn + 1
            halves[turn % 2].append({**control["figures"], "pair": pair, "scale": record["scale"]})
    return halves


def _sizes(controls: Sequence[Record]) -> dict[Pair, list[float]]:
    sizes: dict[Pair, list[float]] = {}
    for control in controls:
        sizes.setdefault(control["pair"], []).append(abs(control["mean_delta"]) / control["scale"])
    return sizes


def _matched_p(figures: Record, scale: float, pair: Pair, null: Mapping[Pair, np.ndarray]) -> float | None:
    if pair not in null:
        return None
    return float(tail_p_values(np.array([abs(figures["mean_delta"]) / scale]), null[pair])[0])


def _pair(edge: Record) -> Pair:
    return edge["source_layer"], edge["target_layer"]


def _null_report(
    setting: Sequence[Record],
    measuring: Sequence[Record],
    null: Mapping[Pair, np.ndarray],
    threshold: float,
    settings: Replay,
) -> dict[str, Any]:
    """Returns how many matched sources there are by pair of layers, and the measured false-positive rate."""
    judged = [
        {**control, "matched_p": _matched_p(control, control["scale"], control["pair"], null)} for control in measuring
    ]
    passed = [is_valid(control, control["scale"], settings, 0 < combined_p(control) <= threshold) for control in judged]
    pairs = [
        {"source_layer": pair[0], "target_layer": pair[1], "n": len(sizes), "p95": float(np.quantile(sizes, 0.95))}
        for pair, sizes in sorted(null.items())
    ]
    return {
        "n_setting": len(setting),
        "n_measured": len(measuring),
        "false_positive_rate": share(sum(passed), len(passed), "matched sources").as_dict(),
        "pairs": pairs,
    }


def _chains(records: Sequence[Record], edges: Sequence[Record], settings: Replay) -> list[dict[str, Any]]:
    """Returns the chains whose three edges are validated, best first, and whether the middle mediates."""
    valid = {edge["edge_id"]: edge["attribution"] / edge["scale"] for edge in edges if edge["validated"]}
    found = []
    for record in records:
        for chain in record["chains"]:
            first, second = (f"{chain[a]}->{chain[b]}" for a, b in (("source", "middle"), ("middle", "target")))
            whole = f"{chain['source']}->{chain['target']}"
            if first in valid and second in valid and whole in valid:
                part = chain["mediated_share"]
                mediated = part is not None and part >= settings.mediated_share
                found.append({**chain, "score": valid[first] * valid[second], "mediated": mediated})
    found.sort(key=lambda chain: (-chain["score"], chain["source"], chain["middle"], chain["target"]))
    return found[: settings.max_chains]


def _target(record: Record, edges: Sequence[Record]) -> dict[str, Any]:
    own = [edge for edge in edges if edge["target"] == record["feature"]]
    return {
        **{key: value for key, value in record.items() if key not in ("edges", "controls", "chains")},
        "n_tested": sum(edge["replay"]["tested"] for edge in own),
        "n_validated": sum(edge["validated"] for edge in own),
        "n_controls": len(record["controls"]),
    }


def _counts(records: Sequence[Record], edges: Sequence[Record], chains: Sequence[Record]) -> dict[str, int]:
    return {
        "targets": len(records),
        "targets_ok": sum(record["status"] == "ok" for record in records),
        "edges": len(edges),
        "tested": sum(edge["replay"]["tested"] for edge in edges),
        "validated": sum(edge["validated"] for edge in edges),
        "persistence": sum(edge["validated"] and edge["label"] == "persistence" for edge in edges),
        "chains": len(chains),
        "mediated_chains": sum(chain["mediated"] for chain in chains),
    }
