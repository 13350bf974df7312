"""One SAE feature, as it is written on the command line and in records."""

from __future__ import annotations

from typing import NamedTuple


class Feature(NamedTuple):
    """An SAE feature: its layer and its index in that layer's SAE."""

    layer: int
    index: int
