"""The bookkeeping of the SAEs' fit: what is measured when. The measurement itself is replaced by one row a problem."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.config import Config
from common.errors import UsageError
from common.runs.artifacts import PhasePaths
from common.runs.files import read_json
from common.runs.fit_gate import check_fit
from common.runs.interruption import StopRequest
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.slices import Span
from common_simplified import sae_fit_work
from common_simplified.generation_work import Arm
from common_simplified.sae_fit import FIT_SCHEMA
from common_simplified.sae_fit_work import SaeFitWork
from tests.common.runs.helpers import problem

pytestmark = pytest.mark.unit

MEASURED: list[int] = []


LEFT_OUT: set[int] = set()


def measure(
    _: object, __: object, prompts: list[str], keys: list[dict[str, Any]], ___: object, *, max_retries: int
) -> pa.Table:
    """Two tokens a problem, (0, 0) and (2, 0), of whose variance 2 a quarter is left unexplained."""
    assert max_retries == 3
    MEASURED.extend(key["position"] for key in keys)
    fired = np.packbits([1, 0, 0, 0]).tobytes()
    common = {"layer": 0, "offset": 0, "hook_name": "h", "n_tokens": 2, "squared_error": 0.5, "squared_norm": 4.0}
    rows = [
        {**key, **common, "active": 2, "total": [2.0, 0.0], "fired": fired, "d_sae": 4}
        for key in keys
        if key["position"] not in LEFT_OUT
    ]
    return pa.Table.from_pylist(rows, schema=FIT_SCHEMA)


@pytest.fixture(autouse=True)
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    MEASURED.clear()
    LEFT_OUT.clear()
    monkeypatch.setattr(sae_fit_work, "measure_fit", measure)


def work(tmp_path: Path, *, model: str = "m", start: int = 0, end: int = 19, positions: int = 10) -> SaeFitWork:
    runner: Any = SimpleNamespace(
        paths=PhasePaths(tmp_path),
        config=Config(sae_fit_positions=positions, batch_size=4),
        problems=[problem(number) for number in range(20)],
        span=Span(start, end),
        setup=SimpleNamespace(saes={}, points={}),
        arms=lambda: [Arm("greedy", 0.0, 1)],
        generation_fingerprint=lambda arm: {"model": model},
        prompt_of=lambda item: item.text,
        timed=lambda stage: nullcontext(),
        loaded=None,
        profile=None,
    )
    return SaeFitWork(runner)


def test_the_first_positions_are_measured_on_the_grid_and_then_nothing_is_left(tmp_path: Path) -> None:
    fit = work(tmp_path)
    assert fit.gaps() == [Span(0, 9)]
    fit.work(StopRequest())
    assert list(range(10)) == MEASURED and fit.gaps() == []
    assert fit.store.spans() == [Span(0, 3), Span(4, 7), Span(8, 9)]
    fit.work(StopRequest())
    assert len(MEASURED) == 10


def test_a_damaged_segment_is_put_aside_and_measured_again_although_no_position_seems_to_be_missing(
    tmp_path: Path,
) -> None:
    work(tmp_path).work(StopRequest())
    segment = work(tmp_path).store.segments()[1].path
    segment.write_bytes(segment.read_bytes()[:-9])
    fit = work(tmp_path)
    assert fit.gaps() == []
    fit.work(StopRequest())
    assert MEASURED[10:] == [4, 5, 6, 7]
    assert fit.store.spans() == [Span(0, 3), Span(4, 7), Span(8, 9)]


def test_a_slice_measures_its_own_positions_and_leaves_the_rest(tmp_path: Path) -> None:
    work(tmp_path, start=6, end=8).work(StopRequest())
    assert MEASURED == [6, 7, 8]
    assert work(tmp_path).gaps() == [Span(0, 5), Span(9, 9)]
    work(tmp_path, start=15).work(StopRequest())
    assert MEASURED == [6, 7, 8]


def test_what_was_measured_on_another_model_is_measured_again(tmp_path: Path) -> None:
    work(tmp_path, end=3).work(StopRequest())
    other = work(tmp_path, model="another", end=3)
    assert other.gaps() == [Span(0, 9)]
    other.work(StopRequest())
    assert MEASURED == [0, 1, 2, 3] * 2


def test_a_stop_ends_it_between_two_batches(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.signal = 15
    work(tmp_path).work(stop)
    assert MEASURED == []


def test_the_report_adds_up_the_problems_and_says_what_is_added(tmp_path: Path) -> None:
    fit = work(tmp_path)
    assert (fit.write(), fit.published()) == ([], None)
    fit.work(StopRequest())
    entry, *plots = fit.write({"role": "instruct"})
    assert [one.path for one in plots] == ["sae_fit.png", "sae_fit.svg"]
    report = read_json(tmp_path / "sae_fit.json")
    assert entry.path == "sae_fit.json" and fit.published() == report
    assert (report["n_problems"], report["n_problems_left_out"], report["role"]) == (10, 0, "instruct")
    (layer,) = report["layers"]
    # Ten times (0, 0) and (2, 0): the variance summed over tokens is 20, of which ten times 0.5 is left.
    assert layer["fraction_unexplained"] == pytest.approx(5 / 20)
    assert (layer["n_tokens"], layer["mean_l0"], layer["dead_share"]) == (20, 1.0, 0.75)


def test_problems_that_memory_could_not_hold_are_counted_and_not_measured_again(tmp_path: Path) -> None:
    LEFT_OUT.update({1, *range(4, 8)})
    fit = work(tmp_path)
    fit.work(StopRequest())
    fit.write()
    report = read_json(tmp_path / "sae_fit.json")
    assert (report["n_problems"], report["n_problems_left_out"]) == (5, 5)
    assert report["layers"][0]["n_tokens"] == 10 and fit.gaps() == []
    LEFT_OUT.update(range(10))
    other = work(tmp_path, model="another")
    other.work(StopRequest())
    other.write()
    report = read_json(tmp_path / "sae_fit.json")
    assert (report["n_problems"], report["n_problems_left_out"], report["layers"]) == (0, 10, [])
    with pytest.raises(UsageError, match="has no figures for layers 0"):
        check_fit(report, [0], site_given=False, reader="2.5")


@pytest.mark.parametrize(("model", "left"), [("m", []), ("another", [Span(0, 9)])])
def test_a_published_fit_counts_only_for_what_it_was_measured_on(tmp_path: Path, model: str, left: list[Span]) -> None:
    fit = work(tmp_path)
    fit.work(StopRequest())
    outputs: list[OutputFile] = fit.write()
    write_record(
        PhasePaths(tmp_path),
        phase="1.0",
        config=Config(),
        extent=Extent(20, 20),
        inputs=[],
        outputs=outputs,
        wall_seconds={},
        details={"fit_fingerprint": fit.fingerprint()},
    )
    fit.store.clear()
    again = work(tmp_path, model=model)
    assert again.gaps() == left
    assert [entry.path for entry in again.write()] == ["sae_fit.json", "sae_fit.png", "sae_fit.svg"]
