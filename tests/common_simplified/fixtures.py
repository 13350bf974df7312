"""Tiny models, SAEs and data sets in the forms in which the hub delivers them, for tests without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from common.profiles import DatasetSource, Profile, SaeSource

D_MODEL = 16
N_LAYERS = 3
WIDTH = 24
SHA = "0123456789abcdef0123456789abcdef01234567"
CHAT_TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>"
PARTS = ("train", "test", "validation", "prompt")
L0_BY_LAYER = {0: (13, 105), 1: (20, 102, 40), 2: (141, 24)}


def write_tokenizer(path: Path, *, adds_bos: bool = True, chat: bool = True, pad: bool = True) -> Path:
    """Saves a byte-level tokenizer of 256 bytes and four special tokens, with or without a BOS post-processor."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate([*specials, *letters])}, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if adds_bos:
        backend.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    named = {"pad_token": "<pad>"} if pad else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", **named
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(str(path))
    return path


def write_model(path: Path, *, seed: int = 0, n_layers: int = N_LAYERS, tokenizer: bool = True, **sizes: Any) -> Path:
    """Saves a random Gemma-2 (float32, 260 tokens) with its tokenizer."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    chosen = {
        "vocab_size": 260,
        "hidden_size": D_MODEL,
        "intermediate_size": 32,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "sliding_window": 128,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    torch.manual_seed(seed)
    Gemma2ForCausalLM(Gemma2Config(**{**chosen, **sizes})).save_pretrained(str(path))
    return write_tokenizer(path) if tokenizer else path


def sae_arrays(seed: int, d_model: int = D_MODEL, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Returns random arrays of a JumpReLU SAE under SAELens's names; decoder rows are not of unit norm."""
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (d_model, width), "W_dec": (width, d_model), "b_enc": (width,), "b_dec": (d_model,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["threshold"] = np.maximum(rng.standard_normal(width), 0).astype(np.float32)
    return arrays


def write_gemma_scope(root: Path, *, n_layers: int = N_LAYERS, compressed: bool = False) -> Path:
    """Writes SAEs as GemmaScope lays them out: layer_N/width_16k/average_l0_L/params.npz, several L a layer."""
    save = np.savez_compressed if compressed else np.savez
    for layer in range(n_layers):
        for l0 in L0_BY_LAYER[layer]:
            folder = root / f"layer_{layer}" / "width_16k" / f"average_l0_{l0}"
            folder.mkdir(parents=True)
            save(folder / "params.npz", **sae_arrays(1000 * layer + l0))
    return root


def write_sae_lens(root: Path, *, n_layers: int = N_LAYERS, apply_b_dec: bool = False, **changes: Any) -> Path:
    """Writes SAEs as SAELens saves them: layer_N/cfg.json and sae_weights.safetensors; `changes` go into cfg.json."""
    from safetensors.numpy import save_file

    for layer in range(n_layers):
        folder = root / f"layer_{layer}"
        folder.mkdir(parents=True)
        arrays = sae_arrays(layer)
        metadata = {"sae_lens_version": "6.0.0", "hook_name": f"blocks.{layer}.hook_resid_post", "model_name": "tiny"}
        cfg = {
            "architecture": "jumprelu",
            "d_in": arrays["W_enc"].shape[0],
            "d_sae": arrays["W_enc"].shape[1],
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": apply_b_dec,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": metadata,
        }
        if changes.get("architecture") in ("standard", "topk"):
            del arrays["threshold"]
        (folder / "cfg.json").write_text(json.dumps({**cfg, **changes}))
        save_file(arrays, folder / "sae_weights.safetensors")
    return root


def write_llama_scope(root: Path, *, n_layers: int = 1, activation_norm: float = 2.5, **changes: Any) -> Path:
    """Writes SAEs as LlamaScope lays them out: Llama3_1-8B-Base-LNR-8x/hyperparams.json and final.safetensors.

    `changes` go into hyperparams.json.
    """
    from safetensors.numpy import save_file

    for layer in range(n_layers):
        folder = root / f"Llama3_1-8B-Base-L{layer}R-8x"
        (folder / "checkpoints").mkdir(parents=True)
        arrays = sae_arrays(layer)
        stored = {
            "encoder.weight": np.ascontiguousarray(arrays["W_enc"].T),
            "encoder.bias": arrays["b_enc"],
            "decoder.weight": np.ascontiguousarray(arrays["W_dec"].T),
            "decoder.bias": arrays["b_dec"],
        }
        save_file(stored, folder / "checkpoints" / "final.safetensors")
        hyperparams = {
            "d_model": arrays["W_enc"].shape[0],
            "d_sae": arrays["W_enc"].shape[1],
            "jump_relu_threshold": 0.4,
            "dataset_average_activation_norm": {"in": activation_norm, "out": activation_norm},
            "hook_point_in": f"blocks.{layer}.hook_resid_post",
        }
        (folder / "hyperparams.json").write_text(json.dumps({**hyperparams, **changes}))
    return root


def mbpp_rows(n: int = 8) -> list[dict[str, Any]]:
    """Returns problems in MBPP's columns, written for these tests, with its tabs and carriage returns."""
    return [
        {
            "task_id": number,
            "text": f"Write a function that adds {number} to a number.",
            "code": f"def add_{number}(x):\r\n\treturn x + {number}",
            "test_list": [f"assert add_{number}({x}) == {x + number}" for x in range(3)],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for number in range(1, n + 1)
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_mbpp_parquet(root: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    """Writes rows in the hub's schema, dealt to its four parts in `full/`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    kinds = {"task_id": pa.int32(), "test_list": texts, "challenge_test_list": texts}
    names = ("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list")
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    rows = mbpp_rows() if rows is None else rows
    (root / "full").mkdir(parents=True)
    for number, part in enumerate(PARTS):
        table = pa.Table.from_pylist(rows[number :: len(PARTS)], schema=schema)
        pq.write_table(table, root / "full" / f"{part}-00000-of-00001.parquet")
    return root


def mbpp_files() -> tuple[str, ...]:
    """Returns the names of the hub's four parts."""
    return tuple(f"full/{part}-00000-of-00001.parquet" for part in PARTS)


def add_to_hub_cache(
    cache: Path, name: str, source: Path, *, sha: str = SHA, repo_type: str = "model", ref: str = "main"
) -> Path:
    """Lays the files of `source` into a hub cache as a download would, and returns the snapshot's path."""
    repo = cache / f"{repo_type}s--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / sha
    blobs = repo / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        target = snapshot / item.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / f"blob{number}"
        shutil.copyfile(item, blob)
        target.symlink_to(blob)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / ref).write_text(sha)
    return snapshot


def use_hub_cache(monkeypatch: Any, cache: Path, *, offline: bool = True) -> Path:
    """Makes `cache` the hub's cache in this process."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    return cache


def tiny_profile(root: Path, **changes: Any) -> Profile:
    """Writes model, GemmaScope SAEs and MBPP under `root` and returns a profile of them as local directories."""
    write_model(root / "model")
    write_gemma_scope(root / "saes")
    write_mbpp_parquet(root / "mbpp")
    fields: dict[str, Any] = {
        "name": "tiny",
        "model": str(root / "model"),
        "model_local": True,
        "n_layers": N_LAYERS,
        "d_model": D_MODEL,
        "sae": gemma_scope_source(str(root / "saes")),
        "dataset": DatasetSource(str(root / "mbpp"), local=True),
        "corpus": DatasetSource(str(root / "mbpp"), local=True),
        "data_dir": str(root / "data"),
    }
    return Profile(**{**fields, **changes})


def gemma_scope_source(release: str, **changes: Any) -> SaeSource:
    """Returns a source of local SAEs in GemmaScope's layout."""
    fields: dict[str, Any] = {
        "release": release,
        "id_pattern": "layer_{layer}/width_16k/canonical",
        "format": "gemma_scope",
        "site": "resid_post",
        "width": WIDTH,
        "local": True,
    }
    return SaeSource(**{**fields, **changes})


def sae_lens_source(release: str, **changes: Any) -> SaeSource:
    """Returns a source of local SAEs in SAELens's layout."""
    return gemma_scope_source(release, **{"id_pattern": "layer_{layer}", "format": "sae_lens", **changes})


def every_source(tmp_path: Path) -> dict[str, SaeSource]:
    """Writes SAEs of every kind that loads, and returns where each lies."""
    lens, scope = sae_lens_source, gemma_scope_source
    llama = {"id_pattern": "Llama3_1-8B-Base-L{layer}R-8x", "format": "llama_scope"}
    return {
        "jumprelu": lens(str(write_sae_lens(tmp_path / "a"))),
        "jumprelu, b_dec subtracted": lens(str(write_sae_lens(tmp_path / "b", apply_b_dec=True))),
        "standard": lens(str(write_sae_lens(tmp_path / "c", architecture="standard", apply_b_dec=True))),
        "gemma_scope": scope(str(write_gemma_scope(tmp_path / "d"))),
        "gemma_scope, compressed": scope(str(write_gemma_scope(tmp_path / "e", compressed=True))),
        "llama_scope": scope(str(write_llama_scope(tmp_path / "f")), **llama),
        "topk": lens(str(write_sae_lens(tmp_path / "g", architecture="topk", k=5))),
        "topk, b_dec subtracted": lens(str(write_sae_lens(tmp_path / "h", architecture="topk", k=5, apply_b_dec=True))),
        "llama_scope, topk": scope(str(write_llama_scope(tmp_path / "i", act_fn="topk", top_k=5)), **llama),
    }
