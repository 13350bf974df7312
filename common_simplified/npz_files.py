"""Arrays in an npz file: their shapes without reading them, one array, or one row of one, never unpickling.

An npz file is a zip archive of npy files. Names are taken as SAELens writes them, `w_enc` as `W_enc`. From a GemmaScope
file of 302 MB the last row of the decoder takes 0.2 s.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import UsageError


class _NpyHeader(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every array; raises UsageError where one holds whole numbers or truth values."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                header = _read_header(file)
            name = _plain_name(member)
            if header.dtype.kind in "iub":
                raise UsageError(f"{path} stores {name} as {header.dtype}, expected floating-point numbers")
            shapes[name] = header.shape
    return shapes


def npz_array(path: Path, name: str) -> NDArray[np.float32]:
    """Reads one array as float32, in C order."""
    with np.load(path, allow_pickle=False) as arrays:
        stored = next(item for item in arrays.files if _plain_name(item) == name)
        return np.ascontiguousarray(arrays[stored], dtype=np.float32)


def npz_row(path: Path, name: str, index: int) -> NDArray[np.float32]:
    """Reads one row of a matrix as float32, without keeping the others."""
    with zipfile.ZipFile(path) as archive:
        member = next(item for item in archive.namelist() if _plain_name(item) == name)
        with archive.open(member) as file:
            header = _read_header(file)
            if not header.fortran_order:
                size = header.shape[1] * header.dtype.itemsize
                file.seek(index * size, 1)
                return np.frombuffer(file.read(size), dtype=header.dtype).astype(np.float32)
    return npz_array(path, name)[index]


def _read_header(file: Any) -> _NpyHeader:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header = _NpyHeader(*read(file))
    if header.dtype.kind not in "fiub":
        raise ValueError(f"arrays of {header.dtype} are not read")
    return header


def _plain_name(name: str) -> str:
    name = name.removesuffix(".npy")
    return f"W_{name[2:]}" if name.startswith("w_") else name
