from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.files import sha256_file
from common.runs.metadata import Extent, write_record
from common.steering_effects import arms_of
from common_simplified.generation_files import ArmTables
from common_simplified.steering_baseline import TOO_LONG
from common_simplified.steering_files import RESULTS_SCHEMA, TIMING_SCHEMA, SteeringFiles
from tests.common_simplified.steered_rows import (
    CODE,
    CONDITIONS,
    arm_of,
    baseline_row,
    evaluated_of,
    generated_of,
    problem,
    tables_of,
)

pytestmark = pytest.mark.unit
N, LIMIT = 6, 24
ZERO, UP, AWAY = CONDITIONS
WIDE, FEW = arm_of("wide", (UP, ZERO), range(N)), arm_of("few", (AWAY,), [1, 4])
LOST = [(2, 0), (3, 1)]  # position and place of the condition in its arm
SOLUTIONS = {
    0: ("def add(x):\n    return x", "passed"),
    1: ("def add(:", "syntax_error"),
    2: ("def add(x, y):\n    return x", "exception"),
    3: ("", "no_function"),
    4: (CODE, "wrong_answer"),
    5: ("def add(x):\n    while True:\n        pass", "timeout"),
}
MODES = ["passed", "syntax_broken", "signature_broken", "no_code", "wrong_answer", "limit"]


def files(tmp_path: Path, **changes: Any) -> SteeringFiles:
    paths = PhasePaths(Config(data_dir=str(tmp_path)).phase_dir("4.8"))
    baseline = [baseline_row(position, **changes.get(str(position), {})) for position in range(N)]
    return SteeringFiles(paths, [problem(position) for position in range(N)], baseline, "results.parquet", LIMIT)


def wide_tables() -> ArmTables:
    generated = generated_of(WIDE, range(N), LOST)
    return ArmTables(generated, evaluated_of(generated, lambda position, sample: SOLUTIONS[position]))


def tables() -> dict[str, ArmTables]:
    return {"wide": wide_tables(), "few": tables_of(FEW, [1, 4])}


def published(tmp_path: Path) -> SteeringFiles:
    """Writes both arms with their record."""
    kept = files(tmp_path)
    written = kept.write([WIDE, FEW], tables())
    fields: dict[str, Any] = {"inputs": [], "outputs": written.outputs, "wall_seconds": {}, "details": {}}
    write_record(kept.paths, phase="4.8", config=Config(), extent=Extent(N, N), **fields)
    return kept


def rows_of(tmp_path: Path) -> list[dict[str, Any]]:
    return pq.read_table(published(tmp_path).paths.root / "results.parquet").to_pylist()


# --- what is published


def test_rows_stand_in_order_of_condition_and_position(tmp_path: Path) -> None:
    found = [(row["condition"], row["position"]) for row in rows_of(tmp_path)]
    wide = [(condition.name, position) for condition in (UP, ZERO) for position in range(N)]
    assert found == [*wide, (AWAY.name, 1), (AWAY.name, 4)]


def test_every_file_is_entered_with_its_digest_and_rows(tmp_path: Path) -> None:
    kept = files(tmp_path)
    written = kept.write([WIDE, FEW], tables())
    assert {item.path: item.rows for item in written.outputs} == {"results.parquet": 14, "timings.parquet": 14}
    for item in written.outputs:
        assert item.sha256 == sha256_file(kept.paths.root / item.path)
    assert written.datasets["results.parquet"].equals(pq.read_table(kept.paths.root / "results.parquet"))
    assert written.activations == set()


def test_a_row_carries_its_condition_its_problem_and_its_baseline(tmp_path: Path) -> None:
    row = next(row for row in rows_of(tmp_path) if (row["condition"], row["position"]) == (AWAY.name, 4))
    expected = {
        **{
            "kind": "random_direction",
            "direction": "incorrect",
            "layer": 2,
            "feature_idx": None,
            "draw": 0,
            "target_idx": 5,
        },
        **{"coefficient": -3.0, "task_id": 14, "cyclomatic_complexity": 2, "baseline_passed": True},
        **{"baseline_code": CODE, "baseline_parses": True, "left_out": None, "prompt": "prompt 4"},
        **{"generated_text": "text (4, 0)", "generated_code": CODE, "test_passed": False, "steered_steps": 7},
        **{"n_prompt_tokens": 5, "n_new_tokens": 7, "stop_reason": "eos", "excluded_reason": None},
        **{"outcome": "wrong_answer", "failure_mode": "wrong_answer", "parses": True, "tests_total": 2},
    }
    assert {name: row[name] for name in expected} == expected


def test_failure_modes_and_parsing_are_those_of_each_solution(tmp_path: Path) -> None:
    rows = [row for row in rows_of(tmp_path) if row["condition"] == ZERO.name]
    judged = {row["position"]: row for row in rows if row["excluded_reason"] is None}
    assert {place: row["failure_mode"] for place, row in judged.items()} == {
        place: mode for place, mode in enumerate(MODES) if place != 3
    }
    for place, row in judged.items():
        try:
            parses = bool(ast.parse(SOLUTIONS[place][0]).body)
        except SyntaxError:
            parses = False
        assert row["parses"] is parses, place


def test_a_lost_row_is_left_out_with_nothing_but_its_reason(tmp_path: Path) -> None:
    row = next(row for row in rows_of(tmp_path) if (row["condition"], row["position"]) == (UP.name, 2))
    assert row["left_out"] == "generation failed" and row["excluded_reason"] == "ValueError: cursed"
    absent = ("test_passed", "outcome", "failure_mode", "parses", "generated_code", "generated_text", "n_new_tokens")
    assert [row[name] for name in absent] == [None] * len(absent)
    assert row["baseline_passed"] is True and row["baseline_code"] == CODE


def test_a_baseline_over_the_limit_leaves_its_problem_out_under_every_condition(tmp_path: Path) -> None:
    rows = [row for row in rows_of(tmp_path) if row["position"] >= 4]  # baselines of 24 and 25 tokens, the limit is 24
    assert {row["left_out"] for row in rows if row["position"] == 4} == {None}
    assert {row["left_out"] for row in rows if row["position"] == 5} == {TOO_LONG}
    assert all(row["test_passed"] is not None for row in rows)


@pytest.mark.parametrize(("code", "parses"), [("def add(:", False), ("", False), (CODE, True), (None, None)])
def test_whether_the_baseline_parses_is_asked_of_its_code(tmp_path: Path, code: str | None, parses: bool) -> None:
    table = files(tmp_path, **{"1": {"code": code}}).results(FEW, tables()["few"])
    assert table["baseline_parses"].to_pylist() == [parses, True]
    assert table["baseline_code"].to_pylist() == [code, CODE]


def test_rows_enter_rates_as_the_statistics_read_them(tmp_path: Path) -> None:
    arms = arms_of(pa.Table.from_pylist(rows_of(tmp_path), schema=RESULTS_SCHEMA))
    up, zero, away = arms
    assert up.left_out == {"generation failed": 1, TOO_LONG: 1} and zero.left_out == up.left_out
    assert up.positions.tolist() == [0, 1, 3, 4] and zero.positions.tolist() == [0, 1, 2, 4]
    # baselines pass at even positions: 4 broke along the target, 2 and 4 under the zero arm
    assert (up.flips().breaks, up.flips().fixes, zero.flips().breaks) == (1, 0, 2)
    assert away.flips().n == 2


def test_durations_stand_apart_from_the_data_with_their_condition(tmp_path: Path) -> None:
    kept = published(tmp_path)
    assert not [name for name in RESULTS_SCHEMA.names if "seconds" in name or "memory" in name or name == "tries"]
    timings = pq.read_table(kept.paths.timings)
    assert timings.schema == TIMING_SCHEMA
    rows = {(row["condition"], row["position"]): row for row in timings.to_pylist()}
    assert len(rows) == 14
    assert rows[UP.name, 4]["cpu_seconds"] == pytest.approx(0.4)
    assert (rows[UP.name, 1]["batch_seconds"], rows[ZERO.name, 1]["batch_seconds"]) == (0.5, 1.5)
    assert (rows[UP.name, 2]["tries"], rows[UP.name, 2]["batch_rows"], rows[UP.name, 2]["cpu_seconds"]) == (3, 1, None)


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (files(tmp_path / name).write([WIDE, FEW], tables()).outputs for name in "ab")
    assert first == second


def test_stages_that_hold_other_rows_are_an_error(tmp_path: Path) -> None:
    generated, evaluated = wide_tables()
    with pytest.raises(AssertionError, match="differ"):
        files(tmp_path).results(WIDE, ArmTables(generated, evaluated.slice(1)))


# --- and read back


@pytest.mark.parametrize("name", ["wide", "few"])
def test_generated_rows_come_back_as_they_were_excluded_ones_too(tmp_path: Path, name: str) -> None:
    arm, before = {"wide": (WIDE, wide_tables()), "few": (FEW, tables()["few"])}[name]
    after = published(tmp_path).read(arm, [], 16)
    assert after.schema == before.generated.schema
    assert after.to_pylist() == before.generated.to_pylist()


@pytest.mark.parametrize("name", ["wide", "few"])
def test_labels_come_back_as_they_were_those_of_lost_rows_too(tmp_path: Path, name: str) -> None:
    arm, before = {"wide": (WIDE, wide_tables()), "few": (FEW, tables()["few"])}[name]
    after = published(tmp_path).read_labels(arm)
    assert after.schema == before.evaluated.schema
    assert after.to_pylist() == before.evaluated.to_pylist()


def test_what_is_read_back_is_published_as_the_same_bytes(tmp_path: Path) -> None:
    kept = published(tmp_path)
    before = [(kept.paths.root / name).read_bytes() for name in ("results.parquet", "timings.parquet")]
    kept.write([WIDE, FEW], {arm.name: ArmTables(kept.read(arm, [], 16), kept.read_labels(arm)) for arm in (WIDE, FEW)})
    assert [(kept.paths.root / name).read_bytes() for name in ("results.parquet", "timings.parquet")] == before


def test_labels_made_again_replace_the_old_ones_and_leave_the_text(tmp_path: Path) -> None:
    kept = published(tmp_path)
    before = {(row["condition"], row["position"]): row for row in rows_of(tmp_path)}
    generated = kept.read(WIDE, [], 16)
    again = evaluated_of(generated, lambda position, sample: ("def add(x):\n    return 0", "passed"))
    made = kept.results(WIDE, ArmTables(generated, again)).to_pylist()
    assert len(made) == 12
    text = ("prompt", "generated_text", "n_new_tokens", "steered_steps", "stop_reason", "excluded_reason", "left_out")
    for row in made:
        old = before[row["condition"], row["position"]]
        assert {name: row[name] for name in text} == {name: old[name] for name in text}
        assert row["test_passed"] is (None if row["excluded_reason"] else True)
    kept.write([WIDE, FEW], {"wide": ArmTables(generated, again), "few": tables()["few"]})
    assert pq.read_table(kept.paths.timings).to_pylist()[1]["batch_seconds"] == 0.5


def test_conditions_that_changed_their_order_find_their_rows(tmp_path: Path) -> None:
    turned = arm_of("wide", (ZERO, UP), range(N))
    after = published(tmp_path).read(turned, [], 16)
    texts = {(row["position"], row["sample"]): row["generated_text"] for row in after.to_pylist()}
    assert texts[4, 0] == "text (4, 1)" and texts[4, 1] == "text (4, 0)"
