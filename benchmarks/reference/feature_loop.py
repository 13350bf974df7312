"""A loop over features through scipy and scikit-learn, the reference of row P7."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score


class Looped(NamedTuple):
    """Firing frequencies in both classes, t and AUROC of every feature, and the largest score under each shuffle."""

    f_correct: np.ndarray
    f_incorrect: np.ndarray
    t: np.ndarray
    auroc: np.ndarray
    largest: np.ndarray


def ranked(
    values: np.ndarray, labels: np.ndarray, shuffles: np.ndarray, *, one_shuffle_at_a_time: bool = False
) -> Looped:
    """Ranks the columns of `values` (problems, features) one by one; `shuffles` (shuffles, problems) are of labels."""
    largest = np.full(len(shuffles), -np.inf)
    rows = []
    for column in values.astype(np.float64).T:
        fires = column > 0
        t, _ = ttest_ind(column[labels], column[~labels], equal_var=False)
        rows.append((fires[labels].mean(), fires[~labels].mean(), t, roc_auc_score(labels, column)))
        scores = _each(fires, shuffles) if one_shuffle_at_a_time else _all(fires, shuffles)
        np.maximum(largest, scores, out=largest)
    f_correct, f_incorrect, t_values, auroc = np.array(rows).T
    return Looped(f_correct, f_incorrect, t_values, auroc, largest)


def _all(fires: np.ndarray, shuffles: np.ndarray) -> np.ndarray:
    n_correct = int(shuffles[0].sum())
    correct = shuffles[:, fires].sum(axis=1)
    return correct / n_correct - (fires.sum() - correct) / (shuffles.shape[1] - n_correct)


def _each(fires: np.ndarray, shuffles: np.ndarray) -> np.ndarray:
    return np.array([fires[shuffled].mean() - fires[~shuffled].mean() for shuffled in shuffles])
