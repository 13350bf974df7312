"""Models to steer, and TransformerLens's own of the same weights, shared by the tests of steering."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.profiles import load_profile, resolve_local
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer, tokenize_prompts
from common_simplified.sites import HookPoint
from tests.common_simplified.fixtures import write_tokenizer

SITES = ("resid_pre", "resid_mid", "resid_post")
MODELS = ("gemma2", "llama", "bundled")
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


@cache
def tiny_llama() -> LoadedModel:
    """A random Llama of three layers whose logits differ enough to write varied text."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(str(write_tokenizer(Path(folder))))
    tokenizer.padding_side = "left"
    return LoadedModel(model, tokenizer, "tiny-llama", None, None, torch.device("cpu"), torch.float32)


@cache
def bundled() -> LoadedModel:
    """The tiny Gemma-2 that the repository ships."""
    return load_model_and_tokenizer(str(resolve_local(load_profile("organism").model)), device="cpu")


def model_named(name: str, gemma2: LoadedModel) -> LoadedModel:
    """Returns one of `MODELS`."""
    return {"gemma2": lambda: gemma2, "llama": tiny_llama, "bundled": bundled}[name]()


def hooked_transformer(loaded: LoadedModel) -> Any:
    """Returns TransformerLens's own model with the same weights, not processed in any way.

    Its `hook_resid_mid` lies before both the MLP and the skip connection around it, as its bridge's does not.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gemma_weights, convert_llama_weights

    config = loaded.model.config
    gemma = config.model_type == "gemma2"
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes: dict[str, Any] = {
        "d_model": config.hidden_size,
        "d_head": d_head,
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": 512,
        "eps": config.rms_norm_eps,
        "d_vocab": config.vocab_size,
        "act_fn": "gelu_pytorch_tanh" if gemma else "silu",
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_base": config.rope_parameters["rope_theta"],
        "rotary_dim": d_head,
        "rotary_adjacent_pairs": False,
        "gated_mlp": True,
        "final_rms": True,
        "device": "cpu",
    }
    if gemma:
        sizes |= {
            "use_attn_scale": True,
            "attn_scale": math.sqrt(config.query_pre_attn_scalar),
            "attn_scores_soft_cap": config.attn_logit_softcapping,
            "output_logits_soft_cap": config.final_logit_softcapping,
            "use_normalization_before_and_after": True,
            "use_local_attn": True,
            "window_size": config.sliding_window,
            "attn_types": ["local" if kind == "sliding_attention" else "global" for kind in config.layer_types],
        }
    lens = HookedTransformer(HookedTransformerConfig(**sizes))
    convert = convert_gemma_weights if gemma else convert_llama_weights
    state = convert(loaded.model, lens.cfg)
    lens.load_and_process_state_dict(
        {name: value.clone() for name, value in state.items()},
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return lens.eval().requires_grad_(False)


def lens_logits(lens: Any, ids: torch.Tensor, point: HookPoint | None = None, added: Any = None) -> torch.Tensor:
    """Returns TransformerLens's logits, with `added` on every position at `point`."""
    hooks = [] if point is None else [(str(point), lambda stream, hook: stream + added)]
    with torch.no_grad():
        return lens.run_with_hooks(ids, fwd_hooks=hooks, prepend_bos=False)


def every_point(loaded: LoadedModel) -> list[HookPoint]:
    """Returns every layer and site of a model."""
    return [HookPoint(layer, site) for layer in range(loaded.model.config.num_hidden_layers) for site in SITES]


def direction(loaded: LoadedModel, seed: int = 0) -> torch.Tensor:
    """Returns a random direction, of norm about the square root of d_model."""
    return torch.randn(loaded.model.config.hidden_size, generator=torch.Generator().manual_seed(seed))


def batch(loaded: LoadedModel, prompts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Returns the arguments of a forward pass of left-padded prompts."""
    ids, mask = tokenize_prompts(loaded.tokenizer, prompts)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def logits(loaded: LoadedModel, prompts: tuple[str, ...]) -> torch.Tensor:
    """Returns logits of every position."""
    with torch.no_grad():
        return loaded.model(**batch(loaded, prompts)).logits


def n_hooks(model: nn.Module) -> int:
    """Returns how many hooks stand in a model."""
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in model.modules())
