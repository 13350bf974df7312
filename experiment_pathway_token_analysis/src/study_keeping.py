"""What the producer does so that nothing is lost: which files it may write over, and what it puts aside first."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.logging import get_logger
from common.runs.artifacts import PhasePaths
from common.runs.files import sha256_file, write_json, writing
from common.runs.metadata import generation_to_put_aside
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_files import named
from experiment_pathway_token_analysis.src.study_state import (
    study_files,
    study_record,
    study_record_found,
    written_list,
)

_log = get_logger(__name__)


def announce(run: Run, files: Iterable[Path]) -> None:
    """Lists what is about to be written and what stands: whatever cuts the writing short, both are known as its own."""
    write_json(written_list(run), {"files": sorted({named(run, path) for path in files})})


def forget_record(run: Run) -> str | None:
    """Removes the record that says that the study is whole; returns the SHA-256 of the prompts that it had written."""
    record = study_record_found(run) or {"outputs": {}}
    announce(run, study_files(run))  # what this record names stays known
    with writing(study_record(run)):
        study_record(run).unlink(missing_ok=True)
    return record["outputs"].get(named(run, run.paths.prompts))


def keep_given_prompts(run: Run, own: bytes, written: str | None) -> None:
    """Puts prompts aside that are neither `own` nor those written before (by their SHA-256): someone else's."""
    path = run.paths.prompts
    if path.is_file() and path.read_bytes() != own and sha256_file(path) != written:
        _log.warning("%s is not what was written here: it is put aside in %s", path, _put_aside(run, [path]))


def set_study_aside(run: Run, features: Path) -> None:
    """Moves what stands of a study, the finished `features` too, to the producer's `superseded/`."""
    places = [study_record(run), written_list(run), features, *study_files(run), run.paths.prompts]
    standing = [path for path in places if path.exists()]
    if standing:
        _log.info("the earlier patching study is put aside in %s", _put_aside(run, standing))


def _put_aside(run: Run, standing: Sequence[Path]) -> Path:
    paths = PhasePaths(run.paths.producer)
    target = paths.superseded / f"{generation_to_put_aside(paths):04d}"
    with writing(target):
        target.mkdir(parents=True)
        for path in standing:
            shutil.move(path, target / path.name)
    return target
