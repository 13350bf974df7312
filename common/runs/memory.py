"""Noticing that memory runs out before it does."""

from __future__ import annotations

from pathlib import Path

from common.logging import get_logger

MEMINFO = Path("/proc/meminfo")
_log = get_logger(__name__)


class MemoryWatch:
    """Warns once when more than `share` of the machine's memory is in use; knows nothing outside Linux."""

    def __init__(self, share: float, meminfo: Path = MEMINFO) -> None:
        self.share, self._meminfo, self._warned = share, meminfo, False

    def check(self) -> None:
        """Looks at the memory in use now."""
        used = None if self._warned else used_share(self._meminfo)
        if used is not None and used > self.share:
            self._warned = True
            _log.warning("%.0f %% of the memory is in use; a smaller --batch-size needs less", 100 * used)


def used_share(meminfo: Path = MEMINFO) -> float | None:
    """Returns the share of memory that is not available to new work, None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    return 1 - free / total
