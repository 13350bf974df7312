"""Loads a causal language model and its tokenizer, from the hub's cache or a directory, ready for inference.

What can be known before the weights are read is checked first: the files, the device, the memory. Gemma-2 runs with
eager attention, since the other implementations of transformers drop or need not apply its soft-capping.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from common.capacity import available_ram
from common.errors import UsageError, suggest
from common.hub import MODEL_PATTERNS, MODEL_REQUIRED, Snapshot, content_digest, resolve_repo
from common.model_facts import read_config, read_model_facts, read_weight_facts

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EAGER_MODEL_TYPES = ("gemma2", "gemma3", "gemma3_text")
WORKING_ROOM = 1.1


class LoadedModel(NamedTuple):
    """A model in evaluation mode without gradients, its left-padding tokenizer, and where they came from.

    `revision` is the hub's commit (None for a directory), `digest` the directory's content (None for the hub).
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None
    digest: str | None
    device: torch.device
    dtype: torch.dtype


class TokenizedPrompts(NamedTuple):
    """Left-padded prompts: `input_ids` and `attention_mask`, both (prompts, tokens), int64, on the CPU."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def load_model_and_tokenizer(
    name: str,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    revision: str | None = None,
) -> LoadedModel:
    """Loads model and tokenizer `name`, a hub name or a local directory.

    `device` defaults to CUDA, Apple's MPS or the CPU, whichever is found first; `dtype` to bfloat16 on CUDA that
    supports it and float32 elsewhere. Raises UsageError, before weights are read, where files are missing or damaged,
    the device does not exist or the memory does not suffice.
    """
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    snapshot = resolve_repo(name, revision, patterns=MODEL_PATTERNS, required=MODEL_REQUIRED)
    read_model_facts(snapshot.path)
    require_memory(name, read_weight_facts(snapshot.path).n_parameters, place, kind)
    tokenizer = load_tokenizer(snapshot)
    model = _load_weights(snapshot, kind).to(place)
    model.eval().requires_grad_(False)
    digest = content_digest(snapshot.path) if snapshot.local else None
    return LoadedModel(model, tokenizer, snapshot.name, snapshot.revision, digest, place, kind)


def load_tokenizer(snapshot: Snapshot) -> Any:
    """Loads a tokenizer that pads on the left, has a padding token, and begins each text with exactly one BOS."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(snapshot.path), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"the tokenizer of {snapshot.name} cannot be loaded: {reason}") from None
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UsageError(f"the tokenizer of {snapshot.name} has neither a padding nor an end token; add one to it")
        tokenizer.pad_token = tokenizer.eos_token
    _begin_with_one_bos(tokenizer, snapshot.name)
    return tokenizer


def chat_template(tokenizer: Any) -> Callable[[str], str] | None:
    """Returns a function that wraps one user turn in the tokenizer's chat template, or None where it has none.

    The result carries no BOS of its own, since tokenizing adds it.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None

    def wrap(text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return _without_bos(tokenizer, tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    return wrap


def tokenize_prompts(tokenizer: Any, prompts: Sequence[str], limit: int | None = None) -> TokenizedPrompts:
    """Tokenizes prompts, padded on the left, each with exactly one BOS even where its text already begins with one.

    A prompt of more than `limit` tokens is cut at its end.
    """
    texts = [_without_bos(tokenizer, prompt) for prompt in prompts]
    cut = {} if limit is None else {"truncation": True, "max_length": limit, "truncation_side": "right"}
    encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", **cut)
    return TokenizedPrompts(encoded["input_ids"], encoded["attention_mask"])


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """Returns `device`, or the best one there is; raises UsageError, listing what exists, where it does not exist."""
    existing = _existing_devices()
    if device is None:
        return torch.device(existing[0])
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device {str(device)!r} is unknown (here: {', '.join(existing)})") from None
    name = f"cuda:{place.index or 0}" if place.type == "cuda" else place.type
    if name not in existing:
        raise UsageError(f"device {device} does not exist here (here: {', '.join(existing)})")
    return torch.device(name)


def resolve_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """Returns `dtype` as torch's; by default bfloat16 on CUDA that computes in it, float32 elsewhere."""
    if dtype is None:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown (known: {', '.join(DTYPES)}){suggest(dtype, DTYPES)}")
    return DTYPES[dtype]


def require_memory(name: str, n_parameters: int, device: torch.device, dtype: torch.dtype) -> None:
    """Raises UsageError where `n_parameters` in `dtype`, with a tenth to work in, exceed the memory that is free."""
    needed = int(n_parameters * dtype.itemsize * WORKING_ROOM)
    places = [("RAM", available_ram())]
    if device.type == "cuda":
        places.append((f"memory of {device}", torch.cuda.mem_get_info(device)[0]))
    for place, free in places:
        if free is not None and needed > free:
            raise UsageError(
                f"model {name} needs {needed / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, but only "
                f"{free / 1e9:.1f} GB of {place} are free; use a smaller dtype, another device or a smaller model"
            )


def _existing_devices() -> list[str]:
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*names, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _load_weights(snapshot: Snapshot, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()

    attention = "eager" if read_config(snapshot.path).get("model_type") in EAGER_MODEL_TYPES else None
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(snapshot.path),
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"model {snapshot.name} cannot be loaded: {reason}") from None
    model, report = loaded
    lacking = sorted(str(key) for field in ("missing_keys", "mismatched_keys") for key in report[field])
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise UsageError(f"the weights of {snapshot.name} do not fit its config.json: {', '.join(lacking[:3])}{more}")
    return model


def _begin_with_one_bos(tokenizer: Any, name: str) -> None:
    if tokenizer.bos_token is None:
        return
    count = tokenizer("a")["input_ids"].count(tokenizer.bos_token_id)
    if count == 0:
        from tokenizers.processors import TemplateProcessing

        bos = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
        count = tokenizer("a")["input_ids"].count(tokenizer.bos_token_id)
    if count != 1:
        raise UsageError(
            f"the tokenizer of {name} begins a text with {count} BOS tokens, expected 1; correct its files"
        )


def _without_bos(tokenizer: Any, text: str) -> str:
    while tokenizer.bos_token and text.startswith(tokenizer.bos_token):
        text = text.removeprefix(tokenizer.bos_token)
    return text
