"""Published results as pandas frames; what a column's type is depends on its schema, never on its values.

Booleans and whole numbers become pandas' nullable types, so that a null stays a null; a list stays a list. Shares and
estimates become three columns: the value, `_low` and `_high` (95 %).
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from common.errors import PipelineError
from common.steering_effects import SteeredArm, arms_of

if TYPE_CHECKING:
    from common.statistics.steering import Flips

_NULLABLE: dict[pa.DataType, Any] = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}
_CONDITION = ("condition", "kind", "direction", "layer", "feature_idx", "target_idx", "draw", "coefficient")
_PLACE = ("rank", "layer", "feature_idx")
_ROWS = ("n", "n_problems", "n_positive")
_SHARES = ("flip_rate", "correction", "corruption", "preservation", "parsing")
_COUNTS = (
    "n",
    "n_failing",
    "n_passing",
    "fixes",
    "breaks",
    "breaks_that_parse",
    "net",
    "solved_before",
    "solved_after",
)
_CLASSIFIED = ("f1", "f1_all_positive", "precision", "recall", "specificity", "balanced_accuracy", "matthews")
_GROUPINGS = {"difficulty": "by_difficulty", "temperature": "by_temperature"}


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Returns an Arrow table as a frame."""
    lists = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    # In this thread only, as everywhere (see common.runs.files.read_parquet).
    frame = table.drop_columns(lists).to_pandas(types_mapper=_NULLABLE.get, use_threads=False)
    for name in lists:
        values = pd.Series(table.column(name).to_pylist(), dtype=object, index=frame.index)
        frame.insert(table.column_names.index(name), name, values)
    return frame


def csv_frame(data: bytes, path: Path) -> pd.DataFrame:
    """Returns a CSV file's bytes as a frame; only an empty field is missing, a token `NA` stays a token."""
    try:
        return pd.read_csv(io.BytesIO(data), keep_default_na=False, na_values=[""])
    except ValueError as error:  # pandas' own errors are ValueErrors
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise PipelineError(f"{path} is not a readable CSV file ({first}); run what makes it again") from None


def feature_frame(top: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Returns the ranked features of both directions, best first."""
    return frame_of(feature_table(top))


def feature_table(top: Mapping[str, Sequence[Mapping[str, Any]]]) -> pa.Table:
    """Returns the ranked features of both directions as an Arrow table, best first."""
    rows = [
        {"direction": direction, "rank": rank, **item}
        for direction, items in top.items()
        for rank, item in enumerate(items, 1)
    ]
    names = list(rows[0]) if rows else ["direction", "rank"]
    return pa.Table.from_pylist(rows, _schema(names, text=("direction", "neuronpedia_url"), whole=_PLACE))


def condition_frame(results: pa.Table) -> pd.DataFrame:
    """Returns one row a condition: what it was, how many problems were fixed and broken, and the rates."""
    rows = [_condition(arm) for arm in arms_of(results)]
    names = [*_CONDITION, *_COUNTS, "left_out", *_with_ends(_SHARES), "mcnemar_p"]
    text = ("condition", "kind", "direction")
    whole = (*_PLACE, "target_idx", "draw", *_COUNTS, "left_out")
    return frame_of(pa.Table.from_pylist(rows, _schema(names, text, whole)))


def _schema(names: Iterable[str], text: Collection[str], whole: Collection[str]) -> pa.Schema:
    """The schema of rows made here: text, whole numbers, and everything else as numbers."""
    kinds = {**dict.fromkeys(whole, pa.int64()), **dict.fromkeys(text, pa.string())}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in names])


def _with_ends(names: Iterable[str]) -> list[str]:
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


def _condition(arm: SteeredArm) -> dict[str, Any]:
    counted = arm.flips()
    counts = {name: getattr(counted, name) for name in _COUNTS}
    left_out = sum(arm.left_out.values())
    return {**arm.condition, **counts, "left_out": left_out, **_shares(counted), "mcnemar_p": counted.mcnemar_p}


def _shares(counted: Flips) -> dict[str, float | None]:
    return {
        f"{name}{suffix}": getattr(getattr(counted, name), figure)
        for name in _SHARES
        for figure, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
    }


def detection_frame(results: Mapping[str, Any]) -> pd.DataFrame:
    """Returns every detection report of phase 3.8 as a row.

    `score` is `feature` or a rival's name, `by` and `group` say which rows (`all`, a difficulty, a temperature). Rivals
    of many scores have their median AUROC, with its range in `auroc_min` and `auroc_max`. `ahead_by` is the feature's
    AUROC minus the rival's.
    """
    rows = [row for direction, report in results["directions"].items() for row in _detection(direction, report)]
    text = ("direction", "positive", "score", "by", "group", "reason")
    names = [*text[:-1], *_ROWS, *_with_ends(("auroc", "average_precision")), "threshold", *_CLASSIFIED]
    names += ["n_scores", "auroc_min", "auroc_max", *_with_ends(("ahead_by",)), "reason"]
    return frame_of(pa.Table.from_pylist(rows, _schema(names, text, (*_ROWS, "n_scores"))))


def _detection(direction: str, report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    feature = {"direction": direction, "positive": report["positive"], "score": "feature"}
    yield {**feature, "by": "all", "group": "all", **_report(report["validation"])}
    for by, key in _GROUPINGS.items():
        for found in report[key]:
            yield {**feature, "by": by, "group": str(found["group"]), **_report(found)}
    for name, rival in report["rivals"].items():
        yield {**feature, "score": name, "by": "all", "group": "all", **_rival(rival)}


def _report(found: Mapping[str, Any]) -> dict[str, Any]:
    at = found["classification"] or {}
    return {
        **{name: found[name] for name in _ROWS},
        **_estimate("auroc", found["auroc"]),
        **_estimate("average_precision", found["average_precision"]),
        "threshold": at.get("threshold"),
        **{name: at.get(name) for name in _CLASSIFIED},
        "reason": found["reason"],
    }


def _rival(rival: Mapping[str, Any]) -> dict[str, Any]:
    one = rival.get("detection")
    many = {"n": rival["n"], "n_problems": rival["n_problems"], "auroc": rival["auroc"]["median"]}
    return {
        **(many if one is None else _report(one)),
        "n_scores": rival["n_scores"],
        "auroc_min": rival["auroc"]["min"],
        "auroc_max": rival["auroc"]["max"],
        **_estimate("ahead_by", rival["target_minus_median"]),
        "reason": rival["reason"],
    }


def _estimate(name: str, found: Mapping[str, Any] | None) -> dict[str, float | None]:
    figures = found or {"value": None, "low": None, "high": None}
    return {name: figures["value"], f"{name}_low": figures["low"], f"{name}_high": figures["high"]}
