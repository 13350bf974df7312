"""What a feature does to the outcome, tested from the trials: patch against patch within a prompt class.

Both arms of a contrast are patched, so that what patching itself does cancels. Within class a the feature is set to a's
mean in a's own patch and to b's in the opposite one; within class b the other way round. Effects are aligned: the rate
under a's patch minus the rate under b's, and both classes are tested together for a common effect. Where a trial is one
problem, problems are paired (exact McNemar); otherwise trials are counted (Fisher's exact test over both classes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.statistics.contingency import Table, mean_difference, stratified_fisher
from common.statistics.feature_tests import benjamini_hochberg
from common.statistics.steering import mcnemar_exact
from experiment_pathway_token_analysis.src.settings import Study

Trial = tuple[int | None, bool | None]  # the problem, where a trial is one; the outcome, where it could be parsed
Arm = Sequence[Trial]
FISHER, MCNEMAR = "fisher_exact_stratified", "mcnemar_exact"


class Contrast(NamedTuple):
    """One feature's contrast; `n_pairs` counts problems, or trials of the smaller arms where problems do not pair.

    `effects` and `p_values` are those of each class alone, in the order of the study's classes. What cannot be computed
    is None, with the reason.
    """

    method: str
    effects: tuple[float | None, ...]
    p_values: tuple[float | None, ...]
    rate_difference: float | None
    p: float | None
    n_pairs: int
    reason: str | None


class Pairs(NamedTuple):
    """Paired problems of one class: only a's patch solves it, only b's, and all."""

    gains: int
    losses: int
    n: int


def trials_of_features(tables: Iterable[pa.Table]) -> Iterator[tuple[str, dict[str, list[Trial]]]]:
    """Yields every feature with its trials by condition; `tables` hold whole features, sorted (outcome_columns)."""
    for table in tables:
        features, conditions = table["feature"].to_pylist(), table["condition"].to_pylist()
        trials = list(zip(table["task_id"].to_pylist(), table["outcome"].to_pylist(), strict=True))
        start = 0
        while start < len(features):
            feature, found = features[start], {}
            while start < len(features) and features[start] == feature:
                found.setdefault(conditions[start], []).append(trials[start])
                start += 1
            yield feature, found


def contrast(trials: dict[str, list[Trial]], study: Study) -> Contrast:
    """Returns what the two patches did, over both prompt classes."""
    a, b = study.classes
    arms = [
        (trials.get(study.condition(a, "own"), []), trials.get(study.condition(a, "opposite"), [])),
        (trials.get(study.condition(b, "opposite"), []), trials.get(study.condition(b, "own"), [])),
    ]
    if not any(first and second for first, second in arms):
        return Contrast(FISHER, (None, None), (None, None), None, None, 0, "no class has trials under both patches")
    with_problems = all(problem is not None for pair in arms for arm in pair for problem, _ in arm)
    return _paired(arms) if with_problems else _counted(arms)


def q_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns Benjamini-Hochberg's q over all p-values that there are; None where there is none."""
    values = np.array([np.nan if p is None else p for p in p_values], dtype=np.float64)
    return [None if np.isnan(q) else float(q) for q in benjamini_hochberg(values).q_values]


def _counted(arms: Sequence[tuple[Arm, Arm]]) -> Contrast:
    tables = [_table(first, second) for first, second in arms]
    p = stratified_fisher(tables)
    return Contrast(
        FISHER,
        tuple(mean_difference([table]) for table in tables),
        tuple(stratified_fisher([table]) for table in tables),
        mean_difference(tables),
        p,
        sum(min(table.first_n, table.second_n) for table in tables),
        None if p is not None else "every outcome is the same",
    )


def _table(first: Arm, second: Arm) -> Table:
    judged = [[outcome for _, outcome in arm if outcome is not None] for arm in (first, second)]
    return Table(sum(judged[0]), len(judged[0]), sum(judged[1]), len(judged[1]))


def _paired(arms: Sequence[tuple[Arm, Arm]]) -> Contrast:
    pairs = [_pairs(first, second) for first, second in arms]
    whole = Pairs(*(sum(column) for column in zip(*pairs, strict=True)))
    return Contrast(
        MCNEMAR,
        tuple(_difference(one) for one in pairs),
        tuple(mcnemar_exact(one.gains, one.losses) if one.n else None for one in pairs),
        _difference(whole),
        mcnemar_exact(whole.gains, whole.losses) if whole.n else None,
        whole.n,
        None if whole.n else "no problem has exactly one trial under each patch",
    )


def _pairs(first: Arm, second: Arm) -> Pairs:
    """Pairs the problems with exactly one trial in both arms: several trials of one problem are no several problems."""
    of_first, of_second = _single(first), _single(second)
    both = [(outcome, of_second[problem]) for problem, outcome in of_first.items() if problem in of_second]
    return Pairs(sum(x and not y for x, y in both), sum(y and not x for x, y in both), len(both))


def _single(arm: Arm) -> dict[int, bool]:
    found: dict[int, list[bool | None]] = {}
    for problem, outcome in arm:
        if problem is not None:
            found.setdefault(problem, []).append(outcome)
    return {
        problem: outcomes[0] for problem, outcomes in found.items() if len(outcomes) == 1 and outcomes[0] is not None
    }


def _difference(pairs: Pairs) -> float | None:
    return (pairs.gains - pairs.losses) / pairs.n if pairs.n else None
