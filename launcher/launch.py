"""One launch: a phase is opened, what is missing is cut and given to workers, who are watched; the result is merged.

Nothing here loads torch or touches results: opening, computing and publishing are `run.py phase` in other processes,
which refuse, lock, resume and record as they always do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from common.config import Config
from common.errors import PipelineError, UsageError
from common.execution.ladder import choose_isolation
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest
from common.runs.merging import Opened, refuse_bad_cover
from common.runs.slice_records import slice_record_path
from common.runs.slices import Span
from launcher.arguments import Commands
from launcher.devices import cuda_device_count, evaluation_workers
from launcher.engine import Device, Engine, Work
from launcher.slices import cut
from launcher.steps import Steps
from launcher.watching import Watch

# A network's file system may show what another machine wrote only after so long.
VISIBLE_SECONDS = 60.0
_log = get_logger(__name__)


def works_of(
    opened: Opened, commands: Commands, devices: Sequence[Device], paths: PhasePaths, config: Config
) -> list[Work]:
    """Cuts what is missing into one piece of work a device; on one machine they share its cores."""
    slices = cut(opened.lacks, len(devices))
    more = _shared(commands, config, len(slices)) if commands.on_this_machine else ()
    works = []
    for span, device in zip(slices, devices, strict=False):
        command = commands.worker(device.option, span, opened.batch_size, *more)
        works.append(Work(span, command, paths.worker_log(*span), device.environment))
    return works


def _shared(commands: Commands, config: Config, workers: int) -> tuple[str, ...]:
    """Returns what the workers of one machine share: its cores, and the isolation that it allows, tried once."""
    evaluators = evaluation_workers(config.evaluation_workers, workers)
    words = [] if evaluators is None else ["--set", f"evaluation_workers={evaluators}"]
    if commands.spec.split is not None:  # it tests solutions
        words += ["--sandbox", str(choose_isolation(config.sandbox).isolation.rung)]
    return tuple(words)


class Launch:
    """Runs one phase in slices on the devices of an engine."""

    def __init__(
        self,
        commands: Commands,
        config: Config,
        devices: Sequence[Device],
        engine: Engine,
        paths: PhasePaths,
        steps: Steps,
        stop: StopRequest,
    ) -> None:
        self.commands, self.config, self.devices, self.engine = commands, config, devices, engine
        self.paths, self.steps, self.stop = paths, steps, stop
        self.phase = commands.spec.id

    def run(self) -> None:
        """Does whatever is left of the phase."""
        attached = self.engine.attach()
        if attached and self.commands.parsed.fresh:
            raise UsageError(f"{self.engine.describe()} is at work on phase {self.phase}: --cancel it before --fresh")
        if attached:
            self._watch(attached, sum(map(len, attached)))
            self._check_cover(attached)
        # Also after attaching: those slices may be a part of what is asked for now.
        if self._compute():
            self._merge()

    def _compute(self) -> bool:
        """Opens the phase and has what is missing computed; returns whether there is anything to publish."""
        opened = self.steps.open(self.commands.opening(self.devices[0].option))
        if not opened.due:
            _log.info("phase %s: nothing to do, positions %d to %d are done", self.phase, *opened.span)
            return False
        works = works_of(opened, self.commands, self.devices, self.paths, self.config)
        if works:
            self._start(opened, works)
            self._check_cover([opened.span])
        return True

    def _start(self, opened: Opened, works: Sequence[Work]) -> None:
        rows = sum(lack.end - lack.start + 1 for lack in opened.lacks)
        _log.info("phase %s: %d of %d positions are left to do", self.phase, rows, len(opened.span))
        for work, device in zip(works, self.devices, strict=False):
            slice_record_path(self.paths, work.span).unlink(missing_ok=True)  # of an earlier worker
            _log.info("positions %d to %d on %s, log: %s", *work.span, device.name, work.log)
        self.engine.start(works)
        self._watch([work.span for work in works], len(opened.span))

    def _watch(self, slices: Sequence[Span], total: int) -> None:
        names = {span: device.name for span, device in zip(slices, self.devices, strict=False)}
        names |= {span: "its task" for span in slices[len(self.devices) :]}
        watch = Watch(
            *(self.engine, self.paths, names, self.stop),
            phase=self.phase,
            go_on=self.commands.go_on,
        )
        watch.wait(total)

    def _check_cover(self, slices: Sequence[Span]) -> None:
        """Refuses slices that do not cover what was asked for, once what other machines wrote can be seen."""
        until = time.monotonic() + (0 if self.engine.leave() is None else VISIBLE_SECONDS)
        while True:
            try:
                for span in slices:
                    refuse_bad_cover(self.paths, span)
                return
            except PipelineError:
                if time.monotonic() >= until or self.stop.requested:
                    raise
                time.sleep(1)

    def _merge(self) -> None:
        """Publishes; a phase that computes on what it merges does so where its device is."""
        device = self.devices[0]
        command = self.commands.merging(device.option)
        elsewhere = self.engine.leave() is not None and device.option.startswith("cuda") and not cuda_device_count()
        if not (elsewhere and self.commands.spec.takes_selection):
            _log.info("phase %s: merging", self.phase)
            self.steps.run(command)
            return
        span = Span(0, 0)
        log = self.paths.worker_log(*span)  # where a watch looks for a failure's last lines
        _log.info("phase %s: merging where the devices are, log: %s", self.phase, log)
        self.engine.start([Work(span, command, log, device.environment)])
        self._watch([span], 1)
