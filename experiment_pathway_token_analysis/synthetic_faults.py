"""Faults to plant in a synthetic patching study, each named after the finding that the audit must make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.runs.files import write_bytes
from experiment_pathway_token_analysis.src.settings import Study


class Files(NamedTuple):
    """The files of a study that faults go into: the first log, and all checkpoints of the first run, oldest first."""

    study: Study
    log: Path
    checkpoints: Sequence[Path]


def plant(root: Path, study: Study, fault: str) -> str:
    """Plants a fault of FAULTS in the study below `root`, and says which file was changed."""
    checkpoints = sorted(root.glob(study.checkpoints))
    run = checkpoints[0].stem[: -len("_YYYYMMDD_HHMMSS")]
    files = Files(study, sorted(root.glob(study.response_logs))[0], [one for one in checkpoints if run in one.stem])
    return f"{fault}: {FAULTS[fault](files)}"


def _in_record(change: Callable[[dict[str, Any]], object], where: str = "log") -> Callable[[Files], Path]:
    """Returns a fault that changes the second trial, or the second result of the newest checkpoint."""

    def planted(files: Files) -> Path:
        path = files.log if where == "log" else files.checkpoints[-1]
        content = json.loads(path.read_text(encoding="utf-8"))
        change((content if where == "log" else content["results"])[1])
        return _write(path, json.dumps(content))

    return planted


def _in_every_checkpoint(change: Callable[[dict[str, Any]], object]) -> Callable[[Files], Path]:
    def planted(files: Files) -> Path:
        for path in files.checkpoints:
            content = json.loads(path.read_text(encoding="utf-8"))
            change(content["results"][0])
            _write(path, json.dumps(content))
        return files.checkpoints[-1]

    return planted


def _cut_off(files: Files) -> Path:
    data = files.log.read_bytes()
    return _write(files.log, data[: len(data) * 2 // 3])


def _not_utf8(files: Files) -> Path:
    data = files.log.read_bytes()
    place = data.index(b'"response": "', len(data) // 2) + len(b'"response": "')
    return _write(files.log, data[:place] + b"\xff" + data[place + 1 :])


def _malformed(files: Files) -> Path:
    text = files.log.read_text(encoding="utf-8")
    return _write(files.log, text.replace('"trial": ', '"trial" ', 1))


def _copied(path_of: Callable[[Files], Path]) -> Callable[[Files], Path]:
    def planted(files: Files) -> Path:
        path = path_of(files)
        copy = path.with_name(f"{path.stem}_copy{path.suffix}")
        shutil.copyfile(path, copy)
        return copy

    return planted


def _conflicting_trials(files: Files) -> Path:
    content = json.loads(files.log.read_text(encoding="utf-8"))
    return _write(files.log, json.dumps([*content, {**content[0], "response": "something else"}]))


def _low_trials(files: Files) -> Path:
    content = json.loads(files.log.read_text(encoding="utf-8"))
    first = (content[0]["feature"], content[0]["condition"])
    return _write(files.log, json.dumps([one for one in content if (one["feature"], one["condition"]) != first]))


def _moved(record: dict[str, Any], feature_id: int) -> None:
    record.update(feature=f"L{record['layer']}-{feature_id}", feature_id=feature_id)


def _negative(record: dict[str, Any]) -> None:
    mean = next(name for name in record if name.startswith("mean_"))
    record[mean] = -0.5


def _write(path: Path, content: str | bytes) -> Path:
    write_bytes(path, content if isinstance(content, bytes) else content.encode("utf-8"), durable=False)
    return path


FAULTS: dict[str, Callable[[Files], Path]] = {
    "missing_field": _in_record(lambda trial: trial.pop("trial")),
    "wrong_type": _in_record(lambda trial: trial.update(trial="one")),
    "unknown_condition": _in_record(lambda trial: trial.update(condition=trial["condition"].replace("_", "-"))),
    "empty_response": _in_record(lambda trial: trial.update(response="")),
    "bad_feature": _in_record(lambda trial: trial.update(feature="layer 3, 17")),
    "cut_off_json": _cut_off,
    "malformed_json": _malformed,
    "not_utf8": _not_utf8,
    "wrong_shape": lambda files: _write(files.log, '{"trials": []}'),
    "duplicate_checkpoint": _copied(lambda files: files.checkpoints[-1]),
    "duplicate_log": _copied(lambda files: files.log),
    "conflicting_records": _in_record(lambda result: result.update(cohen_d=9.0), "checkpoint"),
    "conflicting_trials": _conflicting_trials,
    "low_trials": _low_trials,
    "feature_mismatch": _in_record(lambda result: result.update(layer=result["layer"] + 1), "checkpoint"),
    "id_outside_dictionary": _in_record(lambda result: _moved(result, 10**8), "checkpoint"),
    "negative_means": _in_every_checkpoint(_negative),
    "non_finite_cohen_d": _in_every_checkpoint(lambda result: result.update(cohen_d=float("nan"))),
}
