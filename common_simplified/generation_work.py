"""Working off one arm of a split: generating what is missing, testing it meanwhile, storing both durably."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from common.conditions import Condition
from common.config import Config
from common.execution import EvaluationPool
from common.execution.extraction import names_used_by_tests, solution_finished
from common.problems import Problem
from common.progress import Progress
from common.runs import labelling
from common.runs.interruption import StopRequest
from common.runs.memory import MemoryWatch
from common.runs.publishing import Snapshots
from common.runs.records import StageStore
from common.runs.slice_records import Keeper
from common.runs.slices import Span, missing_cells
from common.runs.tables import GENERATION_SCHEMA, STEERED_SCHEMA, generation_table
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_batch import CellResult, generate_cell
from common_simplified.sites import HookPoint
from common_simplified.stopping import Finished


class Arm(NamedTuple):
    """One way of generating: a temperature, and how many samples of each problem.

    Under steering a sample is a condition: sample i of a problem is steered by `conditions[i]`. `positions` are those
    that have rows at all (None: every one).
    """

    name: str
    temperature: float
    samples: int
    conditions: tuple[Condition, ...] = ()
    positions: frozenset[int] | None = None

    def positions_in(self, span: Span) -> list[int]:
        """Returns the positions of `span` that have rows."""
        whole = range(span.start, span.end + 1)
        return [position for position in whole if self.positions is None or position in self.positions]

    def units(self, span: Span) -> int:
        """Returns how much work a span is: problems, or under steering solutions."""
        return len(self.positions_in(span)) * self.samples if self.conditions else len(span)


class RequestOf(Protocol):
    """Builds what the engine generates."""

    def __call__(self, arm: Arm, position: int, sample: int) -> Request:
        """Returns the request of one row."""
        ...


def finished_by_solution(problem: Problem) -> Finished:
    """Returns the test of whether a completion holds the problem's whole solution."""
    return partial(
        solution_finished,
        entry_point=problem.entry_point,
        also_needed=names_used_by_tests(problem.test_list, problem.test_setup_code),
    )


class Stores(NamedTuple):
    """Both stages of one arm."""

    generation: StageStore
    evaluation: StageStore

    def unlabelled(self, span: Span) -> list[Span]:
        """Returns the stored spans within `span` that are generated but not tested (others belong to other slices)."""
        labelled = set(self.evaluation.spans())
        return [done for done in self.generation.spans() if done not in labelled and done.overlaps(span)]


class ArmWorker:
    """Generates and labels the positions `span` of one arm.

    `engine` is needed only where something is left to generate; `request_of` builds what it is asked for; `keeper` is
    told of every batch that is stored with its labels.
    """

    def __init__(
        self,
        config: Config,
        problems: Sequence[Problem],
        arm: Arm,
        stores: Stores,
        points: Mapping[int, HookPoint],
        engine: GenerationEngine | None,
        pool: EvaluationPool,
        request_of: RequestOf,
        snapshots: Snapshots | None,
        keeper: Keeper | None = None,
    ) -> None:
        self.config, self.problems, self.arm, self.stores = config, problems, arm, stores
        self.points, self.engine, self.pool, self.request_of = points, engine, pool, request_of
        self.snapshots, self.keeper = snapshots, keeper or Keeper()
        self._memory = MemoryWatch(config.ram_warning_share)
        self._pending: deque[labelling.Pending] = deque()

    def run(self, span: Span, stop: StopRequest, progress: Progress) -> None:
        """Generates until the span is done or a stop is requested, storing labels as they come.

        The caller waits for the rest (`store_labels`).
        """
        for done in self.stores.unlabelled(span):
            rows = self.stores.generation.read(done).to_pylist()
            self._pending.append(labelling.submit(self.pool, self.problems, done, rows))
        for cell in missing_cells(span, self.stores.generation.spans(), self.config.batch_size):
            if stop.requested:
                break
            rows = self._generate(cell)
            self._pending.append(labelling.submit(self.pool, self.problems, cell, rows))
            progress.advance(self.arm.units(cell))
            self._memory.check()
            self.store_labels(progress, wait=False)

    def store_labels(self, progress: Progress, *, wait: bool) -> bool:
        """Stores the labels of tested batches, of all if `wait`; returns whether any are still being tested."""
        while self._pending and (wait or self._pending[0].done):
            pending = self._pending.popleft()
            table = labelling.collect(pending)
            self.stores.evaluation.write(pending.span, table)
            labels = [label for label in table["test_passed"].to_pylist() if label is not None]
            progress.judge(sum(labels), len(labels))
            self.keeper.advance(len(pending.span))
            self._snapshot()
        return bool(self._pending)

    def _generate(self, cell: Span) -> list[dict[str, Any]]:
        keys = [
            {"position": position, "task_id": self.problems[position].task_id, "sample": sample}
            for position in self.arm.positions_in(cell)
            for sample in range(self.arm.samples)
        ]
        result = self._generate_rows(keys)
        rows = [{**key, "temperature": self.arm.temperature, **row} for key, row in zip(keys, result.rows, strict=True)]
        vectors = {layer: result.vectors[point] for layer, point in self.points.items()}
        schema = STEERED_SCHEMA if self.arm.conditions else GENERATION_SCHEMA
        self.stores.generation.write(cell, generation_table(rows, vectors, schema))
        return rows

    def _generate_rows(self, keys: Sequence[Mapping[str, Any]]) -> CellResult:
        """Generates a cell's rows; steered ones in batches of `batch_size` rows, those of a condition together."""
        if not keys:
            return CellResult([], {})  # no position of the cell has rows in this arm
        assert self.engine is not None, "positions are left to generate, but there is no engine"
        requests = [self.request_of(self.arm, key["position"], key["sample"]) for key in keys]
        settings = {"temperature": self.arm.temperature, "max_retries": self.config.max_retries}
        work = partial(generate_cell, self.engine, **settings)
        if not self.arm.conditions:
            return work(requests)
        order = sorted(range(len(keys)), key=lambda row: (keys[row]["sample"], keys[row]["position"]))
        rows: list[dict[str, Any]] = [{} for _ in keys]
        for chunk in even_chunks(order, self.config.batch_size):
            made = work([requests[row] for row in chunk]).rows
            for row, result in zip(chunk, made, strict=True):
                rows[row] = result
        return CellResult(rows, {})

    def _snapshot(self) -> None:
        records = sum(len(span) for span in self.stores.evaluation.spans()) * self.arm.samples
        if self.snapshots is None or not self.snapshots.due(records):
            return
        tables = labelled_tables(self.stores)
        self.snapshots.write(self.problems, *tables)


def even_chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    """Cuts `rows` into the fewest parts of at most `size`, as equal in size as can be."""
    n_parts = -(-len(rows) // size)
    return [part.tolist() for part in np.array_split(np.asarray(rows, dtype=np.int64), n_parts)] if n_parts else []


def labelled_tables(stores: Stores) -> tuple[Any, Any]:
    """Returns the generated and the tested rows of every span that has both, in order of position."""
    both = sorted(set(stores.generation.spans()) & set(stores.evaluation.spans()))
    generated = pa.concat_tables([stores.generation.read(span) for span in both]).combine_chunks()
    return generated, pa.concat_tables([stores.evaluation.read(span) for span in both]).combine_chunks()
