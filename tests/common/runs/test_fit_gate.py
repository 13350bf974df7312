from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from common.errors import UsageError
from common.runs.fit_gate import check_fit, fit_report

pytestmark = pytest.mark.numeric

# Two problems of a stream with two dimensions: tokens (0,0), (2,0) and (0,2), (2,2). Their mean is (1,1), so the
# variance summed over tokens is 4 x 2 = 8.
TOKENS = (np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 2.0], [2.0, 2.0]]))
WIDTH = 10


def fit_row(position: int, layer: int, offset: int, squared_error: float, **changes: Any) -> dict[str, Any]:
    tokens = TOKENS[position]
    fires = np.zeros(WIDTH, dtype=np.uint8)
    fires[[position, 9]] = 1
    return {
        "position": position,
        "task_id": 10 + position,
        "layer": layer,
        "offset": offset,
        "hook_name": f"blocks.{layer + offset}.hook_resid_post",
        "n_tokens": len(tokens),
        "squared_error": squared_error,
        "squared_norm": float((tokens**2).sum()),
        "active": 3,
        "total": tokens.sum(axis=0).tolist(),
        "fired": np.packbits(fires).tobytes() if offset == 0 else None,
        "d_sae": WIDTH,
        **changes,
    }


def report_of(errors: dict[tuple[int, int], tuple[float, float]]) -> dict[str, Any]:
    """Report of (layer, offset) -> squared errors of both problems."""
    rows = [
        fit_row(position, layer, offset, error)
        for (layer, offset), pair in errors.items()
        for position, error in enumerate(pair)
    ]
    return fit_report(pa.Table.from_pylist(rows))


GOOD = {(0, -1): (3.0, 3.0), (0, 0): (0.5, 1.5), (0, 1): (2.0, 2.0), (1, -1): (4.0, 4.0), (1, 0): (1.0, 1.0)}


def test_sums_over_problems_give_the_unexplained_share_of_variance() -> None:
    first, last = report_of(GOOD)["layers"]
    assert first["fraction_unexplained"] == pytest.approx(2.0 / 8.0)
    assert first["mean_l0"] == pytest.approx(6 / 4)
    assert first["n_tokens"] == 4
    assert [item["offset"] for item in first["neighbours"]] == [-1, 1]
    assert [item["fraction_unexplained"] for item in first["neighbours"]] == pytest.approx([6 / 8, 4 / 8])
    assert last["fraction_unexplained"] == pytest.approx(2.0 / 8.0)


def test_the_share_equals_a_direct_computation_over_all_tokens() -> None:
    rng = np.random.default_rng(3)
    streams = [rng.standard_normal((n, 5)) * 3 + 7 for n in (4, 9, 2)]
    rebuilt = [stream + rng.standard_normal(stream.shape) * 0.3 for stream in streams]
    rows = [
        fit_row(0, 0, 0, 0.0)
        | {
            "position": number,
            "n_tokens": len(stream),
            "squared_error": float(((stream - other) ** 2).sum()),
            "squared_norm": float((stream**2).sum()),
            "total": stream.sum(axis=0).tolist(),
        }
        for number, (stream, other) in enumerate(zip(streams, rebuilt, strict=True))
    ]
    together, again = np.concatenate(streams), np.concatenate(rebuilt)
    expected = ((together - again) ** 2).sum() / (len(together) * together.var(axis=0).sum())
    report = fit_report(pa.Table.from_pylist(rows))
    assert report["layers"][0]["fraction_unexplained"] == pytest.approx(expected, rel=1e-9)
    assert report["n_problems"] == 3


def test_features_that_never_fired_are_dead() -> None:
    # Features 0, 1 and 9 fired on one problem or the other.
    assert report_of(GOOD)["layers"][0]["dead_share"] == pytest.approx(7 / 10)


def test_the_order_of_rows_does_not_change_the_report() -> None:
    rows = [fit_row(p, layer, offset, e) for (layer, offset), pair in GOOD.items() for p, e in enumerate(pair)]
    assert fit_report(pa.Table.from_pylist(rows[::-1])) == fit_report(pa.Table.from_pylist(rows))


def test_a_stream_that_does_not_vary_gives_null_and_a_reason() -> None:
    rows = [fit_row(0, 0, 0, 1.0, n_tokens=2, squared_norm=10.0, total=[4.0, 2.0])]
    entry = fit_report(pa.Table.from_pylist(rows))["layers"][0]
    assert entry["fraction_unexplained"] is None
    assert entry["reason"] == "the stream does not vary over the tokens"
    with pytest.raises(UsageError, match="layer 0 at .* the fit could not be computed"):
        check_fit({"layers": [entry]}, [0], site_given=False, reader="2.5")


def test_a_layer_that_fits_its_site_best_passes() -> None:
    assert check_fit(report_of(GOOD), [0, 1], site_given=False, reader="2.5") == []


@pytest.mark.parametrize(("offset", "words"), [(-1, "one block earlier"), (1, "one block later")])
def test_a_neighbour_that_fits_better_stops_the_ranking(offset: int, words: str) -> None:
    report = report_of({**GOOD, (0, offset): (0.5, 0.5)})
    said = rf"phase 2.5 stops: layer 0 at blocks.0.hook_resid_post leaves 0.250 .* \({words}\) only 0.125"
    with pytest.raises(UsageError, match=said):
        check_fit(report, [0, 1], site_given=False, reader="2.5")
    assert check_fit(report, [1], site_given=False, reader="2.5") == []


def test_a_neighbour_that_fits_equally_well_stops_the_ranking() -> None:
    with pytest.raises(UsageError, match="stops"):
        check_fit(report_of({**GOOD, (0, 1): (1.0, 1.0)}), [0], site_given=False, reader="2.5")


def test_a_site_that_was_asked_for_is_warned_about_and_recorded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("pva_sae"), "propagate", True)
    report = report_of({**GOOD, (0, 1): (0.0, 0.5), (1, -1): (0.5, 0.5)})
    findings = check_fit(report, [0, 1], site_given=True, reader="2.5")
    assert len(findings) == 2
    assert caplog.text.count("kept: the site was given by hand") == 2


def test_the_last_layer_is_judged_by_its_one_neighbour() -> None:
    report = report_of(GOOD)
    assert [item["offset"] for item in report["layers"][1]["neighbours"]] == [-1]
    with pytest.raises(UsageError, match="layer 1 at"):
        check_fit(report_of({**GOOD, (1, -1): (0.1, 0.1)}), [1], site_given=False, reader="2.5")


def test_a_layer_without_figures_is_refused() -> None:
    with pytest.raises(UsageError, match="no figures for layers 7, 9"):
        check_fit(report_of(GOOD), [0, 7, 9], site_given=False, reader="2.5")
