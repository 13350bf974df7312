"""The runner that every generating phase stands on: generate, capture, extract, test, store, publish.

A phase declares its split, its arms (temperature and samples), and the files it publishes; the rest is here: batches on
the fixed grid, durable segments, resuming, slices, labels while the next batch generates, and the record.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from common.errors import Interrupted
from common.execution import EvaluationPool
from common.logging import get_logger
from common.problems import Problem
from common.progress import Progress
from common.prompt_utils import PromptBuilder
from common.runs import labelling
from common.runs.artifacts import split_file
from common.runs.files import canonical_json
from common.runs.interruption import StopRequest, polite_stop
from common.runs.locks import EVERYTHING, directory_lock, span_lock
from common.runs.merging import Opened, refuse_foreign_slices
from common.runs.metadata import Extent, read_record
from common.runs.publishing import Snapshots, remove_segments, remove_stale_activations, write_exclusions
from common.runs.slices import Span, covered, missing_cells, requested_span
from common.runs.tables import PROBLEM_SCHEMA, problem_table, problems_of
from common_simplified.generating_phase import GeneratingPhase
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_files import ArmFiles, ArmTables, GenerationFiles
from common_simplified.generation_report import (
    arm_summary,
    excluded_tasks,
    log_arms,
    refuse_exclusions,
)
from common_simplified.generation_state import GenerationState, stored_labels
from common_simplified.generation_work import Arm, ArmWorker, finished_by_solution, labelled_tables
from common_simplified.model_loader import LoadedModel, chat_template
from common_simplified.model_setup import set_up_model
from common_simplified.sampling import SampleKey
from common_simplified.sites import HookPoint
from common_simplified.stopping import STOP_VERSION

_log = get_logger(__name__)
STEP_VERSION = 1


class GenerationRunner(GeneratingPhase):
    """Generates, labels, stores and publishes a split; a phase declares what, and names its files."""

    stop: StopRequest

    def prepare(self) -> None:
        """Finds the split, the model's and the SAEs' files, and what is asked for; loads no weights."""
        table = self.find_table("0.1", lambda _: split_file(self.split), PROBLEM_SCHEMA.names)
        self.problems: list[Problem] = problems_of(table)
        self.span = requested_span(self.options.start, self.options.end, len(self.problems))
        if self.options.end is not None and self.options.end >= len(self.problems):
            _log.info("--end %d is past the split: working to %d, its last position", self.options.end, self.span.end)
        self.find_inputs()
        self.setup = set_up_model(
            *(self.config, self.profile, self.role, self.capture_layers),
            site_given=self.options.site_given,
            computes_here=self.options.computes_here,
        )
        self.check_prompts()
        if self.options.computes_here:
            labelling.check_sandbox(self.config)

    def check_prompts(self) -> None:
        """Refuses a form of prompt that the tokenizer cannot give."""
        if self.config.prompt_format == "chat":
            self.prompts.build(self.problems[0])

    def describe(self) -> None:
        """Says what a run would do."""
        _log.info(
            "phase %s would generate %d problems (positions %d to %d of %s) with %s, capture %d layers, write to %s",
            *(
                self.phase,
                len(self.span),
                *self.span,
                self.split,
                self.setup.model.name,
                len(self.setup.points),
                self.paths.root,
            ),
        )

    def execute(self) -> None:
        """Works off what is missing of the span, then publishes everything that the directory holds.

        A worker publishes nothing; a phase that is only opened does neither, and says what is left (`opened`).
        """
        own_lock = span_lock(self.paths.locks, EVERYTHING if self.options.fresh else self.span)
        with own_lock, self.stopping() as self.stop, self.slice_record(self.span, self.setup.device, len(self.arms())):
            if self.options.fresh and (self.options.open or self.loaded):  # refused before anything is moved
                self.set_aside()
            is_due = not self.decide_arms() or self.settle()
            if self.options.open:
                self.opened = self.what_is_left(is_due=is_due)
            elif not is_due:
                _log.info("%s: nothing to do, positions %d to %d are done", self.title, *self.span)
            else:
                self.work(self.stop)
                if not self.options.worker:
                    self._publish()

    def stopping(self) -> AbstractContextManager[StopRequest]:
        """Returns what tells whether the run was asked to stop."""
        return polite_stop()

    def settle(self) -> bool:
        """Brings what stands in line with what is asked for; returns whether anything is to be done."""
        with directory_lock(self.paths.locks):
            settle = self.state.open_only if self.options.open else self.state.settle
            published = (self._published_rows, self.files.read_labels)
            is_due = settle(self.span, *published, republish=self.is_outdated())
            refuse_foreign_slices(self.paths, self.phase, self.state.digest)
        return is_due

    def what_is_left(self, *, is_due: bool) -> Opened:
        """Returns what is to be done of the span, on the batch grid."""
        lacks, total = self.state.lacks(self.span), len(self.problems)
        if lacks and not self.options.dry_run:
            self.note_unfinished(total, self.state.done(), self.span, len(self.arms()))
        return Opened(self.phase, self.span, total, self.config.batch_size, len(self.arms()), is_due, lacks)

    def _publish(self) -> None:
        # Asked once, first: other slices may finish more while this one publishes what it has seen of them.
        self.finished = self.state.finished_spans()
        self.before_publishing()
        with directory_lock(self.paths.locks):
            self.publish_files()

    def is_outdated(self) -> bool:
        """Returns whether a published output was made from other inputs, or for other features, than now."""
        record = read_record(self.paths)
        if record is None:
            return False
        before = {(item["phase"], item["sha256"]) for item in record["inputs"]}
        return before != {(item.phase, item.sha256) for item in self.inputs_used()}

    def points_of(self, arm: Arm) -> dict[int, HookPoint]:
        """Returns what an arm captures: the last prompt token does not depend on the temperature, so once is enough."""
        return self.setup.points if arm == self.arms()[0] else {}

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the split's problems."""
        rows = problem_table(self.problems).to_pylist()
        return hashlib.sha256(canonical_json(rows).encode()).hexdigest()

    @cached_property
    def state(self) -> GenerationState:
        """What stands on disk, held against this run."""
        generation = {arm.name: self.generation_fingerprint(arm) for arm in self.arms()}
        evaluation = labelling.evaluation_fingerprint(self.config, self.data_hash, self.rung)
        return GenerationState(
            self.paths,
            self.arms(),
            generation,
            evaluation,
            len(self.problems),
            self.config.batch_size,
            self.extra_gaps,
            self.arm_settings(),
            self.options.worker,
        )

    @cached_property
    def rung(self) -> int | None:
        """The isolation that labels stand under, where this process is to make none; else None: it is chosen here."""
        if self.options.computes_here:
            return None
        return labelling.standing_rung(self.config, stored_labels(self.paths, self.arms()))

    @cached_property
    def files(self) -> ArmFiles:
        """What is published, and how it is read back."""
        return GenerationFiles(self.paths, self.problems, self.dataset_name, self.activation_name)

    def generation_fingerprint(self, arm: Arm) -> dict[str, Any]:
        """Returns what changes generated text and captured vectors."""
        return {
            **self.setup.fingerprint(self.points_of(arm)),
            "batch_size": self.config.batch_size,
            "data": self.data_hash,
            "prompt_format": self.config.prompt_format,
            "temperature": arm.temperature,
            "samples": arm.samples,
            "seed": self.config.seed if arm.temperature > 0 else None,
            "max_new_tokens": self.config.max_new_tokens,
            "stop_version": STOP_VERSION,
            "step_version": STEP_VERSION,
        }

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, loaded when it is first needed."""
        self.setup.require_room(self.phase, self.config, self.profile)
        with self.timed("loading"):
            return self.setup.load()

    @cached_property
    def prompts(self) -> PromptBuilder:
        """The maker of prompts; a chat template is asked of the tokenizer alone, before weights are loaded."""
        wants_chat = self.config.prompt_format == "chat"
        template = chat_template(self.setup.load_tokenizer()) if wants_chat else None
        return PromptBuilder(self.config.prompt_format, template)

    def prompt_of(self, problem: Problem) -> str:
        """Returns a problem's prompt."""
        return self.prompts.build(problem)

    def _published_rows(self, arm: Arm) -> pa.Table:
        return self.files.read(arm, list(self.points_of(arm)), self.setup.model.facts.d_model)

    def request_of(self, arm: Arm, position: int, sample: int) -> Request:
        """Returns what the engine is asked for one row."""
        problem = self.problems[position]
        draw = SampleKey(self.config.seed, problem.task_id, arm.temperature, sample) if arm.temperature > 0 else None
        return Request(self.prompt_of(problem), finished_by_solution(problem), draw)

    def engine(self, arm: Arm, stop: StopRequest) -> GenerationEngine:
        """Returns the engine that generates an arm (and the others of its progress group)."""
        return GenerationEngine(
            self.loaded,
            max_new_tokens=self.config.max_new_tokens,
            points=list(dict.fromkeys(self.points_of(arm).values())),
            timeout_seconds=self.config.generation_timeout_seconds,
            check_stop=stop.check,
            capture=self.setup.capture,
        )

    def progress_groups(self) -> list[tuple[str, list[Arm]]]:
        """Returns the arms that one bar, and one engine, serves, under the bar's name."""
        arms = self.arms()
        name = f"phase {self.phase}"
        return [(name if len(arms) == 1 else f"{name} {arm.name}", [arm]) for arm in arms]

    def work(self, stop: StopRequest) -> None:
        """Generates and labels what is missing of every arm; raises `Interrupted` where it was stopped before."""
        self._note()
        self.keeper.begin(self.state.units_done(self.span), self.state.digest)
        if not self.state.is_left(self.span):
            return
        config = self.config if self.rung is None else replace(self.config, sandbox=str(self.rung))
        labelling.announce_sandbox(config)
        try:
            with labelling.evaluation_pool(config) as pool:
                for name, arms in self.progress_groups():
                    if not stop.requested:
                        self._work_group(name, arms, pool, stop)
            if not stop.requested:
                self.extra_work(stop)
        except Interrupted:
            stop.signal = stop.signal or 0
        if stop.requested and self.state.is_left(self.span):
            self._note()
            raise self.stopped(*self.so_far())

    def so_far(self) -> tuple[int, int, str]:
        """Returns how much is done, of how much, in which unit."""
        return self.state.done(), len(self.problems), "problems"

    def _note(self) -> None:
        if not self.options.worker:
            self.note_unfinished(len(self.problems), self.state.done(), self.span, len(self.arms()))

    def _work_group(self, name: str, arms: list[Arm], pool: EvaluationPool, stop: StopRequest) -> None:
        cells = {arm.name: self._missing(arm) for arm in arms}
        todo = [arm for arm in arms if cells[arm.name] or self.state.stores(arm).unlabelled(self.span)]
        if not todo:
            return
        total = sum(arm.units(self.span) for arm in arms)
        left = sum(arm.units(cell) for arm in arms for cell in cells[arm.name])
        unit = "solution" if arms[0].conditions else "problem"
        with (
            self.engine(arms[0], stop) if left else nullcontext() as engine,
            Progress(name, total, total - left, unit) as progress,
            self.timed("generation and evaluation"),
        ):
            working: list[ArmWorker] = []
            for arm in todo:
                if not stop.requested:
                    working.append(self._worker(arm, engine, pool))
                    working[-1].run(self.span, stop, progress)
                    working = [worker for worker in working if worker.store_labels(progress, wait=False)]
            for worker in working:
                worker.store_labels(progress, wait=True)
        _log.info("%s", progress.line())

    def _missing(self, arm: Arm) -> list[Span]:
        return missing_cells(self.span, self.state.stores(arm).generation.spans(), self.config.batch_size)

    def _worker(self, arm: Arm, engine: GenerationEngine | None, pool: EvaluationPool) -> ArmWorker:
        return ArmWorker(
            *(self.config, self.problems, arm, self.state.stores(arm), self.points_of(arm), engine, pool),
            *(self.request_of, None if self.options.worker else self.snapshots_of(arm), self.keeper),
        )

    def snapshots_of(self, arm: Arm) -> Snapshots | None:
        """Returns the readable copies that are kept of an arm so far (of the first one only)."""
        if arm != self.arms()[0]:
            return None
        return Snapshots(self.paths, self.config.snapshot_every, self.config.snapshots_kept)

    def publish_files(self) -> None:
        """Publishes everything that the directory holds, with its record."""
        if not self.paths.segments.exists():
            return  # another slice was the last one: it has published everything
        tables = {arm.name: ArmTables(*labelled_tables(self.state.stores(arm))) for arm in self.arms()}
        with self.timed("publishing"):
            written = self.files.write(self.arms(), tables)
            outputs, details = self.extra_files(written)
        exclusions = write_exclusions(self.paths, self.excluded_rows(tables), len(self.problems))
        spans = self.finished
        excluded = len(excluded_tasks(tables))
        extent = Extent(len(self.problems), covered(spans), excluded, tuple(spans), self.inputs_complete)
        everything = [*written.outputs, *outputs, *([exclusions] if exclusions else [])]
        self.publish(extent, everything, {**self.details(tables), **details})
        remove_stale_activations(self.paths, written.activations)
        if extent.done == extent.expected:
            remove_segments(self.paths)
        self.paths.partial.unlink(missing_ok=True)
        self.report(extent, tables)

    def excluded_rows(self, tables: dict[str, ArmTables]) -> list[dict[str, Any]]:
        """Returns what was given up: problem, temperature, sample, reason and number of tries."""
        names = ["task_id", "temperature", "sample", "excluded_reason", "tries"]
        rows = [row for item in tables.values() for row in item.generated.select(names).to_pylist()]
        return [row for row in rows if row["excluded_reason"] is not None]

    def report(self, extent: Extent, tables: dict[str, ArmTables]) -> None:
        """Logs what came out; raises `PipelineError` where too many problems were given up."""
        log_arms(self.phase, extent, tables)
        refuse_exclusions(self.phase, extent.excluded, extent.done, "problems", self.config, self.paths)

    def details(self, tables: dict[str, ArmTables]) -> dict[str, Any]:
        """Returns what a generating phase adds to its record."""
        return {
            **self.setup.as_record(),
            "prompt_format": self.config.prompt_format,
            "split": self.split,
            "datasets": {arm.name: self.dataset_name(arm) for arm in self.arms()},
            "batch_size": self.config.batch_size,
            "sandbox": labelling.sandbox_record(self.config, self.rung),
            "arm_settings": dict(self.arm_settings()),
            "fingerprints": {"generation": dict(self.state.generation), "evaluation": self.state.evaluation},
            "results": {name: arm_summary(item) for name, item in tables.items()},
        }
