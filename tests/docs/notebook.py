"""The notebook of the documentation: reading it, and running it on another run's results."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from common.profiles import REPOSITORY

PLACE = REPOSITORY / "docs" / "notebooks" / "demo_results.ipynb"
DATA_DIR = "PVA_SAE_DATA_DIR"


def stored() -> NotebookNode:
    """Returns the notebook as it is stored."""
    return nbformat.read(PLACE, as_version=4)


def executed(data: Path) -> NotebookNode:
    """Returns the notebook, run by Jupyter on the results in `data`, without a network."""
    notebook = stored()
    for cell in notebook.cells:
        cell.get("outputs", []).clear()
    environment = {**os.environ, DATA_DIR: str(data), "OMP_NUM_THREADS": "1"}
    place = {"metadata": {"path": str(PLACE.parent)}}
    with TemporaryDirectory() as sockets:  # whose paths have to be short
        kernel = AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel")
        NotebookClient(notebook, km=kernel, timeout=120, resources=place).execute(env=environment)
    return notebook


def kinds(notebook: NotebookNode) -> list[list[tuple[str, list[str]]]]:
    """Returns what kind of output every code cell has."""
    return [
        [(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
