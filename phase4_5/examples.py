"""Every steered solution of a table of results as a diff against the baseline's, a file a coefficient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.code_survival import char_similarity, length_ratio, token_similarity
from common.conditions import TARGET
from common.steering_examples import write_examples


def write_coefficient_examples(
    directory: Path, table: pa.Table, example_of: Callable[[Mapping[str, Any]], dict[str, Any]], suffix: str = ""
) -> list[Path]:
    """Writes the targets' rows and returns the paths; `example_of` adds the problem to a row."""
    of_condition: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["kind"] == TARGET:
            of_condition.setdefault(row["condition"], []).append(row)
    paths = []
    for name, rows in of_condition.items():
        shown, first = [_with_similarity(example_of(row)) for row in rows], rows[0]
        feature = f"{first['layer']}:{first['feature_idx']}"
        title = f"{first['direction']}-preferring feature {feature}, coefficient {first['coefficient']:g}"
        note = f"all {len(shown)} problems on which this coefficient was tried"
        paths += write_examples(directory, f"{name}{suffix}", title, note, shown)
    return paths


def _with_similarity(row: dict[str, Any]) -> dict[str, Any]:
    baseline, steered = row["baseline_code"], row["generated_code"]
    if baseline is None or steered is None:
        return row
    return {
        **row,
        "token_similarity": token_similarity(baseline, steered),
        "char_similarity": char_similarity(baseline, steered),
        "length_ratio": length_ratio(steered, baseline),
    }
