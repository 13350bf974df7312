"""`evaluation_summary.txt`: phase 3.8's figures as tables for reading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common.text_table import text_table


def summary_text(results: dict[str, Any]) -> str:
    """Returns both directions' tables: the feature beside its rivals, by temperature and by difficulty."""
    parts = []
    for direction, report in results["directions"].items():
        feature = report["feature"]
        title = f"{direction}-preferring feature: layer {feature['layer']}, feature {feature['index']}"
        parts.append(
            f"{title}\npositive: solutions that {report['positive']}; threshold {_threshold(report['threshold'])}"
        )
        parts.append(text_table([_target(report), *_rivals(report)], _HEADER))
        parts.append(text_table([_group(row, "temperature") for row in report["by_temperature"]], _GROUP_HEADER))
        parts.append(text_table([_group(row, "complexity") for row in report["by_difficulty"]], _GROUP_HEADER))
    return "\n\n".join(["\n".join([_PREFACE, *_notes(results)]), *parts]) + "\n"


def _notes(results: dict[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before believing the figures."""
    if results.get("predictor_note"):
        yield f"Note: {results['predictor_note']}."
    if results.get("site_given"):
        yield "Note: the residual stream was read at a site given by hand, not where the SAEs' metadata say."
    for direction in results.get("features_given", []):
        yield f"Note: the {direction}-preferring feature was given by hand, not chosen on the sae split."
    for direction, report in results["directions"].items():
        left_out = report["validation"].get("n_excluded", 0)
        if left_out:
            yield f"Note: {direction}: {left_out} validation problems have no label and are left out."


_PREFACE = (
    "Detection on the validation split. Features were chosen on the sae split, thresholds on hyperparams.\n"
    "AUROC and AP with 95 % bootstrap intervals over problems; 'all' is the F1 of calling everything positive."
)
_HEADER = ("score", "n", "AUROC", "AP", "F1", "all", "precision", "recall", "balanced", "MCC", "feature ahead by")
_GROUP_HEADER = ("group", "n", "problems", "positive", "AUROC", "AP", "F1", "all", "balanced", "MCC")


def _target(report: dict[str, Any]) -> tuple[str, ...]:
    return ("the feature", *_figures(report["validation"]), "")


def _rivals(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, rival in report["rivals"].items():
        ahead = _interval(rival["target_minus_median"])
        if "detection" in rival:
            rows.append((name, *_figures(rival["detection"]), ahead))
        else:
            spread, ap = rival["auroc"], rival["average_precision"]
            label = f"{name} ({rival['n_scores']}{_how_near(rival.get('settings', {}))}): median [range]"
            rows.append((label, str(rival["n"]), _range(spread), _range(ap), *[""] * 6, ahead))
    return rows


def _how_near(settings: dict[str, Any]) -> str:
    """Says how often matched features fire beside the feature itself: few layers hold a hundred that are near."""
    if "median_firing_rate" not in settings:
        return ""
    return f", firing on {settings['median_firing_rate']:.0%}, the feature on {settings['firing_rate']:.0%}"


def _figures(report: dict[str, Any]) -> tuple[str, ...]:
    at = report["classification"] or {}
    names = ("f1", "f1_all_positive", "precision", "recall", "balanced_accuracy", "matthews")
    cells = tuple(_number(at.get(name)) for name in names)
    return str(report["n"]), _interval(report["auroc"]), _interval(report["average_precision"]), *cells


def _group(report: dict[str, Any], kind: str) -> tuple[str, ...]:
    at = report["classification"] or {}
    figures = tuple(_number(at.get(name)) for name in ("f1", "f1_all_positive", "balanced_accuracy", "matthews"))
    counts = (str(report["n"]), str(report["n_problems"]), str(report["n_positive"]))
    return (
        f"{kind} {report['group']}",
        *counts,
        _interval(report["auroc"]),
        _interval(report["average_precision"]),
        *figures,
    )


def _threshold(threshold: dict[str, Any]) -> str:
    if threshold["threshold"] is None:
        return f"not chosen: {threshold['reason']}"
    return (
        f"{threshold['threshold']:.4g} (hyperparameter split, n = {threshold['n']}: F1 {_number(threshold['f1'])}, "
        f"everything positive {_number(threshold['f1_all_positive'])})"
    )


def _interval(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _range(spread: dict[str, Any]) -> str:
    return "–" if spread["median"] is None else f"{spread['median']:.3f} [{spread['min']:.3f}, {spread['max']:.3f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
