"""Makes a patching study of this pipeline's own features: six conditions on MBPP problems, in the study's schema.

Every candidate feature is set, on problems that the base model solves and on problems that it fails, to its mean over
the one class and over the other, at the last prompt token and at each new one (common_simplified.patching); greedy, one
trial a problem, tested in the sandbox. The stored solutions of phase 3.5 are the baselines. A finished feature is a
durable file; a stopped run goes on where it was.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from common.errors import Interrupted, UsageError
from common.execution import EvaluationPool, EvaluationResult
from common.logging import get_logger
from common.problems import Problem
from common.profiles import REPOSITORY
from common.progress import Progress
from common.runs import labelling
from common.runs.artifacts import split_file
from common.runs.compatibility import refuse_other_model
from common.runs.discovery import run_command
from common.runs.files import write_json, writing
from common.runs.interruption import StopRequest, polite_stop
from common.runs.records import StageStore, refuse_difference
from common.runs.slices import Span
from common.runs.tables import problems_of
from common_simplified.feature_ranking import LabelledSplit, labelled_split
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_batch import generate_cell
from common_simplified.generation_work import even_chunks, finished_by_solution
from common_simplified.model_setup import ModelSetup, set_up_model
from common_simplified.sites import HookPoint, parse_hook_name
from common_simplified.steering_baseline import read_baseline
from common_simplified.stopping import STOP_VERSION
from experiment_pathway_token_analysis.src.orchestrator import command_given
from experiment_pathway_token_analysis.src.steps import Run, digest_of
from experiment_pathway_token_analysis.src.study_candidates import Candidate, find_candidates
from experiment_pathway_token_analysis.src.study_files import StudyWriter, hashes_of, planned_files
from experiment_pathway_token_analysis.src.study_keeping import (
    announce,
    forget_record,
    keep_given_prompts,
    set_study_aside,
)
from experiment_pathway_token_analysis.src.study_problems import Chosen, Solved, choose
from experiment_pathway_token_analysis.src.study_state import (
    BASELINE,
    READER,
    SPLIT,
    StudyInputs,
    find_inputs,
    made_under,
    published_under,
    study_files,
    study_record,
)

WAITING_CELLS = 2
TRIALS = pa.schema(
    [
        ("condition", pa.string()),
        ("trial", pa.int32()),
        ("task_id", pa.int64()),
        ("response", pa.large_string()),
        ("test_passed", pa.bool_()),
        ("outcome", pa.string()),
        ("stop_reason", pa.string()),
        ("n_new_tokens", pa.int32()),
        ("excluded_reason", pa.string()),
    ]
)
_log = get_logger(__name__)


class Row(NamedTuple):
    """One solution to be generated: a candidate set to a class's mean on one problem."""

    candidate: Candidate
    condition: str
    trial: int
    solved: Solved
    towards: str


class Tested(NamedTuple):
    """A cell's generated rows with the results of their tests, None where generation failed."""

    rows: list[tuple[Row, dict[str, Any], Future[EvaluationResult] | None]]


def make_study(run: Run, *, fresh: bool = False) -> None:
    """Makes the study, or goes on with it; `fresh` puts what stands aside first."""
    PatchingStudy(run).run(fresh=fresh)


class PatchingStudy:
    """One study: what it is made from, what is left of it, and its files."""

    def __init__(self, run: Run) -> None:
        self.analysis, self.config = run, run.config
        self.inputs: StudyInputs = find_inputs(run)
        self.split: LabelledSplit = labelled_split(self.inputs.labelled, self.config, run.profile, READER)
        self.setup: ModelSetup = set_up_model(
            *(self.config, run.profile, "base", lambda _: self.split.layers), site_given=False
        )
        self._refuse_misfit()
        self.chosen: Chosen = choose(run, self.solved)
        self.store = StageStore(run.paths.producer / "features")
        self._prompts_digest: str | None = None

    def run(self, *, fresh: bool = False) -> None:
        """Generates and tests what is missing, then writes the study's files."""
        started = time.monotonic()
        labelling.check_sandbox(self.config)
        if fresh:
            set_study_aside(self.analysis, self.store.directory)
        stored = self.store.stored_fingerprint()
        if stored is not None:
            refuse_difference(self.analysis.paths.producer, stored, self.fingerprint)
        self.store.open(self.fingerprint)
        self.store.verify()
        self._prompts_digest = forget_record(self.analysis)
        with polite_stop() as stop:
            self._work(stop)
        self._publish(time.monotonic() - started)

    @cached_property
    def solved(self) -> list[Solved]:
        """The validation problems with the base model's stored greedy solutions."""
        problems = problems_of(self.inputs.split.table(split_file(SPLIT)))
        baseline = read_baseline(self.inputs.baseline, BASELINE, problems)
        table = self.inputs.baseline.table(BASELINE).select(["task_id", "generated_text"]).to_pylist()
        texts = {row["task_id"]: row["generated_text"] for row in table}
        limit, found = self.analysis.settings.producer.max_new_tokens, []
        for position, (problem, row) in enumerate(zip(problems, baseline, strict=True)):
            if row.passed is not None:
                assert row.prompt is not None and row.n_new_tokens is not None, problem.task_id
                fits, text = row.left_out(limit) is None, texts[problem.task_id]
                found.append(Solved(position, problem, row.prompt, text, row.passed, row.n_new_tokens, fits))
        return found

    @cached_property
    def points(self) -> dict[int, HookPoint]:
        """Where each layer's SAE reads, as phase 1.0 read it."""
        recorded = self.inputs.labelled.record["points"]
        return {layer: parse_hook_name(recorded[str(layer)]) for layer in self.split.layers}

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The features that are tested, in order."""
        return find_candidates(self.analysis, self.inputs, self.split, self.points)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What changes a feature's trials; which features are tested does not."""
        positions = {name: [item.position for item in items] for name, items in self.chosen.problems.items()}
        return {
            **made_under(self.analysis),
            **self.setup.fingerprint(self.points),
            "inputs": self.inputs.hashes(),
            "problems": digest_of(positions),
            "stop_version": STOP_VERSION,
            "sandbox_rung": labelling.evaluation_fingerprint(self.config, "")["sandbox_rung"],
        }

    def position(self, candidate: Candidate) -> Span:
        """Returns the place of a candidate's file among those of all features."""
        place = candidate.layer * self.analysis.profile.sae.width + candidate.index
        return Span(place, place)

    def cells(self) -> list[list[Candidate]]:
        """Cuts the candidates into cells of at least about one batch; the cut does not depend on what is finished."""
        rows = 2 * sum(len(items) for items in self.chosen.problems.values())
        size = max(1, self.config.batch_size // rows)
        return [self.candidates[start : start + size] for start in range(0, len(self.candidates), size)]

    def _refuse_misfit(self) -> None:
        record = self.setup.as_record()
        for output in (self.inputs.labelled, self.inputs.baseline):
            cure = run_command(self.config, output.phase)
            refuse_other_model(READER, output, record, cure, ("model", "saes"))
        unread = [str(point) for point in self.points.values() if point.site == "resid_mid"]
        if unread:
            raise UsageError(
                f"{unread[0]}: a feature that is read there cannot be set; read the SAEs at their own site"
            )

    def _missing(self, cell: Sequence[Candidate]) -> list[Candidate]:
        done = set(self.store.spans())
        return [candidate for candidate in cell if self.position(candidate) not in done]

    def _work(self, stop: StopRequest) -> None:
        cells = self.cells()
        left = [cell for cell in cells if self._missing(cell)]
        if not left:
            return
        done = sum(len(cell) - len(self._missing(cell)) for cell in cells)
        rows = 2 * sum(len(items) for items in self.chosen.problems.values())
        _log.info("patching study: %d features, %d solutions each", len(self.candidates), rows)
        labelling.announce_sandbox(self.config)
        try:
            self._work_cells(left, done, stop)
        except Interrupted:
            stop.signal = stop.signal or 0
        finished = len(self.candidates) - sum(len(self._missing(cell)) for cell in cells)
        if stop.requested and finished < len(self.candidates):
            raise Interrupted(
                f"stopped with {finished} of {len(self.candidates)} features of the patching study done; to go on: "
                f"{command_given(self.analysis)}"
            )

    def _work_cells(self, cells: Sequence[Sequence[Candidate]], done: int, stop: StopRequest) -> None:
        pending: deque[Tested] = deque()
        with (
            labelling.evaluation_pool(self.config) as pool,
            self._engine(stop) as engine,
            Progress("patching study", len(self.candidates), done, "feature") as progress,
        ):
            try:
                for cell in cells:
                    if stop.requested:
                        break
                    pending.append(self._generate(cell, engine, pool, stop))
                    while len(pending) > WAITING_CELLS:
                        self._store(pending.popleft(), progress)
            finally:  # what is generated is tested and kept, whatever ends the rest
                for tested in pending:
                    self._store(tested, progress)
        _log.info("%s", progress.line())

    def _engine(self, stop: StopRequest) -> GenerationEngine:
        layers = {candidate.layer for candidate in self.candidates}
        return GenerationEngine(
            self.setup.load(),
            max_new_tokens=self.analysis.settings.producer.max_new_tokens,
            patching_points=[self.points[layer] for layer in sorted(layers)],
            timeout_seconds=self.config.generation_timeout_seconds,
            check_stop=stop.check,
            capture=self.setup.capture,
        )

    def _generate(
        self, cell: Sequence[Candidate], engine: GenerationEngine, pool: EvaluationPool, stop: StopRequest
    ) -> Tested:
        """Generates a cell's rows; rows of about the same length share a batch, so that few wait for others."""
        rows = sorted(self._rows(cell), key=lambda row: (row.solved.n_new_tokens, row.solved.position, row.condition))
        found: list[tuple[Row, dict[str, Any], Future[EvaluationResult] | None]] = []
        for chunk in even_chunks(range(len(rows)), self.config.batch_size):
            if stop.requested:
                raise Interrupted("stopped between two batches of a feature")
            requests = [self._request(rows[place]) for place in chunk]
            made = generate_cell(engine, requests, 0.0, self.config.max_retries).rows
            for place, result in zip(chunk, made, strict=True):
                found.append((rows[place], result, self._verdict(rows[place].solved.problem, result, pool)))
        return Tested(found)

    def _rows(self, cell: Sequence[Candidate]) -> Iterator[Row]:
        study = self.analysis.settings.study
        a, b = study.classes
        for candidate in cell:
            for name, items in self.chosen.problems.items():
                for what, towards in (("own", name), ("opposite", b if name == a else a)):
                    condition = study.condition(name, what)
                    for trial, solved in enumerate(items):
                        yield Row(candidate, condition, trial, solved, towards)

    def _request(self, row: Row) -> Request:
        patch = row.candidate.patches[row.towards]
        return Request(row.solved.prompt, finished_by_solution(row.solved.problem), None, patch)

    def _verdict(self, problem: Problem, made: dict[str, Any], pool: EvaluationPool) -> Future[EvaluationResult] | None:
        """Returns the test of a solution, None where there is none."""
        if made["excluded_reason"] is not None:
            return None
        code = labelling.extract_solution(made["generated_text"], problem.test_list, problem.test_setup_code)
        return labelling.verdict(pool, problem, code)

    def _store(self, tested: Tested, progress: Progress) -> None:
        """Stores the features of a cell that are not stored yet, each as one durable file."""
        of_candidate: dict[str, list[dict[str, Any]]] = {}
        for row, made, verdict in tested.rows:
            result = None if verdict is None else verdict.result()
            of_candidate.setdefault(row.candidate.name, []).append(_columns(row, made, result))
        for candidate in self._missing(list({row.candidate.name: row.candidate for row, _, _ in tested.rows}.values())):
            rows = sorted(of_candidate[candidate.name], key=lambda each: (each["condition"], each["trial"]))
            self.store.write(self.position(candidate), pa.Table.from_pylist(rows, schema=TRIALS))
            progress.advance(1)

    def _publish(self, seconds: float) -> None:
        run = self.analysis
        writer = StudyWriter(run, self.candidates, self.chosen)
        stale = study_files(run)
        announce(run, [*stale, *planned_files(run, self.candidates)])
        rows_of = (self.store.read(self.position(candidate)).to_pylist() for candidate in self.candidates)
        keep_given_prompts(run, writer.prompts_bytes(), self._prompts_digest)
        files, results = writer.write(rows_of)
        with writing(run.study_root):
            for path in set(stale) - set(files):
                path.unlink(missing_ok=True)
        n_causal = sum(result["is_causal"] for result in results)
        found = {
            "n_features": len(results),
            "n_causal": n_causal,
            "n_problems": sum(len(items) for items in self.chosen.problems.values()),
            "alpha": run.settings.producer.alpha,
        }
        write_json(run.paths.producer / "timings.json", {"wall_seconds": seconds})
        record = {
            "schema_version": 1,
            "inputs": self.inputs.hashes(),
            "made_under": made_under(run),
            "published_under": published_under(run),
            **self.setup.as_record(),
            "found": found,
            "outputs": hashes_of(run, files),
        }
        write_json(study_record(run), record)
        _log.info("patching study: %d of %d features are causal; %s", n_causal, len(results), run.study_root)


def _columns(row: Row, made: dict[str, Any], result: EvaluationResult | None) -> dict[str, Any]:
    return {
        "condition": row.condition,
        "trial": row.trial,
        "task_id": row.solved.problem.task_id,
        "response": made.get("generated_text") or "",
        "test_passed": None if result is None else result.passed,
        "outcome": None if result is None else result.outcome,
        "stop_reason": made.get("stop_reason"),
        "n_new_tokens": made.get("n_new_tokens"),
        "excluded_reason": made["excluded_reason"],
    }


def main(arguments: Sequence[str]) -> None:
    """Makes the study alone: `run.py pathway --only-produce` with the same options."""
    os.execv(sys.executable, [sys.executable, str(REPOSITORY / "run.py"), "pathway", "--only-produce", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
