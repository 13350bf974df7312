"""Untrusted code: the solution in a completion (`extraction`) and whether it passes its tests (`pool`)."""

from __future__ import annotations

from common.execution.pool import EvaluationPool, evaluate_code
from common.execution.results import OUTCOMES, EvaluationResult

__all__ = ["OUTCOMES", "EvaluationPool", "EvaluationResult", "evaluate_code"]
