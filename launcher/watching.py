"""Waiting for workers: showing how far they are, heeding a request to stop, and saying why some failed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import Interrupted, PipelineError
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest
from common.runs.slice_records import read_slice_record
from common.runs.slices import Span
from launcher.engine import COMMAND_MARK, Ended, Engine
from launcher.progress import SliceProgress

LOOK_SECONDS = 0.5
LAST_LINES, LAST_BYTES = 8, 20_000
_log = get_logger(__name__)


class Watch:
    """Watches an engine's workers on the slices `names`, which says where each is computed."""

    def __init__(
        self,
        engine: Engine,
        paths: PhasePaths,
        names: Mapping[Span, str],
        stop: StopRequest,
        *,
        phase: str,
        go_on: str,
    ) -> None:
        self.engine, self.paths, self.names, self.stop = engine, paths, names, stop
        self.phase, self.go_on = phase, go_on

    def wait(self, total: int) -> None:
        """Waits for the end of every worker; `total` positions are asked for in all.

        Raises `PipelineError` where a worker failed, once all have ended, `Interrupted` where a stop was asked for.
        """
        outlive = self.engine.leave() is not None
        progress = SliceProgress(
            *(self.phase, self.paths, self.names),
            total=total,
            state=self.engine.describe if outlive else None,
        )
        try:
            with progress:
                failed = self._until_all_ended(progress)
        except BaseException:
            if not outlive:
                self.engine.stop()
            raise
        _log.info("%s", progress.line())
        if failed:
            self._refuse(failed)

    def _until_all_ended(self, progress: SliceProgress) -> list[Ended]:
        failed: list[Ended] = []
        left = len(self.names)
        while left:
            for ended in self.engine.poll():
                left -= 1
                if not ended.ok:
                    failed.append(ended)
                    self._tell_of(ended, left)
            progress.update()
            if self.stop.requested and left:
                self._stop(progress)
            time.sleep(LOOK_SECONDS if left else 0)
        return failed

    def _stop(self, progress: SliceProgress) -> None:
        found_again = self.engine.leave()
        if found_again is not None:
            raise Interrupted(found_again)
        self.engine.stop()
        progress.update()
        raise Interrupted(f"stopped with {progress.done} of {progress.total} positions done; to go on: {self.go_on}")

    def _tell_of(self, ended: Ended, left: int) -> None:
        others = f"; {left} other{'s go' if left > 1 else ' goes'} on" if left else ""
        where = (*ended.span, self.names[ended.span])
        _log.warning("positions %d to %d on %s ended: %s%s", *where, self._why(ended), others)

    def _why(self, ended: Ended) -> str:
        """Returns what a worker says went wrong, else what its log ends with, else how it ended."""
        record = read_slice_record(self.paths, ended.span)
        if record is not None and record.state == "failed" and record.error:
            return f"{ended.reason}: {record.error}"
        if record is not None and record.state == "stopped":
            return f"{ended.reason}: it was asked to stop"
        refused = [line for line in last_lines(self.paths.worker_log(*ended.span)) if line.startswith("error: ")]
        return f"{ended.reason}: {refused[-1].removeprefix('error: ')}" if refused else ended.reason

    def _refuse(self, failed: Sequence[Ended]) -> None:
        for ended in failed:
            log = self.paths.worker_log(*ended.span)
            lines = "".join(f"\n  | {line}" for line in last_lines(log))
            where = (*ended.span, self.names[ended.span])
            _log.error("positions %d to %d on %s: %s\n  last lines of %s:%s", *where, self._why(ended), log, lines)
        raise PipelineError(
            f"{len(failed)} of {len(self.names)} workers failed, see above; what was finished is kept, and the same "
            f"command computes what is missing: {self.go_on}"
        )


def last_lines(log: Path) -> list[str]:
    """Returns the last lines that a worker said since it was started last."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, log.stat().st_size - LAST_BYTES))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    _, _, latest = f"\n{text}".rpartition(COMMAND_MARK)
    return [line for line in latest.splitlines()[1:] if line.strip()][-LAST_LINES:]
