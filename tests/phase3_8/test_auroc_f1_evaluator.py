from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from common.runs.features import Feature
from phase3_8.auroc_f1_evaluator import _in_words

pytestmark = pytest.mark.unit


def in_words(at: Any = None, **auroc: Any) -> str:
    report = {"validation": {"auroc": {"low": None, "high": None, "n": 9, "reason": None, **auroc}}}
    return _in_words("correct", SimpleNamespace(report=report, at_threshold=at, feature=Feature(1, 2)))  # type: ignore[arg-type]


def test_a_figure_comes_with_its_interval_and_an_f1_with_that_of_calling_everything_positive() -> None:
    at = SimpleNamespace(f1=0.75, f1_all_positive=0.5)
    assert in_words(at, value=0.8, low=0.7, high=0.9) == (
        "correct: layer 1, feature 2: AUROC 0.800 [0.700, 0.900], F1 0.750 (everything positive: 0.500), n = 9"
    )


def test_a_figure_without_an_interval_stands_alone() -> None:
    assert in_words(value=1.0) == "correct: layer 1, feature 2: AUROC 1.000, n = 9"


def test_a_figure_that_cannot_be_computed_has_its_reason() -> None:
    words = in_words(value=None, reason="no positive row among 9")
    assert words == "correct: layer 1, feature 2: AUROC could not be computed (no positive row among 9), n = 9"
