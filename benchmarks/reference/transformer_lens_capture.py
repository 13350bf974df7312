"""Generating and capturing with TransformerLens (Nanda & Bloom 2022), one prompt at a time, a reference of row P4."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.reference.captured import Captured, stand_in_tokenizer
from benchmarks.workloads import TINY_MODEL, Workload


def prepared(work: Workload, n_tokens: int) -> Callable[[str], Captured]:
    """Returns a function that generates `n_tokens` for a prompt; a hook a block keeps the prefill's last position."""
    bridge, tokenizer = _bridge(work), work.loaded.tokenizer
    names = [str(point) for point in work.points]

    def capture(prompt: str) -> Captured:
        ids = tokenizer([prompt], return_tensors="pt")["input_ids"]
        kept: dict[str, torch.Tensor] = {}

        def keep(stream: torch.Tensor, hook: Any, name: str) -> None:  # noqa: ARG001
            kept.setdefault(name, stream[0, -1].clone())

        hooks = [(name, partial(keep, name=name)) for name in names]  # a hook's own name is another one of it
        with torch.no_grad(), bridge.hooks(fwd_hooks=hooks):
            made = bridge.generate(
                ids, n_tokens, stop_at_eos=False, do_sample=False, return_type="tokens", verbose=False
            )
        return Captured(tuple(made[0, ids.shape[1] :].tolist()), [kept[name].tolist() for name in names])

    return capture


def _bridge(work: Workload) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    model = copy.deepcopy(work.loaded.model)  # the bridge changes the modules that it wraps
    given = {"hf_model": model, "tokenizer": stand_in_tokenizer(work.loaded.tokenizer)}
    return TransformerBridge.boot_transformers(str(TINY_MODEL), device="cpu", dtype=torch.float32, **given)
