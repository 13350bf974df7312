"""Which features either run found, and which coefficients it steers with: choices, which have no interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.run_comparison.rows import NUMBER, SCORE, WORDS, Place, Row, numbers_row, words_row
from common.run_comparison.sides import Pair
from common.runs.artifacts import SAE_ANALYSIS, SELECTED_COEFFICIENTS, TOP_FEATURES
from common.runs.discovery import PhaseOutput
from common.statistics.permutation import DIRECTIONS

COEFFICIENTS = "coefficients"
SCORES = {"2.5": "separation_score", "2.10": "t_statistic"}
FEATURES = {"2.5": "features by separation score", "2.10": "features by t"}
IN_SAMPLE = "no interval: scored on the problems it was chosen on"
CHOSEN = "no interval: chosen, not estimated"
OTHER_SAES = "other SAEs: a feature's number means another feature"
_SAE = ("release", "sae_id", "revision", "digest")

Items = Sequence[Mapping[str, Any]]


def feature_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns the best feature of either direction, its score, and how many of the best both runs have in common."""
    a, b = pair.outputs(phase)
    tops = (a.json(TOP_FEATURES), b.json(TOP_FEATURES))
    n_ranked = max(output.json(SAE_ANALYSIS)["n_ranked"] for output in (a, b))
    same = _layers_alike(a, b)
    rows = []
    for direction in DIRECTIONS:
        ours, theirs = (top[direction] for top in tops)
        place = Place(FEATURES[phase], f"best {direction}-preferring feature", phase, WORDS)
        other = not {item["layer"] for item in (*ours[:1], *theirs[:1])} <= same
        rows.append(words_row(place, (_name(ours), _name(theirs)), OTHER_SAES if other else ""))
        scores = tuple(items[0][SCORES[phase]] if items else None for items in (ours, theirs))
        score = Place(
            FEATURES[phase], f"its {SCORES[phase].replace('_', ' ')}", phase, SCORE if phase == "2.5" else NUMBER
        )
        rows.append(numbers_row(score, (scores[0], scores[1]), IN_SAMPLE))
        rows.append(_overlap(direction, phase, ours, theirs, same, n_ranked))
    return rows


def _overlap(direction: str, phase: str, ours: Items, theirs: Items, same: set[int], n_ranked: int) -> Row:
    sets = [{(item["layer"], item["feature_idx"]) for item in items} for items in (ours, theirs)]
    place = Place(FEATURES[phase], f"{direction}: the best, in common", phase, WORDS)
    listed = Row(**vars(place), a=f"{len(ours)} listed", b=f"{len(theirs)} listed", n_a=len(ours), n_b=len(theirs))
    if not {layer for one in sets for layer, _ in one} <= same:
        return replace(listed, reason=OTHER_SAES)
    n, chance = len(sets[0] & sets[1]), len(ours) * len(theirs) / n_ranked
    detail = {"in_common": n, "expected_by_chance": chance, "n_ranked": n_ranked}
    words = f"{n} in common; {chance:.2g} expected by chance among {n_ranked:,}"
    return replace(listed, reason=words, detail=detail)


def _layers_alike(a: PhaseOutput, b: PhaseOutput) -> set[int]:
    """The layers that both runs read with the same SAE."""
    ours, theirs = ({sae["sae_layer"]: [sae.get(key) for key in _SAE] for sae in one.record["saes"]} for one in (a, b))
    return {layer for layer in ours if ours[layer] == theirs.get(layer)}


def _name(items: Items) -> str | None:
    return f"layer {items[0]['layer']} feature {items[0]['feature_idx']}" if items else None


def coefficient_rows(pair: Pair, phase: str) -> list[Row]:
    """Returns the coefficient of either direction, as it is added and in norms of the residual stream."""
    ours, theirs = (output.json(SELECTED_COEFFICIENTS) for output in pair.outputs(phase))
    rows = []
    for direction in (direction for direction in DIRECTIONS if direction in ours and direction in theirs):
        entries = (ours[direction], theirs[direction])
        features = [f"layer {entry['layer']} feature {entry['feature_idx']}, {entry['chosen']}" for entry in entries]
        remark = features[0] if features[0] == features[1] else " and ".join(features)
        for key, what in (("coefficient", "coefficient"), ("in_residual_norms", "in norms of the residual stream")):
            values = (entries[0][key], entries[1][key])
            rows.append(numbers_row(Place(COEFFICIENTS, f"{direction}: {what}", phase, NUMBER), values, CHOSEN, remark))
            remark = ""
    return rows
