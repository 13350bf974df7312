"""Reading phase 1.0's activations through the SAEs, one layer at a time, for the phases that rank features.

Costs one read of every activation file and one encoding a layer; one SAE is in memory at a time, its encoder only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from common.config import Config
from common.errors import UsageError
from common.profiles import Profile
from common.progress import Progress
from common.runs.artifacts import labelled_activation
from common.runs.discovery import PhaseOutput, run_command
from common.runs.files import read_json, verified_bytes
from common.runs.fit_gate import check_fit
from common.runs.publishing import ActivationReader
from common_simplified.capture_points import sae_identities
from common_simplified.sae_loader import load_encoder

ENCODE_ROWS = 256
LEAST_OF_A_CLASS = 2


class LabelledSplit(NamedTuple):
    """Phase 1.0's labelled problems: names of their activation files by layer, labels, and what the gate found."""

    task_ids: list[int]
    labels: np.ndarray
    layers: list[int]
    misfits: list[str]


class LayerActivations(NamedTuple):
    """One layer's SAE activations, float32 (problems, d_sae)."""

    layer: int
    activations: np.ndarray


def labelled_split(output: PhaseOutput, config: Config, profile: Profile, reader: str) -> LabelledSplit:
    """Checks that phase 1.0's output serves this configuration and its SAEs, and returns its labels.

    Raises `UsageError` where it was made with another model or other SAEs, where an SAE does not fit its site, or where
    there are problems of one class only.
    """
    record = output.record
    _refuse_other(output, config, profile, reader)
    dataset = output.table(record["dataset"])
    keep = [label is not None for label in dataset["test_passed"].to_pylist()]
    task_ids = [task for task, kept in zip(dataset["task_id"].to_pylist(), keep, strict=True) if kept]
    labels = np.array([label for label in dataset["test_passed"].to_pylist() if label is not None], dtype=bool)
    n_correct = int(labels.sum())
    if min(n_correct, len(labels) - n_correct) < LEAST_OF_A_CLASS:
        raise UsageError(
            f"phase {reader}: {n_correct} of {len(labels)} solutions pass; ranking needs {LEAST_OF_A_CLASS} or more of "
            "each class, so more problems"
        )
    path = output.use(output.paths.sae_fit.name)
    verified_bytes(path, output.entry(output.paths.sae_fit.name)["sha256"])
    misfits = check_fit(read_json(path), record["layers"], site_given=record["site_given"], reader=reader)
    return LabelledSplit(task_ids, labels, record["layers"], misfits)


def layer_activations(output: PhaseOutput, split: LabelledSplit, profile: Profile) -> Iterator[LayerActivations]:
    """Yields each layer's activations of every labelled problem, in the order of `split.task_ids`."""
    reader = ActivationReader(output)
    with Progress("encoding", len(split.layers), unit="layer") as progress:
        for layer in split.layers:
            encoder = load_encoder(profile, layer)
            width = int(profile.d_model)
            names = [
                labelled_activation(task_id, layer, bool(label))
                for task_id, label in zip(split.task_ids, split.labels, strict=True)
            ]
            vectors = torch.from_numpy(reader.matrix(names, width))
            parts = [encoder.encode(part).numpy() for part in vectors.split(ENCODE_ROWS)]
            progress.advance(1)
            yield LayerActivations(layer, np.concatenate(parts))


def _refuse_other(output: PhaseOutput, config: Config, profile: Profile, reader: str) -> None:
    made_with = output.record["model"]["name"]
    cure = f"run: {run_command(config, output.phase)} --fresh (or another --data-dir)"
    if made_with != config.model_name:
        raise UsageError(
            f"phase {reader}: {output.paths.root} was made with model {made_with}, not {config.model_name}; {cure}"
        )
    now = sae_identities(profile, output.record["layers"])
    for entry in output.record["saes"]:
        identity = now[entry["sae_layer"]]
        for name in ("release", "sae_id", "revision", "digest", "hook_name"):
            if entry[name] != getattr(identity, name):
                raise UsageError(
                    f"phase {reader}: {output.paths.root} was made for another SAE of layer {entry['sae_layer']}: its "
                    f"{name} is {entry[name]}, not {getattr(identity, name)}; {cure}"
                )


def dataset_figures(split: LabelledSplit) -> dict[str, Any]:
    """Returns the counts that stand beside every figure of a ranking."""
    return {
        "n_problems": len(split.labels),
        "n_correct": int(split.labels.sum()),
        "n_incorrect": int((~split.labels).sum()),
    }
