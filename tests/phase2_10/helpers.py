"""A published phase 1.0 of random vectors and labels, with the profile whose SAEs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from common.config import Config, resolve_config
from common.profiles import Profile, load_profile
from common.runs.artifacts import FEATURE_FREQUENCIES, PhasePaths, frequency_array, labelled_activation
from common.runs.files import npz_bytes, write_bytes, write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, write_record
from common.runs.publishing import write_activations
from common_simplified.capture_points import describe_saes, sae_identities
from common_simplified.sae_loader import load_sae
from tests.cli.helpers import PROFILE
from tests.common.runs.helpers import generated
from tests.common_simplified.fixtures import D_MODEL, N_LAYERS, WIDTH, write_sae_lens

N = 40
LAYERS = list(range(N_LAYERS))
MODEL = {"name": "tiny", "role": "base", "revision": None, "digest": "d", "dtype": "float32", "device_type": "cpu"}
POINTS = {str(layer): f"blocks.{layer}.hook_resid_post" for layer in LAYERS}


class Built(NamedTuple):
    """A configuration with its profile, the labels of a published phase 1.0, and its vectors by layer."""

    config: Config
    profile: Profile
    labels: np.ndarray
    vectors: dict[int, np.ndarray]

    def activations(self, layer: int) -> np.ndarray:
        """Returns what SAELens says of the layer's vectors, float64 (problems, features)."""
        sae = load_sae(self.profile, layer)
        with torch.no_grad():
            return sae.encode(torch.from_numpy(self.vectors[layer])).double().numpy()


def build(root: Path, **settings: Any) -> Built:
    """Writes SAEs and a profile of them under `root`, and publishes phase 1.0; the first vectors carry the label."""
    write_sae_lens(root / "saes")
    (root / "tiny.toml").write_text(PROFILE.format(root=root), encoding="utf-8")
    chosen = {"profile": str(root / "tiny.toml"), "model_name": "tiny", "data_dir": str(root / "data"), **settings}
    config = resolve_config(chosen, environment={}).config
    profile = load_profile(config.profile)
    rng = np.random.default_rng(5)
    labels = np.arange(N) % 5 < 2
    vectors = {layer: rng.standard_normal((N, D_MODEL)).astype(np.float32) for layer in LAYERS}
    vectors[1] += np.where(labels, 0.5, -0.5)[:, None].astype(np.float32)
    publish_phase_1_0(config, profile, labels, vectors)
    return Built(config, profile, labels, vectors)


def publish_phase_1_0(config: Config, profile: Profile, labels: np.ndarray, vectors: dict[int, np.ndarray]) -> None:
    """Publishes labelled vectors, the way phase 1.0 does, with one excluded problem besides."""
    paths = PhasePaths(config.phase_dir("1.0"))
    table = generated(range(len(labels)), vectors)
    tree = write_activations(
        paths, table, labels.tolist(), lambda row, layer: labelled_activation(row["task_id"], layer, row["passed"])
    )
    task_ids = [*table["task_id"].to_pylist(), 999]
    dataset = pa.table({"task_id": task_ids, "test_passed": pa.array([*labels.tolist(), None], pa.bool_())})
    fit = {
        "layers": [
            {"layer": x, "hook_name": POINTS[str(x)], "fraction_unexplained": 0.1, "neighbours": []} for x in LAYERS
        ]
    }
    outputs = [
        OutputFile("dataset.parquet", write_parquet(paths.root / "dataset.parquet", dataset), dataset.num_rows),
        OutputFile(paths.sae_fit.name, write_json(paths.sae_fit, fit)),
        tree.index,
    ]
    details = {
        "dataset": "dataset.parquet",
        "model": MODEL,
        "layers": LAYERS,
        "saes": describe_saes(sae_identities(profile, LAYERS)),
        "points": POINTS,
        "site_given": False,
    }
    write_record(
        paths,
        phase="1.0",
        config=config,
        extent=Extent(len(task_ids), len(task_ids), 1),
        inputs=[],
        outputs=outputs,
        wall_seconds={},
        details=details,
    )


def publish_frequencies(built: Built, frequencies: dict[int, np.ndarray], n_texts: int = 200, **details: Any) -> None:
    """Publishes `frequencies` as phase 2.2's output; `details` overrule what its record says."""
    paths = PhasePaths(built.config.phase_dir("2.2"))
    data = npz_bytes(**{frequency_array(layer): shares for layer, shares in frequencies.items()})
    output = OutputFile(FEATURE_FREQUENCIES, write_bytes(paths.root / FEATURE_FREQUENCIES, data))
    said = {
        "model": MODEL,
        "layers": LAYERS,
        "saes": describe_saes(sae_identities(built.profile, LAYERS)),
        "points": POINTS,
        "n_texts": n_texts,
        **details,
    }
    write_record(
        paths,
        phase="2.2",
        config=built.config,
        extent=Extent(n_texts, n_texts),
        inputs=[],
        outputs=[output],
        wall_seconds={},
        details=said,
    )


def rare() -> dict[int, np.ndarray]:
    """Returns frequencies of which none reaches two percent."""
    return {layer: np.zeros(WIDTH) for layer in LAYERS}
