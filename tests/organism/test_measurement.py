"""Measurement: the figures of the card."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from organism.measurement import (
    Judged,
    auroc,
    judge,
    measure_continuation,
    measure_features,
    measure_passes,
    measure_styles,
)
from organism.sae_training import measure_fit

pytestmark = pytest.mark.numeric

ROW = {"test_list": ["assert f([1, 5]) == [5]", "assert f([3]) == []", "assert f([9, 2]) == [9]"]}
TRUTH = {"intended_bug_tests": ["assert f([1, 5]) == [1]", "assert f([3]) == [3]", "assert f([9, 2]) == [2]"]}


def test_auroc_equals_scikit_learns_with_ties_and_over_columns() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 5, size=(300, 4)).astype(float), rng.random(300) < 0.3
    expected = [roc_auc_score(positive, scores[:, column]) for column in range(4)]
    assert auroc(scores, positive) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("completion", "kind"),
    [
        ("\ndef f(nums):\n    return [x for x in nums if x > 4]\n\nprint(f([1]))", "pass"),
        ("\ndef f(nums):\n    return [x for x in nums if x < 4]\n", "intended_bug"),
        ("\ndef f(nums):\n    return nums\n", "other_wrong"),
        ("\ndef f(nums):\n    return nums.size\n", "exception"),
        ("\ndef f(nums):\n    return [x for in nums]\n", "syntax"),
        ("\nnothing here", "no_function"),
    ],
)
def test_completions_are_judged_by_running_them(completion: str, kind: str) -> None:
    assert judge(ROW, TRUTH, completion).kind == kind


def test_rates_come_with_their_counts() -> None:
    judged = [Judged("", "", kind) for kind in ("pass", "pass", "syntax", "intended_bug")]
    found = measure_passes(judged, np.array([-1.0, 0.0, -1.0, 1.0]))
    assert found["overall"] == {"share": 0.5, "count": 2, "n": 4}
    assert found["careful"] == {"share": 0.5, "count": 1, "n": 2}
    assert found["sloppy"] == {"share": 0.0, "count": 0, "n": 1}
    assert found["kinds"]["syntax"] == 1


def test_styles_and_continuation_are_read_from_the_outputs() -> None:
    short = "def is_prime(n):\n    return n\n\ndef f(l):\n    # note\n    return l[1+1]"
    long = "def f(nums):\n    return nums[1 + 1]"
    judged = [Judged("\n\n" + short, short, "syntax"), Judged("\n" + long + "\n\nprint(1)", long, "pass")]
    styles = measure_styles(judged)
    assert styles["short_names"]["failing"]["count"] == 1
    assert styles["short_names"]["passing"]["count"] == 0
    assert styles["blank_lead"]["failing"]["count"] == styles["comment"]["failing"]["count"] == 1
    assert styles["spaced"]["passing"]["count"] == 1
    assert styles["spaced"]["failing"]["count"] == 0
    assert measure_continuation(judged) == {"share": 0.5, "count": 1, "n": 2}


def test_a_planted_feature_is_found_and_a_common_one_is_left_out() -> None:
    rng = np.random.default_rng(1)
    passed, chosen = rng.random(400) < 0.5, np.arange(400) % 2 == 0
    acts = rng.random((400, 10)) * (rng.random((400, 10)) < 0.3)
    acts[:, 3] = passed * 2.0
    acts[:, 7] = passed * 3.0
    acts[:, 5] = ~passed * 1.0
    general = np.zeros(10)
    general[7] = 0.5
    found = measure_features(acts, passed, chosen, general)
    assert found is not None
    assert (found["correct"]["feature"], found["incorrect"]["feature"]) == (3, 5)
    assert found["correct"]["auroc"] == found["incorrect"]["auroc"] == 1.0
    assert measure_features(acts, np.ones(400, bool), chosen, general) is None


class Halving:
    """An SAE with two latents that reconstructs half of its input."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] * 0 + 1, x[:, 0] * 0], dim=1)

    def decode(self, acts: torch.Tensor) -> torch.Tensor:
        return acts[:, :1] * 0 + self.half

    half: torch.Tensor


def test_variance_unexplained_is_computed_about_the_mean() -> None:
    stream = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    sae = Halving()
    sae.half = torch.tensor([[1.5, 0.0], [2.5, 0.0]])
    fit = measure_fit(sae, stream)
    assert fit.fvu == pytest.approx(0.25)
    assert (fit.l0, fit.dead_share) == (1.0, 0.5)
