"""The runner that every generating phase stands on: generate, capture, extract, test, store, publish.

A phase declares its split, its arms (temperature and samples), and the files it publishes; the rest is here: batches on
the fixed grid, durable segments, resuming, slices, labels while the next batch generates, and the record.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa

from common.config import Config
from common.errors import Interrupted, PipelineError
from common.execution import EvaluationPool
from common.logging import get_logger
from common.model_location import ModelIdentity, chosen_layers, identify_model
from common.problems import Problem
from common.progress import Progress
from common.prompt_utils import PromptBuilder
from common.runs import labelling
from common.runs.artifacts import split_file
from common.runs.discovery import run_command
from common.runs.files import canonical_json, write_json
from common.runs.interruption import StopRequest, polite_stop
from common.runs.locks import directory_lock, span_lock
from common.runs.metadata import Extent, OutputFile
from common.runs.phase_runner import PhaseRunner
from common.runs.publishing import Snapshots, remove_segments, write_exclusions
from common.runs.slices import Span, covered, missing_cells, requested_span
from common.runs.tables import PROBLEM_SCHEMA, problem_table, problems_of
from common_simplified.capture_points import capture_points, describe_saes, sae_identities
from common_simplified.generation import GenerationEngine
from common_simplified.generation_state import GenerationState
from common_simplified.generation_work import Arm, ArmWorker, Stores, labelled_tables
from common_simplified.model_loader import (
    LoadedModel,
    chat_template,
    load_model_and_tokenizer,
    resolve_device,
    resolve_dtype,
)
from common_simplified.stopping import STOP_VERSION

_log = get_logger(__name__)
STEP_VERSION = 1
EVERYTHING = Span(0, 999_999_999)


class ArmTables(NamedTuple):
    """What an arm has: generated rows with their vectors, and tested rows, both in order of position."""

    generated: pa.Table
    evaluated: pa.Table


class GenerationRunner(PhaseRunner):
    """Generates, labels, stores and publishes a split."""

    split: ClassVar[str]
    role: ClassVar[str] = "base"

    @abstractmethod
    def arms(self) -> list[Arm]:
        """Returns the ways in which every problem is generated."""

    @abstractmethod
    def write_files(self, tables: dict[str, ArmTables]) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes the phase's files from every arm's rows; returns their entries and what the record adds."""

    @abstractmethod
    def published_rows(self, arm: Arm) -> pa.Table:
        """Reads an arm's generated rows with their vectors back from the published files."""

    def extra_work(self, stop: StopRequest) -> None:
        """Does what a phase does besides generating (nothing by default)."""

    def prepare(self) -> None:
        """Finds the split, the model's and the SAEs' files, and what is asked for; loads no weights."""
        table = self.find_table("0.1", lambda _: split_file(self.split), PROBLEM_SCHEMA.names)
        self.problems: list[Problem] = problems_of(table)
        self.span = requested_span(self.options.start, self.options.end, len(self.problems))
        if self.options.end is not None and self.options.end >= len(self.problems):
            _log.info("--end %d is past the split: working to %d, its last position", self.options.end, self.span.end)
        self.model: ModelIdentity = identify_model(self.config, self.profile)
        self.layers = chosen_layers(self.config, self.model.facts)
        self.saes = sae_identities(self.profile, self.layers)
        self.points = capture_points(self.saes, self.config.site if self.options.site_given else None)
        self.device = resolve_device(None if self.config.device == "auto" else self.config.device)
        self.dtype = resolve_dtype(None if self.config.dtype == "auto" else self.config.dtype, self.device)
        if self.config.prompt_format == "chat":
            self.prompts.build(self.problems[0])

    def describe(self) -> None:
        """Says what a run would do."""
        _log.info(
            "phase %s would generate %d problems (positions %d to %d of %s) with %s, capture %d layers, write to %s",
            *(self.phase, len(self.span), *self.span, self.split, self.model.name, len(self.points), self.paths.root),
        )

    def execute(self) -> None:
        """Works off what is missing of the span, then publishes everything that the directory holds."""
        with span_lock(self.paths.locks, EVERYTHING if self.options.fresh else self.span), polite_stop() as stop:
            if self.options.fresh and self.loaded:  # what cannot be loaded is refused before anything is moved
                self.set_aside()
            if not self.state.settle(self.span, self.published_rows):
                _log.info("phase %s: nothing to do, positions %d to %d are done", self.phase, *self.span)
                return
            self._work(stop)
            with directory_lock(self.paths.locks):
                self._publish()

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of the split's problems."""
        rows = problem_table(self.problems).to_pylist()
        return hashlib.sha256(canonical_json(rows).encode()).hexdigest()

    @cached_property
    def state(self) -> GenerationState:
        """What stands on disk, held against this run."""
        generation = {arm.name: self.generation_fingerprint(arm) for arm in self.arms()}
        evaluation = labelling.evaluation_fingerprint(self.config, self.data_hash)
        return GenerationState(
            self.paths, self.arms(), generation, evaluation, len(self.problems), self.config.batch_size
        )

    def generation_fingerprint(self, arm: Arm) -> dict[str, Any]:
        """Returns what changes generated text and captured vectors."""
        return {
            "model": self.model.fingerprint(),
            "role": self.role,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device_type": self.device.type,
            "batch_size": self.config.batch_size,
            "data": self.data_hash,
            "prompt_format": self.config.prompt_format,
            "points": {str(layer): str(point) for layer, point in self.points.items()},
            "temperature": arm.temperature,
            "samples": arm.samples,
            "seed": self.config.seed if arm.temperature > 0 else None,
            "max_new_tokens": self.config.max_new_tokens,
            "stop_version": STOP_VERSION,
            "step_version": STEP_VERSION,
        }

    def stores(self, arm: Arm) -> Stores:
        """Returns both stages of an arm."""
        return self.state.stores(arm)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, loaded when it is first needed."""
        _log.info("loading %s (%s, %s)", self.model.name, self.device, str(self.dtype).removeprefix("torch."))
        with self.timed("loading"):
            return load_model_and_tokenizer(
                self.model.location, self.device, self.dtype, revision=self.config.model_revision
            )

    @cached_property
    def prompts(self) -> PromptBuilder:
        """The maker of prompts, with the tokenizer's chat template where the format needs it."""
        wants_chat = self.config.prompt_format == "chat"
        return PromptBuilder(self.config.prompt_format, chat_template(self.loaded.tokenizer) if wants_chat else None)

    def _work(self, stop: StopRequest) -> None:
        self._note_unfinished()
        try:
            for arm in self.arms():
                if not stop.requested:
                    self._work_arm(arm, stop)
            if not stop.requested:
                self.extra_work(stop)
        except Interrupted:
            stop.signal = stop.signal or 0
        if stop.requested and self.state.is_left(self.span):
            self._note_unfinished()
            raise Interrupted(
                f"stopped with {self.state.done()} of {len(self.problems)} problems done; to go on: "
                f"{run_command(self.config, self.phase)}{self._slice_words()}"
            )

    def _work_arm(self, arm: Arm, stop: StopRequest) -> None:
        stores = self.stores(arm)
        cells = missing_cells(self.span, stores.generation.spans(), self.config.batch_size)
        if not cells and not stores.unlabelled():
            return
        left = sum(len(cell) for cell in cells)
        engine: list[GenerationEngine] = []
        if cells:
            engine.append(self._engine(stop))
        name = f"phase {self.phase}" if len(self.arms()) == 1 else f"phase {self.phase} {arm.name}"
        with (
            Progress(name, len(self.span), len(self.span) - left) as progress,
            _pool(self.config) as pool,
            self.timed("generation and evaluation"),
        ):
            snapshots = Snapshots(self.paths, self.config.snapshot_every, self.config.snapshots_kept)
            worker = ArmWorker(
                *(
                    self.config,
                    self.problems,
                    arm,
                    stores,
                    self.points,
                    lambda: engine[0],
                    pool,
                    self.prompt_of,
                    snapshots,
                )
            )
            worker.run(self.span, stop, progress)
        _log.info("%s", progress.line())

    def prompt_of(self, problem: Problem) -> str:
        """Returns a problem's prompt."""
        return self.prompts.build(problem)

    def _engine(self, stop: StopRequest) -> GenerationEngine:
        return GenerationEngine(
            self.loaded,
            max_new_tokens=self.config.max_new_tokens,
            points=list(dict.fromkeys(self.points.values())),
            timeout_seconds=self.config.generation_timeout_seconds,
            check_stop=stop.check,
        )

    def _slice_words(self) -> str:
        words = "" if self.options.start is None else f" --start {self.options.start}"
        return words if self.options.end is None else f"{words} --end {self.options.end}"

    def _note_unfinished(self) -> None:
        write_json(
            self.paths.partial,
            {
                "phase": self.phase,
                "expected": len(self.problems),
                "done": self.state.done(),
                "span": list(self.span),
                "to_go_on": run_command(self.config, self.phase) + self._slice_words(),
            },
        )

    def _publish(self) -> None:
        tables = {arm.name: ArmTables(*labelled_tables(self.stores(arm))) for arm in self.arms()}
        with self.timed("publishing"):
            outputs, details = self.write_files(tables)
        generated = pa.concat_tables([item.generated for item in tables.values()])
        exclusions = write_exclusions(self.paths, generated, len(self.problems))
        excluded = len(set(_excluded_tasks(generated)))
        spans = self.state.done_spans()
        extent = Extent(len(self.problems), covered(spans), excluded, tuple(spans), self.inputs_complete)
        everything = [*outputs, *([exclusions] if exclusions else [])]
        self.publish(extent, everything, {**self._details(tables), **details})
        if extent.done == extent.expected:
            remove_segments(self.paths)
        self.paths.partial.unlink(missing_ok=True)
        self._report(extent, tables)

    def _details(self, tables: dict[str, ArmTables]) -> dict[str, Any]:
        return {
            "model": {
                **{"name": self.model.name, "role": self.role, "revision": self.model.revision},
                **{"digest": self.model.digest, "dtype": str(self.dtype).removeprefix("torch.")},
                "device_type": self.device.type,
            },
            "prompt_format": self.config.prompt_format,
            "split": self.split,
            "saes": describe_saes(self.saes),
            "points": {str(layer): str(point) for layer, point in self.points.items()},
            "site_given": self.options.site_given,
            "batch_size": self.config.batch_size,
            "fingerprints": {"generation": dict(self.state.generation), "evaluation": self.state.evaluation},
            "results": {name: _summary(item) for name, item in tables.items()},
        }

    def _report(self, extent: Extent, tables: dict[str, ArmTables]) -> None:
        for name, item in tables.items():
            summary = _summary(item)
            _log.info(
                "phase %s %s: %d of %d problems, %d of %d solutions pass (%.1f %%), %d stopped at the token limit",
                *(self.phase, name, extent.done, extent.expected, summary["passed"], summary["judged"]),
                *(100 * (summary["pass_rate"] or 0), summary["stop_reasons"].get("max_new_tokens", 0)),
            )
        share = extent.excluded / max(extent.done, 1)
        if extent.excluded:
            _log.warning("%d problems excluded (%.1f %%), see %s", extent.excluded, 100 * share, self.paths.excluded)
        if share > self.config.max_excluded_share:
            raise PipelineError(
                f"phase {self.phase} gave up {extent.excluded} of {extent.done} problems ({share:.1%}, allowed "
                f"{self.config.max_excluded_share:.1%}), see {self.paths.excluded}; all is saved, --fresh tries again"
            )


def _pool(config: Config) -> EvaluationPool:
    import os

    workers = config.evaluation_workers or min(os.cpu_count() or 1, 8)
    return EvaluationPool(workers, config.evaluation_timeout_seconds, config.evaluation_memory_mb)


def _excluded_tasks(generated: pa.Table) -> list[int]:
    pairs = zip(generated["task_id"].to_pylist(), generated["excluded_reason"].to_pylist(), strict=True)
    return [task for task, why in pairs if why is not None]


def _summary(tables: ArmTables) -> dict[str, Any]:
    labels = [label for label in tables.evaluated["test_passed"].to_pylist() if label is not None]
    rungs = {rung for rung in tables.evaluated["sandbox_rung"].to_pylist() if rung is not None}
    return {
        "judged": len(labels),
        "passed": sum(labels),
        "pass_rate": sum(labels) / len(labels) if labels else None,
        "outcomes": dict(Counter(item for item in tables.evaluated["outcome"].to_pylist() if item is not None)),
        "stop_reasons": dict(Counter(item for item in tables.generated["stop_reason"].to_pylist() if item is not None)),
        "sandbox_rungs": sorted(rungs),
        "smallest_batch": min(tables.generated["batch_rows"].to_pylist()),
    }
