"""What stands of a generating phase on disk, and whether it may be gone on with.

Results made under another generating fingerprint are refused; labels made under another evaluating fingerprint are made
again from what was generated, also when the phase was already published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.metadata import read_record
from common.runs.records import Fingerprint, StageStore, fingerprint_differences, refuse_difference
from common.runs.slices import Span, covered, missing_cells, missing_spans
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
            labels_differ = self._labels_differ(record["fingerprints"]["evaluation"])
            if not labels_differ and not republish and not self.paths.segments.exists():
                return False
            for arm in self.arms:
                self._open(arm)  # what stands in segments may have been made under other limits, and is cleared then
                stores = self.stores(arm)
                if covered(stores.generation.spans()) < self.n_problems:
                    self._reopen(stores.generation, self.generation[arm.name], published_rows(arm))
                if not labels_differ and covered(stores.evaluation.spans()) < self.n_problems:
                    self._reopen(stores.evaluation, self.evaluation, published_labels(arm))
        for arm in self.arms:
            self._open(arm)
        reopened = record is not None and record["complete"]
        return record is None or republish or reopened or not self._is_published(record, span)

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

    def _open(self, arm: Arm) -> None:
        stores = self.stores(arm)
        stored = stores.generation.stored_fingerprint()
        if stored is not None:
            self._refuse_difference({arm.name: stored})
        labels = stores.evaluation.stored_fingerprint()
        if labels is not None and self._labels_differ(labels):
            stores.evaluation.clear()
        stores.generation.open(self.generation[arm.name])
        stores.evaluation.open(self.evaluation)
        stores.generation.verify()
        stores.evaluation.verify()

    def _refuse_difference(self, stored: Mapping[str, Fingerprint]) -> None:
        for arm in self.arms:
            if arm.name in stored:
                refuse_difference(self.paths.root, stored[arm.name], self.generation[arm.name])

    def _labels_differ(self, stored: Fingerprint) -> bool:
        changed = fingerprint_differences(stored, self.evaluation)
        if changed:
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
