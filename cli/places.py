"""Where a command may write: asked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import UsageError


def refuse_unwritable(option: str, path: Path) -> None:
    """Raises `UsageError` where nothing can be written at `path`, which need not exist yet; `option` named it."""
    place = next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))
    above = place if place.is_dir() else place.parent
    if (place != path.absolute() and not place.is_dir()) or not os.access(above, os.W_OK):
        raise UsageError(f"{option} {path}: {place} cannot be written to; choose another place")
