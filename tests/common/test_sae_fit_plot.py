from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from common import plotting
from common.sae_fit_plot import sae_fit_figure
from tests.common.figures import caption_of, crowded

pytestmark = pytest.mark.unit


def entry(layer: int, own: float | None, before: float | None, after: float | None, n_tokens: int = 50) -> Any:
    beside = [{"offset": at, "fraction_unexplained": one} for at, one in ((-1, before), (1, after)) if one is not None]
    reason = "the stream does not vary" if own is None else None
    sizes = {"n_tokens": n_tokens, "mean_l0": 10.0 + layer, "dead_share": layer / 10, "d_sae": 8}
    return {"layer": layer, "fraction_unexplained": own, "reason": reason, "neighbours": beside, **sizes}


LAYERS = [entry(0, 0.1, 0.5, 0.6), entry(1, 0.2, 0.7, 0.8), entry(3, 0.3, 0.9, None)]


def series(made: Figure, panel: int) -> dict[str, list[float]]:
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in made.axes[panel].lines}


def test_every_layer_stands_with_its_neighbours_and_its_sparsity(tmp_path: Path) -> None:
    made = sae_fit_figure({"n_problems": 4, "layers": LAYERS})
    drawn = series(made, 0)
    assert drawn["declared site"] == [0.1, 0.2, 0.3] and drawn["one block earlier"] == [0.5, 0.7, 0.9]
    assert drawn["one block later"] == pytest.approx([0.6, 0.8, np.nan], nan_ok=True)
    assert [np.asarray(made.axes[panel].lines[0].get_ydata()).tolist() for panel in (1, 2)] == [
        [10, 11, 13],
        [0, 0.1, 0.3],
    ]
    assert np.asarray(made.axes[0].lines[0].get_xdata()).tolist() == [0, 1, 3]
    assert caption_of(made).startswith("n = 50 prompt tokens (all but BOS) of 4 problems. Unexplained: 1 is")
    assert made.axes[0].get_yscale() == "linear" and crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_misfits_far_larger_than_the_fit_get_a_logarithmic_axis() -> None:
    made = sae_fit_figure({"n_problems": 4, "layers": [*LAYERS, entry(4, 0.1, 30.0, None)]})
    assert made.axes[0].get_yscale() == "log" and crowded(made) == []


def test_what_the_report_adds_stands_in_the_caption() -> None:
    layers = [entry(0, 0.1, None, 0.5, n_tokens=40), entry(1, 0.1, 0.5, None, n_tokens=60)]
    report = {"n_problems": 4, "n_problems_left_out": 2, "note": "the base model's SAEs", "layers": layers}
    caption = caption_of(sae_fit_figure(report))
    assert caption.startswith("n = 40 to 60 prompt tokens (all but BOS) of 4 problems (2 left out).")
    assert caption.endswith("The base model's SAEs.")


@pytest.mark.parametrize(
    ("layers", "said"),
    [([], "no layer was measured"), ([entry(0, None, None, None)], "the stream does not vary")],
)
def test_without_a_figure_the_panel_gives_the_reason(layers: list[Any], said: str, tmp_path: Path) -> None:
    made = sae_fit_figure({"n_problems": 0, "layers": layers})
    assert [text.get_text() for text in made.axes[0].texts] == [said]
    plotting.save(made, tmp_path / "plot")
