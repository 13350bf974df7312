"""Whether the patching study that make_patching_study.py made is there, and made from today's inputs and settings.

Nothing here loads torch: the hashes that phases recorded are compared, and the model's identity.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError, UsageError
from common.model_location import identify_model
from common.runs.artifacts import ACTIVATION_INDEX, split_file, temperature_dataset
from common.runs.discovery import PhaseOutput, find_output
from common.runs.files import read_json, sha256_file
from common.runs.labelling import EVALUATION_VERSION, EXTRACTION_VERSION
from common.runs.options import RunOptions
from common.runs.records import fingerprint_differences
from experiment_pathway_token_analysis.src.steps import Run

MADE_HERE = "program_validity"
READER = "pathway"
SPLIT = "validation"
BASELINE = temperature_dataset(0.0)
PRODUCER_VERSION = 1
_RECORDED = {"inputs", "made_under", "published_under", "found", "outputs"}


class StudyInputs(NamedTuple):
    """The phases that the producer reads: labelled activations, the validation split, its stored greedy solutions."""

    labelled: PhaseOutput
    split: PhaseOutput
    baseline: PhaseOutput

    def hashes(self) -> dict[str, str]:
        """Returns the recorded SHA-256 of every file that the study is made from."""
        labelled = self.labelled
        names = [labelled.record["dataset"], ACTIVATION_INDEX]
        return {
            **{
                f"1.0 {part}": labelled.entry(name)["sha256"]
                for part, name in zip(("labels", "index"), names, strict=True)
            },
            "0.1 split": self.split.entry(split_file(SPLIT))["sha256"],
            "3.5 baseline": self.baseline.entry(BASELINE)["sha256"],
        }


class StudyState(NamedTuple):
    """How a study stands: `changed` names settings that it was made under and that are others now.

    `outdated` says that its inputs have changed, so that nothing of it can be kept.
    """

    current: bool
    why: str
    changed: list[str]
    outdated: bool


def study_files(run: Run) -> list[Path]:
    """Returns the study's checkpoints and response logs, sorted."""
    study, root = run.settings.study, run.study_root
    return sorted([*root.glob(study.checkpoints), *root.glob(study.response_logs)])


def study_record(run: Run) -> Path:
    """Returns where the producer says that the study is whole, and what it was made from."""
    return run.paths.producer / "study.json"


def study_record_found(run: Run) -> dict[str, Any] | None:
    """Returns the producer's record of a finished study; None where there is none, or a damaged one."""
    found = _read_or_none(study_record(run))
    return found if found is not None and found.keys() >= _RECORDED else None


def written_list(run: Run) -> Path:
    """Returns where the producer lists the study files that it writes, before it writes them."""
    return run.paths.producer / "written.json"


def files_made_here(run: Run) -> set[Path]:
    """Returns every study file that the producer has written here, or was about to, whether or not it stands."""
    listed, record = _read_or_none(written_list(run)) or {}, study_record_found(run) or {}
    if study_record(run).is_file() and not record and run.study_root.is_relative_to(run.paths.root):
        return set(study_files(run))  # its record is damaged, so it was finished
    return {run.paths.root / name for name in (*listed.get("files", ()), *record.get("outputs", ()))}


def refuse_foreign_study(run: Run) -> None:
    """Raises `UsageError` where the study's place holds files that were not made here: they would be overwritten."""
    foreign = sorted(set(study_files(run)) - files_made_here(run))
    if foreign:
        raise UsageError(
            f"{foreign[0]} was not made here, and a study made in {run.study_root} would overwrite it; read what lies "
            "there with --no-produce, or make a study elsewhere with --set study.directory=DIR"
        )


def find_inputs(run: Run) -> StudyInputs:
    """Returns the phases that the producer reads; refuses what is missing or partial, naming the cure."""
    options = RunOptions()
    return StudyInputs(*(find_output(run.config, options, phase, READER) for phase in ("1.0", "0.1", "3.5")))


def made_under(run: Run) -> dict[str, Any]:
    """Returns the settings that change what a feature's trials are; with others nothing finished can be kept."""
    config, producer = run.config, run.settings.producer
    return {
        "model": identify_model(config, run.profile).fingerprint(),
        "dtype": config.dtype,
        "saes": asdict(run.profile.sae),
        "seed": run.settings.seed,
        "classes": list(run.settings.study.classes),
        "batch_size": config.batch_size,
        "problems_per_class": producer.problems_per_class,
        "max_new_tokens": producer.max_new_tokens,
        "evaluation_timeout_seconds": config.evaluation_timeout_seconds,
        "evaluation_memory_mb": config.evaluation_memory_mb,
        "versions": [PRODUCER_VERSION, EXTRACTION_VERSION, EVALUATION_VERSION],
    }


def published_under(run: Run) -> dict[str, Any]:
    """Returns the settings that change only which features are tested and what is made of finished trials."""
    producer = run.settings.producer
    names = ("features_per_layer", "prompts_per_class", "alpha", "min_rate_difference")
    layers = list(run.selected_layers)
    return {**{name: getattr(producer, name) for name in names}, "layers": layers, "limit": run.limit}


def study_state(run: Run) -> StudyState:
    """Compares the study that stands with today's inputs and settings."""
    inputs = find_inputs(run).hashes()
    record = study_record_found(run)
    if record is None:
        return StudyState(False, "not made yet, or unfinished", [], False)
    if other := fingerprint_differences(record["inputs"], inputs):
        names = ", ".join(line.partition(":")[0] for line in other)
        return StudyState(False, f"stale ({names} changed since): what stands is put aside", [], True)
    if changed := fingerprint_differences(record["made_under"], made_under(run)):
        return StudyState(False, "made under other settings", changed, False)
    if changed := fingerprint_differences(record["published_under"], published_under(run)):
        return StudyState(False, f"to be brought up to date ({'; '.join(changed)})", [], False)
    damaged = [name for name, digest in record["outputs"].items() if not _is(run.paths.root / name, digest)]
    if damaged:
        return StudyState(False, f"to be written again ({damaged[0]} is missing or changed)", [], False)
    return StudyState(True, "complete and current", [], False)


def _read_or_none(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except PipelineError:
        return None
    return found if isinstance(found, dict) else None


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest
