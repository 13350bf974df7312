"""A tiny random Llama with planted edges between the features of planted SAEs, and prompts of two classes.

The stream has an orthonormal basis q_0 … q_31. Feature k of every SAE is the part of the stream along q_k where that is
positive, feature 32 + k where it is negative. q_0 is large and constant, so that the norms hardly move. A neuron of an
MLP reads one direction (up) and q_0 (gate), and writes another direction (down): its effect is known from its weights.
All other weights are small noise.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.config import Config
from common.profiles import DatasetSource, Profile, SaeSource
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.steps import Run
from tests.common_simplified.fixtures import write_tokenizer

D, N_LAYERS, CONSTANT, NOISE = 32, 4, 60.0, 0.1
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRST, SECOND = LETTERS[:13], LETTERS[13:]
SMALL = (
    *("replay.min_prompts=20", "replay.controls_per_layer_pair=80", "replay.bootstrap_draws=500"),
    *("replay.sign_flips=2000", "gradient.top_sources=8", "memory_ceiling_gb=16"),
)


class Planted(NamedTuple):
    """An edge: in block `block` a neuron reads q_`source` and writes `size` along q_`target`."""

    block: int
    source: int
    target: int
    size: float

    @property
    def strength(self) -> float:
        """Change of the target a unit of the source: size × silu(gate) / rms, the gate and rms being q_0's alone."""
        rms = CONSTANT / math.sqrt(D)
        gate = CONSTANT / rms
        return self.size * gate / (1 + math.exp(-gate)) / rms


# 1 → 9 → 10 is a chain without another way; 2 reaches 11 directly, and 12 adds only a little of it.
EDGES = (
    Planted(1, 1, 9, 1.8),
    Planted(2, 9, 10, -1.5),
    Planted(1, 2, 12, 0.9),
    Planted(2, 2, 11, 2.1),
    Planted(2, 12, 11, 0.6),
)
TARGETS = ((1, 9), (1, 12), (2, 10), (2, 11), (3, 9), (3, 10))


def basis() -> np.ndarray:
    """Returns q_0 … q_31 as rows."""
    return np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))[0].astype(np.float32)


def coordinates() -> dict[str, np.ndarray]:
    """Returns each letter's coordinates: features 1 and 2 tell its class, 9 to 12 are on, the others are noise."""
    draws = np.random.default_rng(4)
    found = {}
    for letter in LETTERS:
        x = draws.normal(0, 0.6, D)
        x[0], x[9:13], x[10] = CONSTANT, 3.0, 6.0
        x[1:3] = draws.uniform(1.5, 2.5, 2) if letter in FIRST else draws.uniform(0.3, 1.3, 2)
        found[letter] = x
    return found


def write_planted_model(path: Path) -> Path:
    """Saves the model with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": D, "intermediate_size": 16, "num_hidden_layers": N_LAYERS, "num_attention_heads": 2}
    more = {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": 260, "max_position_embeddings": 128}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes, **more, **ends, tie_word_embeddings=False))
    q = torch.from_numpy(basis())
    write_tokenizer(path)
    with torch.no_grad():
        for block in model.model.layers:
            for name, weight in block.named_parameters():
                if "norm" not in name:
                    weight.normal_(0, NOISE)
        for neuron, edge in enumerate(EDGES):
            mlp = model.model.layers[edge.block].mlp
            mlp.up_proj.weight[neuron] = q[edge.source]
            mlp.gate_proj.weight[neuron] = q[0]
            mlp.down_proj.weight[:, neuron] = edge.size * q[edge.target]
        vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
        for letter, x in coordinates().items():
            model.model.embed_tokens.weight[vocabulary[letter]] = torch.from_numpy(x).float() @ q
    model.save_pretrained(str(path))
    return path


def write_planted_saes(root: Path, **changes: Any) -> Path:
    """Writes SAEs of the basis in LlamaScope's layout; `changes` go into hyperparams.json (JumpReLU by default)."""
    from safetensors.numpy import save_file

    q = basis()
    both = np.ascontiguousarray(np.concatenate([q, -q]))
    for layer in range(N_LAYERS):
        folder = root / f"L{layer}R"
        (folder / "checkpoints").mkdir(parents=True)
        arrays = {"encoder.weight": both, "encoder.bias": np.zeros(2 * D, np.float32)}
        arrays |= {"decoder.weight": np.ascontiguousarray(both.T), "decoder.bias": np.zeros(D, np.float32)}
        save_file(arrays, folder / "checkpoints" / "final.safetensors")
        stated = {
            **{"d_model": D, "d_sae": 2 * D, "jump_relu_threshold": 0.01},
            "dataset_average_activation_norm": {"in": math.sqrt(D), "out": math.sqrt(D)},
            "hook_point_in": f"blocks.{layer}.hook_resid_post",
        }
        (folder / "hyperparams.json").write_text(json.dumps({**stated, **changes}))
    return root


def planted_run(root: Path, *given: str, **sae: Any) -> Run:
    """Writes model, SAEs, targets and prompts under `root`, and returns a run of them."""
    write_planted_model(root / "model")
    write_planted_saes(root / "saes", **sae)
    profile = Profile(
        name="planted",
        model=str(root / "model"),
        model_local=True,
        n_layers=N_LAYERS,
        d_model=D,
        sae=SaeSource(str(root / "saes"), "L{layer}R", "llama_scope", "resid_post", 2 * D, local=True),
        dataset=DatasetSource("none", local=True),
        corpus=DatasetSource("none", local=True),
    )
    config = Config(profile="planted", model_name=str(root / "model"), device="cpu")
    run = Run(config, profile, load_settings("organism", [*SMALL, *given]), PathwayPaths(root / "data" / "pathway"))
    write_targets(run)
    write_prompts(run)
    return run


def write_targets(run: Run, targets: tuple[tuple[int, int], ...] = TARGETS) -> None:
    """Writes step 1's file."""
    features = [
        {"feature": f"L{layer}-{index}", "layer": layer, "feature_id": index, "cohen_d": 1.0, "class": "correct"}
        for layer, index in targets
    ]
    _write(run.paths.causal_features, {"metadata": {}, "features": features})


def write_prompts(run: Run, *, shuffled: int | None = None, per_class: int = 40) -> None:
    """Writes prompts that end in a letter of their class; with `shuffled`, classes are dealt anew by that seed."""
    draws = np.random.default_rng(5)
    classes = ["correct"] * per_class + ["incorrect"] * per_class
    ends = [str(draws.choice(list(FIRST if name == "correct" else SECOND))) for name in classes]
    begins = ["".join(draws.choice(list(LETTERS), 6)) for _ in classes]
    splits = [("select", "validate")[number % 2] for number in range(2 * per_class)]
    if shuffled is not None:
        classes = [classes[row] for row in np.random.default_rng(shuffled).permutation(len(classes))]
    prompts = [
        {"id": f"p{number}", "class": name, "prompt": begin + end, "split": split, "task_id": None}
        for number, (name, begin, end, split) in enumerate(zip(classes, begins, ends, splits, strict=True))
    ]
    _write(run.paths.prompts, {"schema_version": 1, "prompts": prompts})


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
