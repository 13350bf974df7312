"""What steering did in plain words, and the cells of its tables; from an analysis of phase 4.8 or 7.6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.conditions import RANDOM_DIRECTION, RANDOM_FEATURE
from common.steering_comparison import P_LIMIT
from common.wording import NOT_DEFINED, SPACE, p_value, signed
from report.blocks import Cell, Column, Number
from report.wording import because, rate

KINDS = {RANDOM_FEATURE: "matched random features", RANDOM_DIRECTION: "random directions"}
ONE = {RANDOM_FEATURE: "random feature", RANDOM_DIRECTION: "random direction"}
OUTCOME_WORDS = {"correct": "fixes − breaks", "incorrect": "breaks that still parse"}

Analysis = Mapping[str, Any]


def feature_words(entry: Analysis) -> str:
    """Returns which feature is added, and how strongly: "layer 2, feature 208, coefficient 9.78"."""
    return f"{place_words(entry['feature'])}, coefficient {figure(entry['coefficient'])}"


def place_words(feature: Analysis) -> str:
    """Returns where a feature is: "layer 2, feature 208"."""
    return f"layer {feature['layer']}, feature {feature['index']}"


def figure(value: float, form: str = "g") -> str:
    """Returns a figure that may be negative, in a format of `format`."""
    return f"{value:{form}}".replace("-", "−")


def whole(value: float) -> str:
    """Returns a whole number, which may be negative."""
    return figure(value, ",.0f")


def net_cell(net: int) -> Number:
    """Returns a change in solved problems."""
    return Number(net, signed(net, 0))


def span_words(rank: Analysis) -> str:
    """Returns what the controls of a rank reach, from the least to the most."""
    return NOT_DEFINED if rank["minimum"] is None else f"{whole(rank['minimum'])} to {whole(rank['maximum'])}"


def median_cell(rank: Analysis) -> Number:
    """Returns what the middle one of the controls of a rank reaches."""
    return Number(rank["median"], NOT_DEFINED if rank["median"] is None else figure(rank["median"]))


def effect_sentences(directions: Mapping[str, Analysis]) -> str:
    """Returns what either direction did, with counts, intervals and tests, and what the controls say of both."""
    did = "; ".join(
        f"steering along the {name}-preferring feature {_did(name, entry)}" for name, entry in directions.items()
    )
    verdicts = {name: control_words(entry) for name, entry in directions.items()}
    if len(set(verdicts.values())) == 1:
        return f"{did[0].upper()}{did[1:]}. Of both directions: {next(iter(verdicts.values()))}."
    said = "; ".join(f"{name}: {words}" for name, words in verdicts.items())
    return f"{did[0].upper()}{did[1:]}. {said[0].upper()}{said[1:]}."


def _did(direction: str, entry: Analysis) -> str:
    effect = entry["effect"]
    if not effect["n"]:
        return "has no problem that enters a rate"
    broke = f"broke {_rate_of(effect['corruption'])} of the passing solutions"
    test = f"McNemar p = {p_value(effect['mcnemar_p'])}"
    if direction == "correct":
        fixed = f"fixed {_rate_of(effect['correction'])} of the failing solutions"
        return f"{fixed} and {broke} (net {signed(effect['net'], 0)} of {effect['n']}, {test})"
    return f"{broke}, {effect['breaks_that_parse']} of which still parse ({test})"


def control_words(entry: Analysis) -> str:
    """Returns what the controls say of a direction: whether it is told apart from them, or why that is not known."""
    controls = entry["controls"]
    rank = controls["rank"]
    if rank["p"] is None:
        return "no controls were run, so another direction may do the same"
    of = f"{rank['n_controls']} {KINDS[controls['rank_kind']]}"
    where = "" if controls["all_problems"] else f" on the {controls['n_problems']} problems of the controls"
    p = f"rank p = {p_value(rank['p'])}"
    if rank["target"] <= 0:
        return f"its {entry['primary_outcome']} is {whole(rank['target'])}{where}: it does not do what it is meant to"
    if rank["n_at_least"]:
        doubt = "" if rank["p"] <= P_LIMIT else ": it is not told apart from its controls"
        return f"{rank['n_at_least']} of {of} do as well{where} ({p}){doubt}"
    if rank["p"] <= P_LIMIT:
        return f"no control does as well{where} ({p} among {of})"
    return f"no control does as well{where}, but {p} is the smallest possible among {of}: too few to tell"


def brief_rank(entry: Analysis) -> str:
    """Returns a direction's rank among its controls in a few words."""
    rank = entry["controls"]["rank"]
    if rank["p"] is None:
        return "no controls were run"
    few = ", the smallest possible" if rank["n_at_least"] == 0 and rank["p"] > P_LIMIT else ""
    return f"rank p = {p_value(rank['p'])} among {rank['n_controls']} {KINDS[entry['controls']['rank_kind']]}{few}"


def brief_cell(share: Analysis) -> Number:
    """Returns a share, its interval in whole per cent and its counts, for tables with many columns."""
    if share["value"] is None:
        return Number(None, because(share["reason"]))
    value, low, high = (f"{100 * share[name]:.0f}" for name in ("value", "low", "high"))
    counts = f"{share['numerator']:,}/{share['denominator']:,}"
    return Number(share["value"], f"{value}{SPACE}% [{low}, {high}] {counts}")


FLIPS = (
    Column("fixed, of failing", "failing before, passing after; brackets: 95 % Wilson interval", True),
    Column("broken, of passing", "passing before, failing after", True),
    Column("net", "fixes − breaks: the change in solved problems", True),
)


def flip_cells(effect: Analysis) -> tuple[Cell, ...]:
    """Returns fixes, breaks and the net change, for tables with many columns (titles: `FLIPS`)."""
    return brief_cell(effect["correction"]), brief_cell(effect["corruption"]), net_cell(effect["net"])


def _rate_of(share: Analysis) -> str:
    return rate(share["numerator"], share["denominator"])
