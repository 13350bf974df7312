"""Phase 2.2: how often each SAE feature fires on ordinary text, so that merely common features can be left out.

One seeded random token of each text, never the first, is read at every layer in one forward pass of a batch, at the
same site as everywhere else. The vectors are kept as segments; the SAEs read them at the end, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from common.corpus_loading import Corpus, load_corpus
from common.errors import PipelineError
from common.logging import get_logger
from common.model_location import chosen_layers
from common.progress import Progress
from common.runs.artifacts import FEATURE_FREQUENCIES, frequency_array
from common.runs.files import npz_bytes, write_bytes
from common.runs.interruption import StopRequest, polite_stop
from common.runs.locks import EVERYTHING, directory_lock, span_lock
from common.runs.merging import Lack, Opened, refuse_foreign_slices, settings_digest
from common.runs.metadata import Extent, InputFile, OutputFile, read_record
from common.runs.phase_runner import PhaseRunner
from common.runs.publishing import remove_segments
from common.runs.records import StageStore, refuse_difference
from common.runs.slices import Span, covered, grid_cells, missing_cells, missing_spans, requested_span
from common.runs.tables import VECTOR_PREFIX, vector_column, vectors_of
from common.statistics.seeding import generator
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.model_setup import set_up_model
from common_simplified.sae_loader import load_encoder

STEP_VERSION = 1
ENCODE_ROWS = 512
_log = get_logger(__name__)


class GeneralTextRunner(PhaseRunner):
    """Measures how often each feature of each layer fires on general text."""

    phase = "2.2"

    def prepare(self) -> None:
        """Loads the corpus and finds the model's and the SAEs' files; loads no weights."""
        given = [item.path for item in self.options.inputs if item.phase in (None, "2.2")]
        self.corpus: Corpus = load_corpus(given[0] if given else self.profile.corpus, self.config.phase2_2_texts)
        if len(self.corpus.texts) < self.config.phase2_2_texts:
            _log.info("the corpus holds %d texts, all are read", len(self.corpus.texts))
        self.span = requested_span(self.options.start, self.options.end, len(self.corpus.texts))
        layers = partial(chosen_layers, self.config)
        self.setup = set_up_model(
            *(self.config, self.profile, "base", layers),
            site_given=self.options.site_given,
            computes_here=self.options.computes_here,
        )
        self.store = StageStore(self.paths.stage("vectors", "general_text"))

    def execute(self) -> None:
        """Reads what is missing of the span, then publishes what the directory holds (a worker does not)."""
        own_lock = span_lock(self.paths.locks, EVERYTHING if self.options.fresh else self.span)
        with own_lock, polite_stop() as stop, self.slice_record(self.span, self.setup.device, 1):
            if self.options.fresh and (self.options.open or self.loaded):  # refused before anything is moved
                self.set_aside()
            is_due = self._settle()
            if self.options.open:
                self.opened = self.what_is_left(is_due=is_due)
            elif not is_due:
                _log.info("phase 2.2: nothing to do, texts %d to %d are read", *self.span)
            else:
                self._read_texts(stop)
                if not self.options.worker:
                    with directory_lock(self.paths.locks):
                        self._publish()

    def what_is_left(self, *, is_due: bool) -> Opened:
        """Returns which texts of the span are still to be read, on the batch grid."""
        total, batch_size, lacks = len(self.corpus.texts), self.config.batch_size, []
        if is_due:
            missing = missing_spans(self.span, self.store.spans())
            cells = grid_cells(self.span, batch_size)
            lacks = [Lack(*cell, len(cell)) for cell in cells if any(cell.overlaps(gap) for gap in missing)]
        if lacks and not self.options.dry_run:
            self.note_unfinished(total, covered(self.store.spans()), self.span)
        return Opened(self.phase, self.span, total, batch_size, 1, is_due, lacks)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, loaded when it is first needed."""
        self.setup.require_room(self.phase, self.config, self.profile)
        with self.timed("loading"):
            return self.setup.load()

    def fingerprint(self) -> dict[str, Any]:
        """Returns what changes the vectors that are read."""
        return {
            **self.setup.fingerprint(),
            "batch_size": self.config.batch_size,
            "data": self.corpus.identity["content_sha256"],
            "max_tokens": self.config.phase2_2_max_tokens,
            "seed": self.config.seed,
            "step_version": STEP_VERSION,
        }

    def _settle(self) -> bool:
        """Opens the store unless everything asked for is published; returns whether anything is to be done."""
        with directory_lock(self.paths.locks):
            is_due = not self._is_done()
            if is_due:
                self.store.open(self.fingerprint())
                self.store.verify()
            refuse_foreign_slices(self.paths, self.phase, settings_digest(self.fingerprint()))
        return is_due

    def _is_done(self) -> bool:
        record = read_record(self.paths)
        stored = record["fingerprint"] if record is not None else self.store.stored_fingerprint()
        if stored is not None:
            refuse_difference(self.paths.root, stored, self.fingerprint())
        if record is None:
            return False
        slices = [Span(*pair) for pair in record["slices"]]
        return not missing_spans(self.span, slices)

    def _read_texts(self, stop: StopRequest) -> None:
        cells = missing_cells(self.span, self.store.spans(), self.config.batch_size)
        done = len(self.span) - sum(len(cell) for cell in cells)
        self.keeper.begin(done, settings_digest(self.fingerprint()))
        if not cells:
            return
        self._note()
        with Progress("phase 2.2", len(self.span), done, unit="text") as progress, self.timed("reading"):
            for cell in cells:
                if stop.requested:
                    self._note()
                    raise self.stopped(covered(self.store.spans()), len(self.corpus.texts), "texts")
                self.store.write(cell, self._read_cell(self.loaded, cell))
                progress.advance(len(cell))
                self.keeper.advance(len(cell))

    def _note(self) -> None:
        if not self.options.worker:
            self.note_unfinished(len(self.corpus.texts), covered(self.store.spans()), self.span)

    @torch.no_grad()
    def _read_cell(self, loaded: LoadedModel, cell: Span) -> pa.Table:
        """Captures one token of each text of a cell; a text without a second token gets no vector."""
        texts = self.corpus.texts[cell.start : cell.end + 1]
        ids, mask = tokenize_prompts(loaded.tokenizer, texts, limit=self.config.phase2_2_max_tokens)
        lengths = mask.sum(dim=1).tolist()
        drawn = [self._draw(cell.start + index, length) for index, length in enumerate(lengths)]
        columns = torch.tensor(
            [ids.shape[1] - length + max(token, 0) for token, length in zip(drawn, lengths, strict=True)]
        )
        points = list(dict.fromkeys(self.setup.points.values()))
        with ActivationExtractor(loaded.model, points, positions=columns) as extractor:
            loaded.model.model(
                input_ids=ids.to(loaded.device),
                attention_mask=mask.to(loaded.device),
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).to(loaded.device),
                use_cache=False,
            )
        captured = extractor.get_activations()
        table = pa.table(
            {
                "position": pa.array(range(cell.start, cell.end + 1), pa.int32()),
                "token": pa.array([token if token > 0 else None for token in drawn], pa.int32()),
                "n_tokens": pa.array(lengths, pa.int32()),
            }
        )
        for layer, point in sorted(self.setup.points.items()):
            matrix = captured[point].numpy()
            matrix[[token < 1 for token in drawn]] = np.nan
            table = table.append_column(f"{VECTOR_PREFIX}{layer}", vector_column(matrix))
        return table

    def _draw(self, index: int, length: int) -> int:
        """Returns the token that is read of a text, from 1 to its last; -1 where it has no second token."""
        return int(generator(self.config.seed, "general text", index).integers(1, length)) if length > 1 else -1

    def _publish(self) -> None:
        if not self.paths.segments.exists():
            return  # another slice that ended meanwhile has published everything
        spans = self.store.spans()
        with self.timed("encoding"):
            frequencies = {layer: self._frequencies(layer) for layer in self.setup.layers}
        n_used = min(n for _, n in frequencies.values())
        if n_used == 0:
            raise PipelineError("phase 2.2: no text has a second token; give another corpus with --input")
        arrays = {frequency_array(layer): shares for layer, (shares, _) in frequencies.items()}
        data = npz_bytes(**arrays, n_texts=np.array(n_used))
        output = OutputFile(FEATURE_FREQUENCIES, write_bytes(self.paths.root / FEATURE_FREQUENCIES, data))
        identity = self.corpus.identity
        self._given = [InputFile(None, identity["name"], identity["sha256"], identity["n"], identity["revision"])]
        total = len(self.corpus.texts)
        whole = missing_spans(Span(0, total - 1), missing_spans(Span(0, total - 1), spans))
        extent = Extent(total, covered(spans), total - n_used if covered(spans) == total else 0, tuple(whole))
        self.publish(extent, [output], self._details(n_used))
        if extent.done == extent.expected:
            remove_segments(self.paths)
        self.paths.partial.unlink(missing_ok=True)
        common = {
            layer: int((shares >= self.config.general_text_max_frequency).sum())
            for layer, (shares, _) in frequencies.items()
        }
        _log.info(
            "phase 2.2: %d of %d texts; features that fire on %g %% of them or more, by layer: %s",
            *(extent.done, extent.expected, 100 * self.config.general_text_max_frequency),
            ", ".join(f"{layer}: {count}" for layer, count in common.items()),
        )

    def _frequencies(self, layer: int) -> tuple[np.ndarray, int]:
        """Returns the share of texts on which each feature fires, float64 (d_sae,), and the number of texts."""
        encoder = load_encoder(self.profile, layer)
        counts: Any = None
        n = 0
        for segment in self.store.column(f"{VECTOR_PREFIX}{layer}"):
            vectors = vectors_of(segment, layer)
            vectors = vectors[np.isfinite(vectors).all(axis=1)]
            fires = [(encoder.encode(part) > 0).sum(dim=0).numpy() for part in _parts(vectors)]
            found = np.sum(fires, axis=0, dtype=np.int64)
            counts = found if counts is None else counts + found
            n += len(vectors)
        assert counts is not None, "there are no texts to measure"
        return counts / max(n, 1), n

    def _details(self, n_used: int) -> dict[str, Any]:
        return {
            **self.setup.as_record(),
            "corpus": self.corpus.identity,
            "n_texts": n_used,
            "fingerprint": self.fingerprint(),
        }


def _parts(vectors: np.ndarray) -> Sequence[torch.Tensor]:
    return torch.from_numpy(vectors).split(ENCODE_ROWS)
