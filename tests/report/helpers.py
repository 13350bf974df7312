"""Published phases made by hand, for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.files import parquet_bytes, write_bytes, write_json
from common.runs.metadata import Extent, output_file, write_record

WHOLE = Extent(3, 3)


def publish(
    config: Config,
    phase: str,
    files: Mapping[str, Any],
    extent: Extent = WHOLE,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Publishes `phase` with files of bytes, tables (as parquet) or JSON, and returns its record."""
    paths = PhasePaths(config.phase_dir(phase))
    for name, content in files.items():
        if isinstance(content, pa.Table):
            write_bytes(paths.root / name, parquet_bytes(content))
        elif isinstance(content, bytes):
            write_bytes(paths.root / name, content)
        else:
            write_json(paths.root / name, content)
    outputs = [
        output_file(paths, name, content.num_rows if isinstance(content, pa.Table) else None)
        for name, content in files.items()
    ]
    return write_record(
        paths,
        phase=phase,
        config=config,
        extent=extent,
        inputs=[],
        outputs=outputs,
        wall_seconds={},
        details=details or {},
    )
