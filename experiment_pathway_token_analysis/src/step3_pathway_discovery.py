"""Step 3: which earlier features drive the causal features (Gradient, then replay) → `validated_pathways.json`.

Targets are step 1's features; each leaves one durable segment, so that a kill loses no more than a batch, slices are
spans of targets, and the final file, made of the segments alone, has the same bytes however they came about. What only
judges (thresholds) may change without computing anything again. On the bundled model 40 targets take half a minute.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyarrow as pa

from common.errors import Interrupted, PipelineError, UsageError
from common.logging import get_logger
from common.progress import Progress
from common.runs.artifacts import PhasePaths
from common.runs.files import sweep_temporaries, write_json, writing
from common.runs.interruption import StopRequest, polite_stop
from common.runs.locks import EVERYTHING, directory_lock, span_lock
from common.runs.merging import Lack, Opened, refuse_foreign_slices, settings_digest
from common.runs.metadata import generation_to_put_aside
from common.runs.records import StageStore, refuse_difference
from common.runs.slice_records import Keeper, SliceKeeper, device_name
from common.runs.slices import Span, covered, grid_cells, missing_cells, missing_spans, requested_span
from common_simplified.model_setup import ModelSetup
from experiment_pathway_token_analysis.src.causal_targets import read_prompts, read_targets
from experiment_pathway_token_analysis.src.codes import read_clean
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries
from experiment_pathway_token_analysis.src.discovery_setup import fingerprint, set_up
from experiment_pathway_token_analysis.src.estimates import prefix_room
from experiment_pathway_token_analysis.src.memory_use import GB, MemoryMeter, lack_of_memory_named
from experiment_pathway_token_analysis.src.orchestrator import command_given
from experiment_pathway_token_analysis.src.residuals import LastToken
from experiment_pathway_token_analysis.src.room import DISCOVERY, require_room
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.src.target_work import TargetWork
from experiment_pathway_token_analysis.src.validation import build_results

SCHEMA_VERSION = 1
_log = get_logger(__name__)


class Discovery:
    """Finds the edges into every target; positions are places in step 1's list.

    `opened` brings what stands in line and says what is left; `compute` works a span off under its lock (a `worker`
    keeps a slice record); `publish` makes the final file of all segments and needs no model. The directory is laid out
    as a phase's.
    """

    phase = "pathway"

    def __init__(self, run: Run, *, worker: bool = False, computes_here: bool = True, go_on: str | None = None) -> None:
        self.run, self.worker, self.computes_here, self.go_on = run, worker, computes_here, go_on
        self.paths = PhasePaths(run.paths.pathways)
        self.targets, self.prompts = read_targets(run), read_prompts(run)
        self.store = StageStore(self.paths.stage("targets", "all"))

    @property
    def everything(self) -> Span:
        """All targets."""
        return Span(0, len(self.targets) - 1)

    @cached_property
    def setup(self) -> ModelSetup:
        """The model and the SAEs, checked, not loaded."""
        last = max((target.feature.layer for target in self.targets), default=self.run.profile.n_layers - 1)
        return set_up(self.run, last, computes_here=self.computes_here)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What changes the record of a target."""
        return fingerprint(self.run, self.setup, self.targets, self.prompts)

    def span(self, start: int | None = None, end: int | None = None) -> Span:
        """Returns the targets that `--start/--end` ask for; raises `UsageError` where there are none at all."""
        if not self.targets:
            raise UsageError(f"{self.run.paths.causal_features} holds no feature: there is nothing to share out")
        return requested_span(start, end, len(self.targets))

    def opened(self, span: Span | None = None) -> Opened:
        """Brings what stands in line and returns which targets of `span` are left, on the grid of batches."""
        asked, batch = span or self.everything, self.run.settings.gradient.targets_per_batch
        self._settle()
        missing = missing_spans(asked, self.store.spans())
        cells = [cell for cell in grid_cells(asked, batch) if any(cell.overlaps(gap) for gap in missing)]
        lacks = [Lack(*cell, len(cell)) for cell in cells]
        is_due = bool(lacks) or not self.run.paths.validated.is_file()
        return Opened(self.phase, asked, len(self.targets), batch, 1, is_due, lacks)

    def compute(self, span: Span | None = None) -> None:
        """Makes and stores the record of every target of `span` that has none; raises `Interrupted` where stopped."""
        asked = span or self.everything
        sweep_temporaries(self.paths.root)
        with span_lock(self.paths.locks, asked), polite_stop() as stop, self._keeper(asked) as keeper:
            self._settle()
            cells = missing_cells(asked, self.store.spans(), self.run.settings.gradient.targets_per_batch)
            keeper.begin(len(asked) - sum(map(len, cells)), settings_digest(self.fingerprint))
            if cells:
                self._work(asked, cells, stop, keeper)

    def publish(self) -> StepResult:
        """Writes `validated_pathways.json` from all segments; raises `PipelineError` where a target has none."""
        with directory_lock(self.paths.locks):
            self._settle_locked()
            records = self._records()
            results = build_results(records, self.run.settings.replay, self._metadata())
            write_json(self.run.paths.validated, results)
        self.paths.partial.unlink(missing_ok=True)
        inputs = [self.run.paths.causal_features, self.run.paths.prompts]
        return StepResult(True, _message(results), inputs, [self.run.paths.validated])

    def set_aside(self) -> None:
        """Moves every finished target and the results to `superseded/`, so that all are computed again (`--fresh`)."""
        with span_lock(self.paths.locks, EVERYTHING):
            standing = (self.paths.segments, self.run.paths.validated, self.paths.partial)
            moved = [path for path in standing if path.exists()]
            if not moved:
                return
            target = self.paths.superseded / f"{generation_to_put_aside(self.paths):04d}"
            with writing(target):
                target.mkdir(parents=True)
                for path in moved:
                    path.rename(target / path.name)
        _log.info("step 3: what was finished is put aside in %s", target)

    def _settle(self) -> None:
        with directory_lock(self.paths.locks):
            self._settle_locked()

    def _settle_locked(self) -> None:
        stored = self.store.stored_fingerprint()
        if stored is not None:
            refuse_difference(self.paths.root, stored, self.fingerprint)
        self.store.open(self.fingerprint)
        self.store.verify()
        refuse_foreign_slices(self.paths, self.phase, settings_digest(self.fingerprint))

    def _keeper(self, span: Span) -> Keeper:
        if not self.worker:
            return Keeper()
        device = device_name(str(self.setup.device), os.environ)
        return SliceKeeper(self.paths, span, phase=self.phase, device=device, arms=1, expected=len(span))

    def _work(self, span: Span, cells: Sequence[Span], stop: StopRequest, keeper: Keeper) -> None:
        """Works the cells off, one batch of targets each, and keeps the peak of memory below its ceiling."""
        require_room(self.run, [DISCOVERY], self.setup.place())
        started, done = time.monotonic(), len(span) - sum(map(len, cells))
        meter = MemoryMeter(self.setup.device, self.run.settings.memory_ceiling_gb)
        meter.reset()
        try:
            with self._working(meter, stop) as work, Progress("step 3", len(span), done, unit="target") as progress:
                for cell in cells:
                    self._work_cell(work, cell, stop)
                    meter.refuse_over("step 3")
                    progress.advance(len(cell))
                    keeper.advance(len(cell))
        except Interrupted:
            self._note(span)
            raise self._stopped() from None
        peak = meter.peak()
        _log.info("step 3: peak memory %.2f GB (%s)", peak.reserved / GB, peak.where)
        self._note_timing(span, time.monotonic() - started, peak.as_gb())

    def _work_cell(self, work: TargetWork, cell: Span, stop: StopRequest) -> None:
        """Makes and stores the records of one batch of targets, unless the run is to end."""
        if stop.requested:
            raise Interrupted("stopped")
        records = work.records(self.targets[cell.start : cell.end + 1])
        for position, record in sorted(records.items()):
            self.store.write(Span(position, position), _table(position, record))

    @contextmanager
    def _working(self, meter: MemoryMeter, stop: StopRequest) -> Iterator[TargetWork]:
        """Loads the model and reads the prompts; every prompt begins with a look at memory and at requests to stop."""
        with lack_of_memory_named("the model was loaded"):
            loaded = self.setup.load()
        meter.refuse_over("the model alone")
        dictionaries = Dictionaries(self.run.profile, self.setup.device)
        texts = [prompt.text for prompt in self.prompts.all]
        with LastToken(loaded, self.setup.points, texts, prefix_room(self.run)) as last:

            def check() -> None:
                meter.check()
                stop.check()

            with lack_of_memory_named("prompts were read"):
                clean = read_clean(last, dictionaries, self.prompts, self.setup.layers, check)
            yield TargetWork(last, dictionaries, self.prompts, clean, self.targets, self.run.settings, check)

    def _records(self) -> list[dict[str, Any]]:
        missing = missing_spans(self.everything, self.store.spans()) if self.targets else []
        if missing:
            raise PipelineError(
                f"{self.paths.root}: targets {missing[0].start} to {missing[0].end} are not computed; run the same "
                "command again"
            )
        stored = self.store.read().to_pylist() if self.targets else []
        return [json.loads(row["record"]) for row in sorted(stored, key=lambda row: row["position"])]

    def _metadata(self) -> dict[str, Any]:
        settings = self.run.settings
        return {
            "schema_version": SCHEMA_VERSION,
            **self.setup.as_record(),
            "method": "gradient of the target's pre-activation at the last prompt token; replay adds decoder rows",
            "freezing": "none",
            "position": "last prompt token",
            "patch_value": "mean of the other class over the selecting prompts",
            "classes": list(settings.study.classes),
            "prompts": {
                "digest": self.prompts.digest,
                "select": len(self.prompts.rows(selects=True)),
                "validate": len(self.prompts.rows(selects=False)),
            },
            "settings": {"gradient": self.fingerprint["gradient"], "replay": settings.as_dict()["replay"]},
            "seed": settings.seed,
            "fingerprint": settings_digest(self.fingerprint),
        }

    def _note(self, span: Span) -> None:
        done = covered(self.store.spans())
        note = {"phase": self.phase, "expected": len(self.targets), "done": done, "arms": 1, "span": list(span)}
        if not self.worker:
            write_json(self.paths.partial, {**note, "to_go_on": self._to_go_on()})

    def _note_timing(self, span: Span, seconds: float, peak: dict[str, Any]) -> None:
        """Keeps time and memory apart from the data, which are the same bytes on every machine."""
        with writing(self.paths.logs):
            self.paths.logs.mkdir(parents=True, exist_ok=True)
        name = f"timings_{span.start:06d}-{span.end:06d}.json"
        write_json(self.paths.logs / name, {"span": list(span), "seconds": seconds, "peak_memory_gb": peak})

    def _stopped(self) -> Interrupted:
        done = covered(self.store.spans())
        return Interrupted(f"stopped with {done} of {len(self.targets)} targets done; to go on: {self._to_go_on()}")

    def _to_go_on(self) -> str:
        return self.go_on or command_given(self.run)


def run_step(run: Run) -> StepResult:
    """Runs step 3 on all targets; none at all is a valid outcome of step 1, and gives a file without edges."""
    discovery = Discovery(run)
    if discovery.targets:
        discovery.compute()
    return discovery.publish()


def _table(position: int, record: dict[str, Any]) -> pa.Table:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return pa.table({"position": pa.array([position], pa.int32()), "record": pa.array([text], pa.large_string())})


def _message(results: dict[str, Any]) -> str:
    counts, rate = results["metadata"]["counts"], results["metadata"]["matched_null"]["false_positive_rate"]
    wrong = "unknown" if rate["value"] is None else f"{rate['value']:.1%} of {rate['denominator']}"
    return (
        f"{counts['validated']} of {counts['tested']} tested edges into {counts['targets_ok']} targets validated "
        f"({counts['persistence']} persistence); matched sources that pass: {wrong}; {counts['chains']} chains, "
        f"{counts['mediated_chains']} mediated"
    )
