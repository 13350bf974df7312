"""Working off one arm of a split: generating what is missing, testing it meanwhile, storing both durably."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

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
from common.runs.slices import Span, missing_cells
from common.runs.tables import generation_table
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_batch import generate_cell
from common_simplified.sampling import SampleKey
from common_simplified.sites import HookPoint


class Arm(NamedTuple):
    """One way of generating: a temperature, and how many samples of each problem."""

    name: str
    temperature: float
    samples: int


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

    `engine` is needed only where something is left to generate; `prompt_of` builds a problem's prompt.
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
        prompt_of: Callable[[Problem], str],
        snapshots: Snapshots | None,
    ) -> None:
        self.config, self.problems, self.arm, self.stores = config, problems, arm, stores
        self.points, self.engine, self.pool, self.prompt_of = points, engine, pool, prompt_of
        self.snapshots = snapshots
        self._memory = MemoryWatch(config.ram_warning_share)
        self._pending: deque[labelling.Pending] = deque()

    def run(self, span: Span, stop: StopRequest, progress: Progress) -> None:
        """Works until the span is done or a stop is requested; what is finished is stored either way."""
        for done in self.stores.unlabelled(span):
            rows = self.stores.generation.read(done).to_pylist()
            self._pending.append(labelling.submit(self.pool, self.problems, done, rows))
        for cell in missing_cells(span, self.stores.generation.spans(), self.config.batch_size):
            if stop.requested:
                break
            rows = self._generate(cell)
            self._pending.append(labelling.submit(self.pool, self.problems, cell, rows))
            progress.advance(len(cell))
            self._memory.check()
            self._store_labels(progress, wait=False)
        self._store_labels(progress, wait=True)

    def _generate(self, cell: Span) -> list[dict[str, Any]]:
        keys = [
            {"position": position, "task_id": self.problems[position].task_id, "sample": sample}
            for position in range(cell.start, cell.end + 1)
            for sample in range(self.arm.samples)
        ]
        requests = [self._request(key) for key in keys]
        assert self.engine is not None, "positions are left to generate, but there is no engine"
        result = generate_cell(self.engine, requests, self.arm.temperature, self.config.max_retries)
        rows = [{**key, "temperature": self.arm.temperature, **row} for key, row in zip(keys, result.rows, strict=True)]
        vectors = {layer: result.vectors[point] for layer, point in self.points.items()}
        self.stores.generation.write(cell, generation_table(rows, vectors))
        return rows

    def _request(self, key: Mapping[str, Any]) -> Request:
        problem = self.problems[key["position"]]
        finished = partial(
            solution_finished,
            entry_point=problem.entry_point,
            also_needed=names_used_by_tests(problem.test_list, problem.test_setup_code),
        )
        draw = SampleKey(self.config.seed, problem.task_id, self.arm.temperature, key["sample"])
        return Request(self.prompt_of(problem), finished, draw if self.arm.temperature > 0 else None)

    def _store_labels(self, progress: Progress, *, wait: bool) -> None:
        while self._pending and (wait or self._pending[0].done):
            pending = self._pending.popleft()
            table = labelling.collect(pending)
            self.stores.evaluation.write(pending.span, table)
            labels = [label for label in table["test_passed"].to_pylist() if label is not None]
            progress.judge(sum(labels), len(labels))
            self._snapshot()

    def _snapshot(self) -> None:
        records = sum(len(span) for span in self.stores.evaluation.spans()) * self.arm.samples
        if self.snapshots is None or not self.snapshots.due(records):
            return
        tables = labelled_tables(self.stores)
        self.snapshots.write(self.problems, *tables)


def labelled_tables(stores: Stores) -> tuple[Any, Any]:
    """Returns the generated and the tested rows of every span that has both, in order of position."""
    import pyarrow as pa

    both = sorted(set(stores.generation.spans()) & set(stores.evaluation.spans()))
    generated = pa.concat_tables([stores.generation.read(span) for span in both]).combine_chunks()
    return generated, pa.concat_tables([stores.evaluation.read(span) for span in both]).combine_chunks()
