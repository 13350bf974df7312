"""What stands of the pathway analysis in a data directory: its state in one line, and what `clean_data.py` may delete.

Only manifests, records and names are looked at, nothing heavy is imported. What a user put there stays: a patching
study made elsewhere, prompts that the producer did not write, files of unknown names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from common.config import Config
from common.errors import PipelineError
from common.runs.artifacts import PhasePaths
from common.runs.cleaning import Deletable, bytes_of, walked
from common.runs.files import TEMPORARY_PREFIX, read_json, sha256_file
from experiment_pathway_token_analysis.src.paths import PathwayPaths, pathway_root

STEPS = range(6)
NOT_RUN, PASSED = "not run", "passed"
_WHOLLY_OURS = ("locks", "logs", "producer")  # below the pathway directory; the next, below step 3's
_STEP_3 = ("segments", "slices", "locks", "logs", "superseded")
_INTEGRATED = ("integrated.json", "summary.md")
_TABLES_AND_PLOTS = (".csv", ".png", ".svg")


class Analysis(NamedTuple):
    """How lists of phases call the analysis."""

    id: str = "pathway"
    name: str = "pathway and token analysis"


def state_line(config: Config) -> str:
    """Returns the state of the analysis in one line, laid out as a phase's."""
    state, why = _state(PathwayPaths(pathway_root(config)))
    return f"{'':<5} {'pathway and token analysis':<28} {state:<18} {why}".rstrip()


def _state(paths: PathwayPaths) -> tuple[str, str]:
    found = [_step_state(paths, step) for step in STEPS]
    passed = sum(state == PASSED for state in found)
    lacking = next((step for step in STEPS if found[step] != PASSED), None)
    if lacking is None:
        return "complete", "steps 0 to 5"
    note = _note(paths)
    if not passed and found[0] == NOT_RUN and not note and not (paths.producer / "features").is_dir():
        return "missing", ""
    why = f"step {lacking}: {found[lacking]}" + (f"; {note}" if note else "")
    return f"partial {passed}/{len(STEPS)}", f"{why}; run.py pathway"


def _step_state(paths: PathwayPaths, step: int) -> str:
    if not paths.manifest(step).is_file():
        return NOT_RUN
    manifest = _read(paths.manifest(step))
    if "status" not in manifest:
        return "its manifest is damaged"
    return PASSED if manifest["status"] == PASSED else f"did not pass ({manifest.get('message')})"


def _note(paths: PathwayPaths) -> str:
    partial = _read(PhasePaths(paths.pathways).partial)
    return f"{partial['done']} of {partial['expected']} targets" if {"done", "expected"} <= partial.keys() else ""


def find_pathway_deletable(config: Config, *, superseded_only: bool = False) -> list[Deletable]:
    """Returns what can be deleted of the analysis, as one entry; nothing where no run of it shows."""
    root = pathway_root(config)
    if not _is_ours(root):
        return []
    ours, staying = _sorted_out(PathwayPaths(root))
    superseded = [path for path in ours if PhasePaths(root).superseded.name in path.relative_to(root).parts]
    files = superseded if superseded_only else ours
    state, _ = _state(PathwayPaths(root))
    found = Deletable(Analysis(), root, state, files, bytes_of(files), bytes_of(superseded), staying)
    return [found] if files else []


def strange_pathway(config: Config) -> list[Path]:
    """Returns the directory where it has the name of the analysis's and nothing shows that it ran there."""
    root = pathway_root(config)
    return [root] if os.path.lexists(root) and not _is_ours(root) else []


def _is_ours(root: Path) -> bool:
    paths = PathwayPaths(root)
    shown = [*map(paths.manifest, STEPS), paths.logs / "pathway.log", paths.producer / "study.json"]
    return not root.is_symlink() and any(path.is_file() and not path.is_symlink() for path in shown)


def _sorted_out(paths: PathwayPaths) -> tuple[list[Path], list[Path]]:
    made = _made_by_producer(paths)
    ours: list[Path] = []
    staying: list[Path] = []
    for path in walked(paths.root):
        is_known = path in made or _has_known_name(paths, path)
        (ours if is_known and not path.is_symlink() else staying).append(path)
    return ours, staying


def _made_by_producer(paths: PathwayPaths) -> set[Path]:
    """Returns the study's files that the producer wrote, and its prompts where they are still the ones it wrote."""
    recorded: dict[str, str] = _read(paths.producer / "study.json").get("outputs", {})
    names = [*recorded, *_read(paths.producer / "written.json").get("files", ())]
    made = {paths.root / name for name in names} - {paths.prompts}
    prompts = recorded.get(str(paths.prompts.relative_to(paths.root)))
    is_its = prompts is not None and paths.prompts.is_file() and sha256_file(paths.prompts) == prompts
    return made | {paths.prompts} if is_its else made


def _has_known_name(paths: PathwayPaths, path: Path) -> bool:
    parts = path.relative_to(paths.root).parts
    if parts[0] in _WHOLLY_OURS or any(part.startswith(TEMPORARY_PREFIX) for part in parts):
        return True
    if path.is_relative_to(paths.pathways) and path.relative_to(paths.pathways).parts[0] in _STEP_3:
        return True
    if path.parent == paths.integrated:
        return path.name in _INTEGRATED or path.suffix in _TABLES_AND_PLOTS
    return path in {
        *map(paths.manifest, STEPS),
        *(paths.causal_features, paths.audit, paths.features, paths.trials, paths.audit_timings, paths.prototype),
        *(paths.validated, PhasePaths(paths.pathways).partial, paths.tokens, paths.token_effects, paths.token_timings),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except PipelineError:
        return {}
    return found if isinstance(found, dict) else {}
