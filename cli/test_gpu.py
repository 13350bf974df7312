"""`run.py test-gpu`: what there is to compute on, and whether it generates."""

from __future__ import annotations

import argparse
import time

from cli.console import say
from cli.parser import resolved_config
from common.profiles import BUNDLED_PROFILE, load_profile, resolve_local


def test_gpu(parsed: argparse.Namespace) -> int:
    """Prints devices, memory and number formats, then generates a few tokens with the bundled tiny model."""
    import torch

    from common_simplified.model_loader import resolve_device, resolve_dtype

    config = resolved_config(parsed).config
    device = resolve_device(None if config.device == "auto" else config.device)
    dtype = resolve_dtype(None if config.dtype == "auto" else config.dtype, device)
    say(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        say(f"{device}: {torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
        say(f"bfloat16: {'yes' if torch.cuda.is_bf16_supported(including_emulation=False) else 'no'}")
    else:
        say(f"{device}: no CUDA device is used")
    _generate(device, dtype)
    return 0


def _generate(device: object, dtype: object) -> None:
    from common_simplified.captured_decoding import cuda_graph
    from common_simplified.generation import GenerationEngine, Request
    from common_simplified.model_loader import load_model_and_tokenizer

    path = resolve_local(load_profile(BUNDLED_PROFILE).model)
    loaded = load_model_and_tokenizer(str(path), device, dtype)  # type: ignore[arg-type]
    request = Request("# Solution:", lambda text: False)  # noqa: ARG005
    captures = {"eager": None, **({"graphs": cuda_graph} if loaded.device.type == "cuda" else {})}
    for decoding, capture in captures.items():
        started = time.monotonic()
        result = GenerationEngine(loaded, max_new_tokens=16, capture=capture).generate([request])
        words = f"{len(result.rows[0].tokens)} tokens of the tiny model in {time.monotonic() - started:.2f} s"
        say(f"generated {words} ({dtype}, {decoding} decoding): works")
