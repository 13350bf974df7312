"""What the pathway analysis left in a data directory, read through the manifests of its steps.

A manifest names the files that its step read and wrote, with their hashes; a file that is not the one it names is
refused, and a step that was made from other files than those that now stand is said to be out of date.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import Config
from common.errors import PipelineError
from common.runs.discovery import command_line
from common.runs.files import read_json, verified_bytes

DIRECTORY = "pathway"
STEPS = ("data audit", "causal features", "prototype", "pathway discovery", "token association", "integration")
LAST = len(STEPS) - 1
PASSED = "passed"
_KEYS = {"status", "message", "limit", "forced", "inputs", "outputs"}


@dataclass(frozen=True)
class PathwayResults:
    """The steps that have run: their manifests by number, in the directory `root`."""

    root: Path
    manifests: Mapping[int, Mapping[str, Any]]
    command: str

    @property
    def whole(self) -> bool:
        """Whether every step has passed."""
        return all(self.manifests.get(step, {}).get("status") == PASSED for step in range(len(STEPS)))

    def unfinished(self) -> str:
        """Returns in a sentence how far the analysis came."""
        step = next(step for step in range(len(STEPS)) if self.manifests.get(step, {}).get("status") != PASSED)
        manifest = self.manifests.get(step)
        how = "has not been run" if manifest is None else f"did not pass ({manifest['message']})"
        return f"The pathway analysis is unfinished: step {step} of {LAST} ({STEPS[step]}) {how}."

    def doubts(self) -> list[str]:
        """Returns what a reader must know before trusting the results: cut short, forced, made from other files."""
        found = []
        for step, manifest in sorted(self.manifests.items()):
            if manifest["limit"] is not None:
                found.append(f"step {step} took only the first {manifest['limit']} (--limit)")
            if manifest["forced"]:
                found.append(f"step {step} was run with --force")
            if self._is_outdated(step):
                found.append(f"step {step} was made from files that have changed since")
        return found

    def json(self, name: str) -> Any:
        """Returns the JSON file that some step wrote under `name`."""
        return json.loads(self.text(name))

    def rows(self, name: str) -> list[dict[str, str]]:
        """Returns the rows of a CSV file, every cell as text."""
        return list(csv.DictReader(io.StringIO(self.text(name))))

    def text(self, name: str) -> str:
        """Returns a text file that some step wrote, its bytes checked against the manifest."""
        for manifest in self.manifests.values():
            for path, sha256 in manifest["outputs"].items():
                if Path(path).name == name:
                    return verified_bytes(self.root / path, sha256).decode("utf-8")
        raise PipelineError(f"{self.root}: no step of the pathway analysis names {name}; run: {self.command} --from 0")

    def _is_outdated(self, step: int) -> bool:
        made = {path: sha for before in range(step) for path, sha in self._outputs(before).items()}
        return any(made.get(path, sha) != sha for path, sha in self.manifests[step]["inputs"].items())

    def _outputs(self, step: int) -> Mapping[str, str]:
        return self.manifests[step]["outputs"] if step in self.manifests else {}


def pathway_results(config: Config) -> PathwayResults | None:
    """Returns what stands of the analysis in the data directory; None where no step has been run."""
    root, command = Path(config.data_dir) / DIRECTORY, command_line(config, "pathway")
    manifests = {}
    for step in range(len(STEPS)):
        path = root / "steps" / f"step_{step}.json"
        if path.is_file():
            manifests[step] = _manifest(path, f"{command} --from {step}")
    return PathwayResults(root, manifests, command) if manifests else None


def _manifest(path: Path, cure: str) -> Mapping[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        raise PipelineError(f"{path} is damaged: it is not the manifest of a step; run: {cure}")
    return found
