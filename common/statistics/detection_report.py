"""The figures of detection that are reported together, ready for JSON.

Every table row has its n and n_problems; F1 stands beside the F1 of calling everything positive, average precision
beside the share of positive rows, which chance would have; rivals stand on the same rows as the target (see
`common.statistics.rivals`). With 10,000 draws one report of 388 rows takes 0.2 s on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.statistics.bootstrap import auroc_above_median, bootstrap_auroc, bootstrap_average_precision
from common.statistics.detection import auroc, average_precision, checked_rows, classification_at, missing_class
from common.statistics.selection import BoolArray, FloatArray, IntArray

# Cyclomatic complexity of the reference solution, each group with its first value.
DIFFICULTY_GROUPS = {"1": 1, "2-3": 2, "4+": 4}


def detection_report(
    scores: ArrayLike,
    positive: BoolArray,
    groups: IntArray,
    threshold: float | None,
    seed: int,
    n_draws: int,
) -> dict[str, Any]:
    """Returns how well one score detects the positive rows: ranking with intervals, and figures at the threshold.

    All arrays have shape (n_rows,); `groups` holds each row's problem. `threshold` was chosen on other rows; where none
    could be chosen it is None, and so is `classification`. What is missing has a reason where it would stand.
    """
    n, n_positive = len(positive), int(np.count_nonzero(positive))
    chosen = None if threshold is None else classification_at(scores, positive, threshold).as_dict()
    return {
        "n": n,
        "n_problems": len(np.unique(groups)),
        "n_positive": n_positive,
        "share_positive": n_positive / n if n else None,
        "auroc": bootstrap_auroc(scores, positive, groups, seed, n_draws).as_dict(),
        "average_precision": bootstrap_average_precision(scores, positive, groups, seed, n_draws).as_dict(),
        "classification": chosen,
        "reason": _report_reason(n, threshold),
    }


def _report_reason(n: int, threshold: float | None) -> str | None:
    if n == 0:
        return "no rows"
    return "no threshold was chosen: its split has no positive row" if threshold is None else None


def report_by_group(
    scores: ArrayLike,
    positive: BoolArray,
    groups: IntArray,
    group_of_row: NDArray,
    names: Sequence[Any],
    threshold: float | None,
    seed: int,
    n_draws: int,
) -> list[dict[str, Any]]:
    """Returns one `detection_report` for the rows of each name (a temperature, a difficulty), with the name as `group`.

    `group_of_row` has shape (n_rows,) and holds values of `names`; a name without rows keeps its place with n = 0.
    Groups with equally many problems share their draws.
    """
    values, positive = checked_rows(scores, positive)
    unknown = sorted(set(group_of_row.tolist()) - set(names))
    assert not unknown, f"rows in groups {unknown}, which are not among {list(names)}"
    reports = []
    for name in names:
        rows = group_of_row == name
        report = detection_report(values[rows], positive[rows], groups[rows], threshold, seed, n_draws)
        reports.append({"group": name, **report})
    return reports


def difficulty_of(complexity: IntArray) -> NDArray[np.str_]:
    """Returns the difficulty group of each row's cyclomatic complexity (at least 1): `1`, `2-3` or `4+`."""
    assert len(complexity) == 0 or complexity.min() >= 1, f"complexity {complexity.min()}"
    firsts, names = list(DIFFICULTY_GROUPS.values()), np.array(list(DIFFICULTY_GROUPS))
    return names[np.searchsorted(firsts, complexity, side="right") - 1]


def rival_report(
    target: ArrayLike,
    rivals: FloatArray,
    positive: BoolArray,
    groups: IntArray,
    seed: int,
    n_draws: int,
) -> dict[str, Any]:
    """Returns the figures of one kind of rival (one score or many), and how far the target stands above their median.

    `target` has shape (n_rows,), `rivals` (n_rows, n_scores). `auroc` and `average_precision` hold median and range of
    the scores; `n_at_least_target` counts the scores whose AUROC is at least the target's.
    """
    values, positive = checked_rows(rivals, positive)
    assert values.ndim == 2, f"rivals: {values.shape}"
    n_scores, own = values.shape[1], auroc(target, positive)
    aurocs = [auroc(column, positive) for column in values.T]
    above = auroc_above_median(target, values, positive, groups, seed, n_draws).as_dict() if n_scores else None
    n_at_least = None if own is None else sum(one is not None and one >= own for one in aurocs)
    return {
        "n": len(positive),
        "n_problems": len(np.unique(groups)),
        "n_scores": n_scores,
        "auroc": _spread(aurocs),
        "average_precision": _spread([average_precision(column, positive) for column in values.T]),
        "target_minus_median": above,
        "n_at_least_target": n_at_least,
        "reason": missing_class(positive) or (None if n_scores else "no rival score"),
    }


def _spread(figures: Sequence[float | None]) -> dict[str, float | None]:
    known = [figure for figure in figures if figure is not None]
    if not known:
        return {"median": None, "min": None, "max": None}
    return {"median": float(np.median(known)), "min": min(known), "max": max(known)}
