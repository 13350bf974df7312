"""The tables of a generating phase: columns, types, and the data set made from them.

A stage's segments hold one row a problem and sample. Columns that say how long something took are kept apart from the
data set, so that the data are reproducible byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from common.problems import Problem

KEYS = ("position", "task_id", "temperature", "sample")

PROBLEM_SCHEMA = pa.schema(
    [
        ("task_id", pa.int64()),
        ("text", pa.string()),
        ("code", pa.string()),
        ("test_list", pa.list_(pa.string())),
        ("test_setup_code", pa.string()),
        ("cyclomatic_complexity", pa.int64()),
    ]
)

_KEY_FIELDS = [("position", pa.int32()), ("task_id", pa.int64()), ("temperature", pa.float64()), ("sample", pa.int32())]

GENERATION_SCHEMA = pa.schema(
    [
        *_KEY_FIELDS,
        ("prompt", pa.string()),
        ("generated_text", pa.string()),
        ("n_prompt_tokens", pa.int32()),
        ("n_new_tokens", pa.int32()),
        ("stop_reason", pa.string()),
        ("excluded_reason", pa.string()),
        ("tries", pa.int32()),
        ("batch_rows", pa.int32()),
        ("batch_seconds", pa.float64()),
    ]
)

# Steered rows also hold how many forward passes were steered, counted where it happened.
STEERED_SCHEMA = GENERATION_SCHEMA.append(pa.field("steered_steps", pa.int32()))

EVALUATION_SCHEMA = pa.schema(
    [
        *_KEY_FIELDS,
        ("generated_code", pa.string()),
        ("test_passed", pa.bool_()),
        ("outcome", pa.string()),
        ("sandbox_rung", pa.int32()),
        ("opaque", pa.bool_()),
        ("error_message", pa.string()),
        ("tests_passed", pa.int32()),
        ("tests_total", pa.int32()),
        ("cpu_seconds", pa.float64()),
        ("wall_seconds", pa.float64()),
        ("peak_memory_mb", pa.float64()),
    ]
)

RECORD_COLUMNS = (
    "temperature",
    "sample",
    "prompt",
    "generated_text",
    "generated_code",
    "test_passed",
    "outcome",
    "sandbox_rung",
    "opaque",
    "error_message",
    "tests_passed",
    "tests_total",
    "n_prompt_tokens",
    "n_new_tokens",
    "stop_reason",
    "excluded_reason",
)
TIMING_COLUMNS = (*KEYS, "batch_rows", "batch_seconds", "tries", "cpu_seconds", "wall_seconds", "peak_memory_mb")
VECTOR_PREFIX = "vector_"


def problem_table(problems: Iterable[Problem]) -> pa.Table:
    """Returns problems as a table of phase 0's columns."""
    rows = [
        {
            "task_id": problem.task_id,
            "text": problem.text,
            "code": problem.code,
            "test_list": list(problem.test_list),
            "test_setup_code": problem.test_setup_code,
            "cyclomatic_complexity": problem.cyclomatic_complexity,
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=PROBLEM_SCHEMA)


def problems_of(table: pa.Table) -> list[Problem]:
    """Returns the problems of a table that has phase 0's columns, in its order."""
    return [
        Problem(
            task_id=row["task_id"],
            text=row["text"],
            code=row["code"],
            test_list=tuple(row["test_list"]),
            test_setup_code=row["test_setup_code"] or "",
            cyclomatic_complexity=row["cyclomatic_complexity"],
        )
        for row in table.select(PROBLEM_SCHEMA.names).to_pylist()
    ]


def generation_table(
    rows: Sequence[Mapping[str, Any]], vectors: Mapping[int, np.ndarray], schema: pa.Schema = GENERATION_SCHEMA
) -> pa.Table:
    """Returns generated rows with the captured vectors of each layer, shape (rows, d_model), float32.

    A row whose vector is not finite (it was excluded) gets a null vector.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    for layer, matrix in sorted(vectors.items()):
        assert matrix.shape[0] == len(rows), f"{matrix.shape[0]} vectors for {len(rows)} rows"
        table = table.append_column(f"{VECTOR_PREFIX}{layer}", vector_column(matrix))
    return table


def vector_column(matrix: np.ndarray) -> pa.Array:
    """Returns a matrix as a column of fixed-size lists; rows that are not finite become null."""
    width = matrix.shape[1]
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    absent = ~np.isfinite(matrix).all(axis=1)
    return pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(absent))


def vectors_of(table: pa.Table, layer: int) -> np.ndarray:
    """Returns the captured vectors of a layer, float32 (rows, d_model); nan where a row has none."""
    column = table.column(f"{VECTOR_PREFIX}{layer}").combine_chunks()
    width = column.type.list_size
    matrix = np.full((len(column), width), np.nan, dtype=np.float32)
    present = np.asarray(column.is_valid())
    matrix[present] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix


def layers_of(table: pa.Table) -> list[int]:
    """Returns the layers whose vectors a generation table holds."""
    return [int(name.removeprefix(VECTOR_PREFIX)) for name in table.column_names if name.startswith(VECTOR_PREFIX)]


def dataset_table(problems: Sequence[Problem], generated: pa.Table, evaluated: pa.Table) -> pa.Table:
    """Joins both stages with their problems: phase 0's columns, then the record columns, in order of position."""
    same_rows(generated, evaluated)
    taken = pa.array(generated.column("position"))
    columns = {name: problem_table(problems).take(taken).column(name) for name in PROBLEM_SCHEMA.names}
    for name in RECORD_COLUMNS:
        source = generated if name in GENERATION_SCHEMA.names else evaluated
        columns[name] = source.column(name)
    return pa.table(columns).combine_chunks()


def timing_table(generated: pa.Table, evaluated: pa.Table) -> pa.Table:
    """Returns what took how long, one row a record."""
    columns = {}
    for name in TIMING_COLUMNS:
        columns[name] = (generated if name in GENERATION_SCHEMA.names else evaluated).column(name)
    return pa.table(columns).combine_chunks()


def same_rows(generated: pa.Table, evaluated: pa.Table) -> None:
    """Asserts that both stages of an arm hold the same rows in the same order."""
    for key in KEYS:
        if not generated.column(key).equals(evaluated.column(key)):
            raise AssertionError(f"generated and evaluated rows differ in {key}")
