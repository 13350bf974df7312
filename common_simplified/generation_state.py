"""What stands of a generating phase on disk, and whether it may be gone on with.

Results made under another generating fingerprint are refused; labels made under another evaluating fingerprint are made
again from what was generated, also when the phase was already published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from common.errors import UsageError
from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.locks import EVERYTHING, span_lock
from common.runs.merging import Lack, settings_digest
from common.runs.metadata import read_record
from common.runs.records import Fingerprint, StageStore, fingerprint_differences, refuse_difference
from common.runs.slices import Span, covered, grid_cells, missing_cells, missing_spans
from common_simplified.generation_work import Arm, Stores

_log = get_logger(__name__)


@dataclass(frozen=True)
class GenerationState:
    """The segments and the record of a generating phase, held against what a run would make.

    `generation` gives each arm's generating fingerprint, `evaluation` the one of the labels; `n_problems` is the size
    of the split and `batch_size` its grid; `extra_gaps` tells the positions at which the phase's extra work is missing.
    """

    paths: PhasePaths
    arms: Sequence[Arm]
    generation: Mapping[str, Fingerprint]
    evaluation: Fingerprint
    n_problems: int
    batch_size: int
    extra_gaps: Callable[[], list[Span]]
    arm_settings: Mapping[str, Any]
    is_worker: bool = False

    def stores(self, arm: Arm) -> Stores:
        """Returns both stages of an arm."""
        stage = self.paths.stage
        return Stores(StageStore(stage("generation", arm.name)), StageStore(stage("evaluation", arm.name)))

    def settle(
        self,
        span: Span,
        published_rows: Callable[[Arm], pa.Table],
        published_labels: Callable[[Arm], pa.Table],
        *,
        republish: bool,
    ) -> bool:
        """Brings what stands in line with what is asked for; returns whether anything is to be done for `span`.

        `published_rows` and `published_labels` read an arm's generated and tested rows back from published files; with
        `republish` a published output is written again without generating or testing (what it was made for has
        changed). Raises `UsageError`, naming each differing field, where what stands was generated under other
        settings.
        """
        record = read_record(self.paths)
        if record is not None:
            refuse_difference(self.paths.root, record["arm_settings"], self.arm_settings)
            made, asked = sorted(record["fingerprints"]["generation"]), sorted(arm.name for arm in self.arms)
            refuse_difference(self.paths.root, {"arms": ", ".join(made)}, {"arms": ", ".join(asked)})
        if record is not None and record["complete"]:
            self._refuse_difference(record["fingerprints"]["generation"])
            labels_differ = self._labels_differ(record["fingerprints"]["evaluation"], say=not self._has_all_labels())
            if not labels_differ and not republish and not self.paths.segments.exists():
                return False
            for arm in self.arms:
                self._open(arm, span)  # what stands in segments under other limits is cleared first
                stores = self.stores(arm)
                if covered(stores.generation.spans()) < self.n_problems:
                    self._reopen(stores.generation, self.generation[arm.name], published_rows(arm))
                if not labels_differ and covered(stores.evaluation.spans()) < self.n_problems:
                    self._reopen(stores.evaluation, self.evaluation, published_labels(arm))
        for arm in self.arms:
            self._open(arm, span)
        reopened = record is not None and record["complete"]
        return record is None or republish or reopened or not self._is_published(record, span)

    def open_only(
        self, span: Span, rows: Callable[[Arm], pa.Table], labels: Callable[[Arm], pa.Table], *, republish: bool
    ) -> bool:
        """Settles for workers, who say themselves under which isolation they test; returns whether anything is due."""
        stores = [self.stores(arm).evaluation for arm in self.arms]
        before = [store.stored_fingerprint() for store in stores]
        is_due = self.settle(span, rows, labels, republish=republish)
        for store, earlier in zip(stores, before, strict=True):
            if not store.spans() and store.stored_fingerprint() != earlier:
                store.clear()
        return is_due

    def done_spans(self) -> list[Span]:
        """Returns the positions that every arm has generated and tested, as spans."""
        whole = Span(0, self.n_problems - 1)
        gaps = [gap for arm in self.arms for gap in missing_spans(whole, self.stores(arm).evaluation.spans())]
        return missing_spans(whole, gaps)

    def finished_spans(self) -> list[Span]:
        """Returns the positions that are done and whose extra work is done too: those that can be published."""
        whole = Span(0, self.n_problems - 1)
        return missing_spans(whole, [*missing_spans(whole, self.done_spans()), *self.extra_gaps()])

    def done(self) -> int:
        """Returns how many positions are done."""
        return covered(self.done_spans())

    def is_left(self, span: Span) -> bool:
        """Returns whether positions of `span` are still to be done, or extra work on them."""
        return bool(missing_spans(span, self.finished_spans()))

    def units_done(self, span: Span) -> int:
        """Returns how many positions of `span` are done, summed over the arms."""
        spans = [done for arm in self.arms for done in self.stores(arm).evaluation.spans()]
        return sum(min(done.end, span.end) - max(done.start, span.start) + 1 for done in spans if done.overlaps(span))

    def lacks(self, span: Span) -> list[Lack]:
        """Returns the cells of `span` on which work is left, each with the rows that are to be generated."""
        record = read_record(self.paths)
        if record is not None and record["complete"] and not self.paths.segments.exists():
            return []
        cells, gaps = dict.fromkeys(grid_cells(span, self.batch_size), 0), list(self.extra_gaps())
        for arm in self.arms:
            stores = self.stores(arm)
            gaps += missing_spans(span, stores.evaluation.spans())
            for part in missing_cells(span, stores.generation.spans(), self.batch_size):
                cell = next(cell for cell in cells if cell.overlaps(part))
                cells[cell] += len(arm.positions_in(part)) * arm.samples
        left = [cell for cell in cells if any(cell.overlaps(gap) for gap in gaps)]
        return [Lack(*cell, max(cells[cell], 1)) for cell in left]

    @property
    def digest(self) -> str:
        """Stands for the settings under which every arm is generated."""
        return settings_digest(dict(self.generation))

    def _open(self, arm: Arm, span: Span) -> None:
        stores = self.stores(arm)
        stored = stores.generation.stored_fingerprint()
        if stored is not None:
            self._refuse_difference({arm.name: stored})
        labels = stores.evaluation.stored_fingerprint()
        if labels is not None and self._labels_differ(labels, say=not self.is_worker):
            self._clear_labels(stores.evaluation, labels, span)
        stores.generation.open(self.generation[arm.name])
        stores.evaluation.open(self.evaluation)
        stores.generation.verify()
        stores.evaluation.verify()

    def _clear_labels(self, store: StageStore, labels: Fingerprint, span: Span) -> None:
        """Removes labels, unless others are at work outside `span`, who would go on under their own limits."""
        if self.is_worker:
            changed = "; ".join(fingerprint_differences(labels, self.evaluation))
            raise UsageError(
                f"{self.paths.root} holds labels made otherwise ({changed}): workers test under the same limits and in "
                "the same --sandbox; make them alike, or start again when no worker is at work"
            )
        outside = [part for part in missing_spans(EVERYTHING, [span]) if self.paths.locks.is_dir()]
        with ExitStack() as held:
            for part in outside:
                held.enter_context(span_lock(self.paths.locks, part))
            store.clear()

    def _has_all_labels(self) -> bool:
        return all(covered(self.stores(arm).evaluation.spans()) == self.n_problems for arm in self.arms)

    def _refuse_difference(self, stored: Mapping[str, Fingerprint]) -> None:
        for arm in self.arms:
            if arm.name in stored:
                refuse_difference(self.paths.root, stored[arm.name], self.generation[arm.name])

    def _labels_differ(self, stored: Fingerprint, *, say: bool) -> bool:
        changed = fingerprint_differences(stored, self.evaluation)
        if changed and say:
            _log.info("labels are made again without generating (%s)", "; ".join(changed))
        return bool(changed)

    def _is_published(self, record: Mapping[str, Any], span: Span) -> bool:
        slices = [Span(*pair) for pair in record["slices"]]
        same = not fingerprint_differences(record["fingerprints"]["evaluation"], self.evaluation)
        return same and not missing_spans(span, slices) and covered(self.finished_spans()) == record["done"]

    def _reopen(self, store: StageStore, fingerprint: Fingerprint, rows: pa.Table) -> None:
        """Turns published rows of a stage back into its segments."""
        store.open(fingerprint)
        positions = rows["position"].to_numpy()
        for cell in missing_cells(Span(0, self.n_problems - 1), store.spans(), self.batch_size):
            inside = (positions >= cell.start) & (positions <= cell.end)
            store.write(cell, rows.filter(pa.array(inside)).combine_chunks())


def stored_labels(paths: PhasePaths, arms: Sequence[Arm]) -> Iterator[Fingerprint]:
    """Yields the fingerprints under which labels stand, unfinished ones first."""
    for arm in arms:
        fingerprint = StageStore(paths.stage("evaluation", arm.name)).stored_fingerprint()
        if fingerprint is not None:
            yield fingerprint
    record = read_record(paths)
    if record is not None:
        yield record["fingerprints"]["evaluation"]
