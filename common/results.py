"""Results for notebooks: what phases published, as pandas tables, without changing anything.

    from common.results import list_phases, load_phase

    list_phases("data/organism")
    solutions = load_phase("3.5", data_dir="data/organism").solutions()

Nothing is read until it is asked for, and every file's SHA-256 is held against its record before it is used. A name may
leave out the time stamp and the suffix: `.table("dataset_sae")`. pandas is imported inside, so importing this is quick.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.config import Config
from common.errors import PipelineError, UsageError, suggest
from common.phases import get_phase, phase_ids
from common.runs.artifacts import (
    ACTIVATION_INDEX,
    COEFFICIENT_RESULTS,
    EVALUATION_RESULTS,
    STEERING_RESULTS,
    TOP_FEATURES,
    PhasePaths,
)
from common.runs.discovery import PhaseOutput, unfinished
from common.runs.files import read_json, read_npz, verified_bytes
from common.runs.metadata import read_record
from common.runs.status import COMPLETE, MISSING, PARTIAL, UNREADABLE, PhaseState, all_states

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PATHWAY = "pathway"
_PATHWAY_STEPS = 6
_TABLES, _JSON, _ARRAYS = (".parquet", ".csv"), (".json",), (".npz",)
_STAMP = re.compile(r"_\d{8}_\d{6}")
_ACTIVATION = re.compile(r"(?:^|[/_])(\d+)_layer_(\d+)\.npz$")
_NAMES_SHOWN = 8


class Activations(NamedTuple):
    """The residual stream of one layer at the last prompt token: `vectors` float32 (n, d_model), a row a task id."""

    task_ids: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class PhaseResults:
    """What one phase published under `root`; nothing is read before a method or a property is used."""

    phase: str
    root: Path

    @cached_property
    def output(self) -> PhaseOutput:
        """The phase's output as the pipeline itself reads it (pyarrow tables, hashes checked)."""
        with reading(self.root):
            record = _pathway_record(self.root) if self.phase == PATHWAY else read_record(PhasePaths(self.root))
        if record is None:
            raise UsageError(f"{PhasePaths(self.root).metadata} is missing; run phase {self.phase} again")
        if record["phase"] != self.phase:
            raise UsageError(f"{self.root} holds the output of phase {record['phase']}, not of phase {self.phase}")
        return PhaseOutput(self.phase, PhasePaths(self.root), record)

    @property
    def metadata(self) -> dict[str, Any]:
        """The phase's record: code, command, settings, model, SAEs, inputs and outputs with hashes."""
        return deepcopy(dict(self.output.record))

    @property
    def complete(self) -> bool:
        """Whether the output covers its split."""
        return self.output.complete

    @property
    def files(self) -> list[str]:
        """The names of the files that the record vouches for."""
        return self.output.names()

    def table(self, name: str) -> pd.DataFrame:
        """Returns a table; booleans and whole numbers are nullable, lists are lists."""
        from common.result_frames import csv_frame, frame_of

        found = self._named(name, _TABLES)
        if found.endswith(".csv"):
            return csv_frame(verified_bytes(self.root / found, self.output.entry(found)["sha256"]), self.root / found)
        return frame_of(self.output.table(found))

    def json(self, name: str) -> Any:
        """Returns what a JSON file holds."""
        return self.output.json(self._named(name, _JSON))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Returns every array of an npz file, by name; activation files are found through their index."""
        hashes = {f"activations/{path}": sha256 for path, sha256 in self._activation_hashes().items()}
        hashes |= {entry["path"]: entry["sha256"] for entry in self.output.record["outputs"]}
        found = self._named(name, _ARRAYS, hashes)
        return read_npz(self.root / found, sha256=hashes[found])

    def solutions(self) -> pd.DataFrame:
        """Returns every generated solution with its problem, its verdict and, under steering, its condition.

        The data sets of all temperatures follow each other; `test_passed` is null where a problem was excluded.
        """
        names = list(dict.fromkeys(self.output.record.get("datasets", {}).values()))
        if not names:
            raise self._lacks("solutions", "1.0, 3.5, 3.6, 4.5, 4.8, 7.3 and 7.6 generate them")
        import pyarrow as pa

        from common.result_frames import frame_of

        return frame_of(pa.concat_tables([self.output.table(name) for name in names]))

    def features(self) -> pd.DataFrame:
        """Returns the best features of both directions with their rank from 1 (phases 2.5 and 2.10)."""
        if TOP_FEATURES not in self.files:
            raise self._lacks("ranked features", "2.5 and 2.10 rank them")
        from common.result_frames import feature_frame

        return feature_frame(self.output.json(TOP_FEATURES))

    def detection(self) -> pd.DataFrame:
        """Returns how well both predictors, and their rivals, detect (phase 3.8): a row a score and group of rows."""
        if EVALUATION_RESULTS not in self.files:
            raise self._lacks("detection figures", "3.8 makes them")
        from common.result_frames import detection_frame

        return detection_frame(self.output.json(EVALUATION_RESULTS))

    def conditions(self) -> pd.DataFrame:
        """Returns what each way of steering did, on the problems that enter its rates (phases 4.5, 4.8, 7.6)."""
        from common.result_frames import condition_frame

        for name in (STEERING_RESULTS, COEFFICIENT_RESULTS):
            if name in self.files:
                return condition_frame(self.output.table(name))
        raise self._lacks("steering conditions", "4.5, 4.8 and 7.6 steer")

    def activations(self, layer: int) -> Activations:
        """Returns the captured vectors of one layer, in order of task id."""
        import numpy as np

        hashes = self._activation_hashes()
        places = {path: match for path in hashes if (match := _ACTIVATION.search(path))}
        wanted = sorted((int(match[1]), path) for path, match in places.items() if int(match[2]) == layer)
        if not wanted:
            layers = sorted({int(match[2]) for match in places.values()})
            captured = f"layers {', '.join(map(str, layers))} are there" if layers else "no layer is"
            raise self._lacks(f"activations of layer {layer}", captured)
        root = PhasePaths(self.root).activations
        vectors = [read_npz(root / path, sha256=hashes[path])["arr_0"] for _, path in wanted]
        return Activations(np.array([task_id for task_id, _ in wanted], dtype=np.int64), np.concatenate(vectors))

    def _activation_hashes(self) -> dict[str, str]:
        if ACTIVATION_INDEX not in self.files:
            return {}
        index = self.output.table(ACTIVATION_INDEX)
        return dict(zip(index["path"].to_pylist(), index["sha256"].to_pylist(), strict=True))

    def _named(self, name: str, suffixes: tuple[str, ...], among: Iterable[str] | None = None) -> str:
        """Returns the one recorded file that `name` means, the time stamp and the suffix left out or not."""
        known = [one for one in (self.files if among is None else among) if one.endswith(suffixes)]
        if name in known:
            return name
        found = [one for one in known if name in _short_forms(one)]
        if len(found) == 1:
            return found[0]
        what = f"{'several files' if found else 'no file'} {name!r} ({' or '.join(suffixes)})"
        near = "" if found else suggest(name, sorted({form for one in known for form in _short_forms(one)}))
        raise UsageError(f"phase {self.phase} in {self.root} has {what}; it has {_listed(found or known)}{near}")

    def _lacks(self, what: str, who: str) -> UsageError:
        return UsageError(f"phase {self.phase} in {self.root} has no {what}; {who}")


def load_phase(phase: str, data_dir: str | Path = "data", *, directory: str | Path | None = None) -> PhaseResults:
    """Returns what `phase` published under `data_dir`; `"pathway"` is the pathway and token analysis.

    `directory` is the phase's own directory where it is not the usual one: `phase2_5/by_split/validation`,
    `phase3_5/superseded/0001`. Raises `UsageError` where the phase is unknown or has published nothing.
    """
    if not isinstance(phase, str):
        raise UsageError(f"load_phase({phase!r}): phase ids are text, since 2.10 is not 2.1; put it in quotes")
    wanted = PATHWAY if phase == PATHWAY else get_phase(phase).id
    root = Path(data_dir) if directory is None else Path(directory)
    refuse_no_directory(root)
    place = phase_root(Config(data_dir=str(root)), wanted) if directory is None else root
    if not _is_published(place, wanted):
        raise UsageError(_unpublished(wanted, place, root))
    return PhaseResults(wanted, place)


def list_phases(data_dir: str | Path = "data") -> pd.DataFrame:
    """Returns one row a phase, and one for the pathway analysis: its state, how far it is, model and code."""
    import pandas as pd

    root = Path(data_dir)
    refuse_no_directory(root)
    config = Config(data_dir=str(root))
    with reading(root):
        rows = [_phase_row(config, state) for state in all_states(config)]
        rows.append(_pathway_row(config))
    return pd.DataFrame(rows).astype({"done": "Int64", "expected": "Int64"})


def published_phases(config: Config) -> list[PhaseResults]:
    """Returns every phase that has published something under a configuration, the pathway analysis last."""
    places = [(phase, phase_root(config, phase)) for phase in (*phase_ids(), PATHWAY)]
    return [PhaseResults(phase, place) for phase, place in places if _is_published(place, phase)]


def phase_root(config: Config, phase: str) -> Path:
    """Returns the directory of a phase, or of the pathway analysis."""
    return Path(config.data_dir) / PATHWAY if phase == PATHWAY else config.phase_dir(phase)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an operating-system error while looking at `path` into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise PipelineError(f"{where} cannot be read: {error.strerror or error}; check its permissions") from None


def refuse_no_directory(path: Path) -> None:
    """Raises `UsageError` where `path` is no directory, naming the nearest one beside it."""
    with reading(path):
        if path.is_dir():
            return
        beside = [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
    what = "is no directory" if os.path.lexists(path) else "does not exist"
    near = suggest(path.name, beside) or "; give the directory that holds the phases' directories"
    raise UsageError(f"{path} {what}{near}")


def _is_published(place: Path, phase: str) -> bool:
    with reading(place):
        return any(_manifests(place)) if phase == PATHWAY else PhasePaths(place).metadata.is_file()


def _manifests(root: Path) -> list[Path]:
    places = [root / "steps" / f"step_{step}.json" for step in range(_PATHWAY_STEPS)]
    return [path for path in places if path.is_file()]


def _pathway_record(root: Path) -> dict[str, Any]:
    """What the manifests of the analysis's steps say, in the words of a phase's record."""
    steps = [_manifest(path) for path in _manifests(root)]
    passed = [step for step in steps if step["status"] == "passed"]
    outputs = {path: sha256 for step in passed for path, sha256 in step["outputs"].items()}
    return {
        "phase": PATHWAY,
        "complete": len(passed) == _PATHWAY_STEPS,
        "done": len(passed),
        "expected": _PATHWAY_STEPS,
        "record_id": None,
        "model": steps[0].get("model") if steps else None,
        "steps": steps,
        "outputs": [{"path": path, "sha256": sha256, "rows": None} for path, sha256 in sorted(outputs.items())],
    }


def _manifest(path: Path) -> dict[str, Any]:
    step = read_json(path)
    if not isinstance(step, dict) or not {"status", "outputs"} <= step.keys():
        raise PipelineError(f"{path} is damaged: it is no manifest of a step; run: python3 run.py pathway")
    return step


def _phase_row(config: Config, state: PhaseState) -> dict[str, Any]:
    record: dict[str, Any] = {}
    with suppress(PipelineError):  # the state says so
        record = read_record(PhasePaths(phase_root(config, state.spec.id))) or {}
    return {
        "phase": state.spec.id,
        "name": state.spec.name,
        "state": state.state,
        "done": record.get("done", state.done),
        "expected": record.get("expected", state.expected),
        "created": record.get("created"),
        "model": (record.get("model") or {}).get("name"),
        "commit": record.get("commit"),
        "why": None if state.state == COMPLETE else state.why or None,
    }


def _pathway_row(config: Config) -> dict[str, Any]:
    row: dict[str, Any] = {"phase": PATHWAY, "name": "pathway and token analysis"}
    nothing = dict.fromkeys(("done", "expected", "created", "model", "commit", "why"))
    try:
        record = _pathway_record(phase_root(config, PATHWAY))
    except PipelineError as error:
        return {**row, "state": UNREADABLE, **nothing, "why": str(error)}
    state = COMPLETE if record["complete"] else PARTIAL if record["steps"] else MISSING
    model = (record["model"] or {}).get("name")
    return {**row, "state": state, **nothing, "done": record["done"], "expected": record["expected"], "model": model}


def _unpublished(phase: str, place: Path, root: Path) -> str:
    with reading(place):
        so_far = None if phase == PATHWAY else unfinished(PhasePaths(place))
    there = [one.phase for one in published_phases(Config(data_dir=str(root)))] if place != root else []
    words = f"phase {phase} has published nothing in {place}" + (f" ({so_far})" if so_far else "")
    others = f"; published in {root}: {', '.join(there)}" if there else "; no phase is published there"
    return f"{words}{others}; see: python3 run.py status --data-dir {root}"


def _short_forms(name: str) -> set[str]:
    """The names that stand for a file: without its time stamp, without its suffix, without its directory."""
    plain = _STAMP.sub("", name)
    full = {name, plain, plain.rpartition("/")[2], name.rpartition("/")[2]}
    return full | {one.rpartition(".")[0] for one in full}


def _listed(names: list[str]) -> str:
    if not names:
        return "none of this kind"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
