"""Tables of detection: a feature beside its rivals, by difficulty, by temperature, and its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.wording import percent
from report.blocks import Cell, Column, Number, Table
from report.wording import because, count_cell, difference_cell, estimate_cell, number_cell, numeric, rate_cell

Report = Mapping[str, Any]
AT_THRESHOLD = (
    numeric("F1", "at the threshold that was chosen on the hyperparameter split"),
    numeric("F1, all positive", "of calling everything positive: what F1 has for nothing"),
    numeric("balanced accuracy", "mean of recall and of the same for negatives; chance: 0.5"),
    numeric("Matthews", "correlation of call and truth; chance: 0"),
)
AUROC = numeric("AUROC", "with its 95 % interval over problems; of random rivals, median and range; chance: 0.5")
PRECISION = numeric("average precision", "with interval or range as AUROC; chance: the share of positives")


def rivals_table(direction: str, report: Report) -> Table:
    """Returns the feature and its rivals on the same rows."""
    validation = report["validation"]
    columns = (
        Column("score"),
        AUROC,
        numeric("feature ahead by", "the feature's AUROC minus this rival's, paired; of random ones, the median's"),
        *AT_THRESHOLD,
        PRECISION,
    )
    rows = [(_own_name(report), *_figures(validation, Number(None, "–")))]
    rows += [_rival(name, rival) for name, rival in report["rivals"].items()]
    positives = f"{validation['n_positive']:,} of them {report['positive']} ({percent(validation['share_positive'])})"
    caption = (
        f"The {direction}-preferring feature beside simple rivals; validation split, n = {validation['n']:,} "
        f"solutions, {positives}. Rivals learn on the sae split; thresholds come from the hyperparameter split."
    )
    return Table(caption, columns, tuple(rows))


def _own_name(report: Report) -> str:
    return f"the feature: layer {report['feature']['layer']}, {report['feature']['index']}"


def _rival(name: str, rival: Report) -> tuple[Cell, ...]:
    ahead = rival["target_minus_median"]
    lead = Number(None, because(rival["reason"])) if ahead is None else difference_cell(ahead)
    if "detection" in rival:
        own = rival["detection"]
        return (name, *_figures(own, lead))
    auroc, precision = (_spread(rival[name], rival) for name in ("auroc", "average_precision"))
    blanks = (Number(None, "–"),) * len(AT_THRESHOLD)
    return (f"{rival['n_scores']} {name}, median (range)", auroc, lead, *blanks, precision)


def _spread(spread: Report, rival: Report) -> Number:
    if spread["median"] is None:
        return Number(None, because(rival["reason"]))
    return Number(spread["median"], f"{spread['median']:.3f} ({spread['min']:.3f} to {spread['max']:.3f})")


def _figures(report: Report, *beside: Number) -> tuple[Number, ...]:
    """Returns AUROC, what stands beside it, the figures at the threshold, and average precision."""
    return (estimate_cell(report["auroc"]), *beside, *_at(report), estimate_cell(report["average_precision"]))


def _at(report: Report) -> tuple[Number, ...]:
    names = ("f1", "f1_all_positive", "balanced_accuracy", "matthews")
    at = report["classification"]
    if at is None:
        return (Number(None, because(report["reason"])),) * len(names)
    return tuple(number_cell(at[name], 3, at["reasons"].get(name)) for name in names)


def confusion(direction: str, report: Report) -> Table:
    """Returns what the feature says at its threshold against what happened."""
    at, positive = report["validation"]["classification"], report["positive"]
    negative = "failed" if positive == "passed" else "passed"
    columns = (
        Column("solutions that"),
        numeric(f"called “{positive}”"),
        numeric(f"called “{negative}”"),
        numeric("called rightly", "recall, and the same for negatives; in the last row, of all solutions"),
    )
    caption = f"Calls of the {direction}-preferring feature at its threshold, validation split"
    if at is None:
        return Table(f"{caption}: none, {report['validation']['reason']}.", columns, ())
    negatives, unflagged = at["n"] - at["n_positive"], at["n"] - at["n_flagged"]
    right = at["tp"] + at["tn"]
    rows = (
        (positive, *_called(at["tp"], at["fn"]), rate_cell(at["tp"], at["n_positive"], f"none {positive}")),
        (negative, *_called(at["fp"], at["tn"]), rate_cell(at["tn"], negatives, f"none {negative}")),
        (
            "of those called so, right",
            rate_cell(at["tp"], at["n_flagged"], f"none called {positive}"),
            rate_cell(at["tn"], unflagged, f"none called {negative}"),
            rate_cell(right, at["n"]),
        ),
    )
    return Table(f"{caption}, n = {at['n']:,}. Shares with Wilson's 95 % interval.", columns, rows)


def _called(positive: int, negative: int) -> tuple[Number, Number]:
    return count_cell(positive), count_cell(negative)


def by_difficulty(direction: str, report: Report) -> Table:
    """Returns the feature's figures by cyclomatic complexity of the reference solution."""
    names = {"1": "1", "2-3": "2–3", "4+": "4 and more"}
    rows = tuple((names[item["group"]], *_group(item)) for item in report["by_difficulty"])
    caption = f"The {direction}-preferring feature by difficulty; validation split, the same threshold everywhere."
    return Table(caption, (Column("complexity"), *_GROUP), rows)


def by_temperature(direction: str, report: Report) -> Table:
    """Returns the feature's figures by sampling temperature; intervals keep a problem's samples together."""
    rows = tuple((Number(item["group"], f"{item['group']:g}"), *_group(item)) for item in report["by_temperature"])
    caption = (
        f"The {direction}-preferring feature by sampling temperature; validation split. A problem's score is the same "
        "at each temperature, its solutions are not."
    )
    return Table(caption, (numeric("temperature"), *_GROUP), rows)


_GROUP = (
    numeric("solutions"),
    numeric("problems"),
    numeric("positive", "solutions of the class that the feature is to detect"),
    AUROC,
    *AT_THRESHOLD,
    PRECISION,
)


def _group(item: Report) -> tuple[Number, ...]:
    counts = (count_cell(item["n"]), count_cell(item["n_problems"]), count_cell(item["n_positive"]))
    return (*counts, *_figures(item))
