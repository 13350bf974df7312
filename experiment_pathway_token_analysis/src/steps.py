"""What every step has in common: its manifest, which says what it read, made, and how it ended.

A step starts only where those before it passed and their files are, byte for byte, the ones they wrote; `--force`
overrules a step that did not pass, never a damaged file.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.config import Config
from common.errors import PipelineError, UsageError
from common.logging import get_logger
from common.profiles import DEFAULT_PROFILE, Profile
from common.runs.files import canonical_json, read_json, sha256_file, write_json
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import Settings

NAMES = ("data audit", "causal features", "prototype", "pathway discovery", "token association", "integration")
# What each step needs to have passed.
NEEDS: dict[int, tuple[int, ...]] = {0: (), 1: (0,), 2: (1,), 3: (0, 2), 4: (3,), 5: (4,)}
# The settings that change what each step finds; the seed and the model count everywhere.
USES: dict[int, tuple[str, ...]] = {
    0: ("study",),
    1: ("study", "selection"),
    2: ("study", "prototype", "memory_ceiling_gb"),
    3: ("study", "gradient", "replay", "memory_ceiling_gb"),
    4: ("study", "tokens"),
    5: ("study", "selection", "gradient", "replay", "tokens"),
}
PASSED, FAILED = "passed", "failed"
_MANIFEST_KEYS = ("status", "message", "settings", "profile", "model", "limit", "inputs", "outputs")
_log = get_logger(__name__)


@dataclass(frozen=True)
class Run:
    """One run of the analysis: its settings, model and places; `limit` takes only the first N features or targets."""

    config: Config
    profile: Profile
    settings: Settings
    paths: PathwayPaths
    limit: int | None = None
    force: bool = False
    strict: bool = False
    dry_run: bool = False

    @property
    def study_root(self) -> Path:
        """Where the patching study lies."""
        given = Path(self.settings.study.directory).expanduser()
        return given if given.is_absolute() else self.paths.root / given

    @property
    def selected_layers(self) -> range:
        """The layers whose features go on (step 1)."""
        last = self.settings.selection.last_layer
        return range(self.settings.selection.first_layer, (self.profile.n_layers - 1 if last is None else last) + 1)


class StepResult(NamedTuple):
    """How a step ended: files it read and wrote, and figures for the terminal; `passed` lets the next one start."""

    passed: bool
    message: str
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    exit_code: int = 0


def digest_of(*parts: Any) -> str:
    """Returns a short digest of settings, equal for equal values."""
    return hashlib.sha256(canonical_json(list(parts)).encode()).hexdigest()[:16]


def command(run: Run) -> str:
    """Returns the command that runs this analysis again."""
    words = ["python3", "run.py", "pathway"]
    if run.profile.name != DEFAULT_PROFILE:
        words += ["--profile", run.config.profile]
    if run.config.full:
        words.append("--full")
    if run.config.data_dir != run.profile.data_dir_of(full=run.config.full):
        words += ["--data-dir", run.config.data_dir]
    return shlex.join(words)


def write_manifest(run: Run, step: int, result: StepResult) -> None:
    """Records how a step ended."""
    write_json(
        run.paths.manifest(step),
        {
            "step": step,
            "name": NAMES[step],
            "status": PASSED if result.passed else FAILED,
            "message": result.message,
            "settings": run.settings.as_dict(),
            "profile": run.profile.name,
            "model": model_named(run),
            "limit": run.limit,
            "forced": run.force,
            "inputs": {_named(run, path): sha256_file(path) for path in result.inputs},
            "outputs": {_named(run, path): sha256_file(path) for path in result.outputs},
        },
    )


def read_manifest(run: Run, step: int) -> dict[str, Any] | None:
    """Returns a step's manifest, None where it has not run; raises `PipelineError` where the manifest is damaged."""
    path = run.paths.manifest(step)
    if not path.is_file():
        return None
    again = f"it is damaged; run: {command(run)} --from {step} --to {step}"
    try:
        found = read_json(path)
    except PipelineError:
        raise PipelineError(f"{path} is not what step {step} wrote: {again}") from None
    if not isinstance(found, dict) or any(name not in found for name in _MANIFEST_KEYS):
        raise PipelineError(f"{path} lacks what step {step} writes there: {again}")
    return found


def standing_manifest(run: Run, step: int) -> dict[str, Any] | None:
    """Returns a step's manifest; a damaged one counts as none, and the log says so: the step then runs again."""
    try:
        return read_manifest(run, step)
    except PipelineError as error:
        _tell_once(str(error))
        return None


@cache
def _tell_once(message: str) -> None:
    """Warns of what several questions about one file come upon."""
    _log.warning("%s", message)


def refuse_unready(run: Run, step: int) -> None:
    """Raises UsageError where a step that this one needs has not passed, or where its files are not what it wrote."""
    for needed in NEEDS[step]:
        again = f"{command(run)} --from {needed} --to {step}"
        manifest = read_manifest(run, needed)
        if manifest is None:
            raise UsageError(f"step {step} needs step {needed} ({NAMES[needed]}), which has not run; run: {again}")
        if manifest["status"] != PASSED and not run.force:
            raise UsageError(
                f"step {step} needs step {needed} ({NAMES[needed]}), which did not pass ({manifest['message']}); "
                f"mend that and run: {again}, or go on all the same with --force"
            )
        for name, digest in manifest["outputs"].items():
            refuse_changed(run.paths.root / name, digest, again)


def refuse_changed(path: Path, digest: str, again: str) -> None:
    """Raises PipelineError where a file is missing or is not the one that was written."""
    if not path.is_file():
        raise PipelineError(f"{path} is missing although its step names it; run: {again}")
    if sha256_file(path) != digest:
        raise PipelineError(f"{path} is not what its step wrote (its SHA-256 is another one); run: {again}")


def is_current(run: Run, step: int) -> bool:
    """Returns whether a step has passed on today's settings and files, so that it need not run again."""
    manifest = standing_manifest(run, step)
    if manifest is None:
        return False
    same = not changed_settings(run, step, manifest)
    files = {**manifest["inputs"], **manifest["outputs"]}
    whole = all(
        (run.paths.root / name).is_file() and sha256_file(run.paths.root / name) == files[name] for name in files
    )
    return manifest["status"] == PASSED and same and manifest["limit"] == run.limit and whole


def changed_inputs(run: Run, step: int) -> list[str]:
    """Returns the files that a step read and that are gone or others now."""
    manifest = standing_manifest(run, step)
    read = {} if manifest is None else manifest["inputs"]
    places = {name: run.paths.root / name for name in read}
    return [name for name, place in places.items() if not place.is_file() or sha256_file(place) != read[name]]


def changed_settings(run: Run, step: int, manifest: Mapping[str, Any]) -> list[str]:
    """Returns what a step's manifest was written under that is another now: sections of the settings, the model."""
    now, then = read_back(run.settings), manifest["settings"]
    changed = [name for name in (*USES[step], "seed") if now[name] != then[name]]
    changed += ["profile"] if manifest["profile"] != run.profile.name else []
    return [*changed, *(["model"] if manifest["model"] != model_named(run) else [])]


def model_named(run: Run) -> dict[str, Any]:
    """Returns which model a run computes with, as configured."""
    config = run.config
    return {"name": config.model_name, "revision": config.model_revision, "dtype": config.dtype}


def read_back(settings: Settings) -> Any:
    """Returns settings as they come back from JSON (tuples as lists)."""
    return json.loads(canonical_json(settings.as_dict()))


def _named(run: Run, path: Path) -> str:
    """A path below the pathway directory by its place in it, any other one in full."""
    return str(path.relative_to(run.paths.root)) if path.is_relative_to(run.paths.root) else str(path)
