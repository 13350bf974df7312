from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from tests.common.made_runs import whole_run
from tests.docs.notebook import PLACE, executed, kinds, stored
from tests.test_house import MACHINE_PATH


@pytest.mark.unit
def test_every_cell_was_run_in_order_and_none_failed() -> None:
    notebook = stored()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "error" not in {output.output_type for cell in cells for output in cell.outputs}
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 2


@pytest.mark.unit
def test_it_is_small_and_names_no_place_on_somebodys_machine() -> None:
    text = PLACE.read_text(encoding="utf-8")
    assert len(text.encode()) < 300_000
    assert not [line for line in text.splitlines() if MACHINE_PATH.search(line) or "/tmp" in line]


@pytest.mark.smoke
def test_it_runs_on_any_run_that_has_the_phases(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "data")
    assert kinds(executed(run.data)) == kinds(stored())
