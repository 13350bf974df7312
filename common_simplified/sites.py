"""Where in the model the residual stream is read and written: a block and a site in it.

`resid_pre` is the input of block L, `resid_mid` the stream between its attention and its MLP, `resid_post` its output,
in TransformerLens's words. The output of block L is read where the next module takes its input (block L+1, or the final
norm), which is the same tensor whether it is read or written; GemmaScope's residual SAE of layer L reads `resid_post`
of block L. In Hugging Face's `hidden_states` tuple that is entry L+1, except for the last block, whose entry is already
normalised.

`resid_mid` is read at the input of the MLP's norm, but the skip connection around the MLP branches off before that
norm: writing there would miss it. It is written on what attention adds to the stream, just before the addition.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from common.config import SITES
from common.errors import UsageError

Change = Callable[[torch.Tensor], torch.Tensor]
_HOOK_NAME = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_mid|resid_post)")


class HookPoint(NamedTuple):
    """A place in the residual stream; its text is TransformerLens's hook name."""

    layer: int
    site: str

    def __str__(self) -> str:
        return f"blocks.{self.layer}.hook_{self.site}"

    def shifted(self, blocks: int, n_layers: int) -> HookPoint | None:
        """Returns the same site `blocks` blocks later (earlier if negative), None where the model has none.

        The stream before block 0 counts as `resid_post` of a block before it, and the stream after the last block as
        `resid_pre` of a block after it.
        """
        layer = self.layer + blocks
        if 0 <= layer < n_layers:
            return HookPoint(layer, self.site)
        if self.site == "resid_post" and layer == -1:
            return HookPoint(0, "resid_pre")
        if self.site == "resid_pre" and layer == n_layers:
            return HookPoint(n_layers - 1, "resid_post")
        return None


def parse_hook_name(name: str) -> HookPoint:
    """Returns the point that a hook name such as `blocks.3.hook_resid_post` means."""
    match = _HOOK_NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"hook name {name!r} is not of the form blocks.N.hook_SITE with SITE in {', '.join(SITES)}")
    return HookPoint(int(match[1]), match[2])


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Returns the model's decoder blocks."""
    base = getattr(model, "model", None)
    layers = getattr(base, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UsageError(
            f"{type(model).__name__} has no model.layers; decoders of the Gemma-2 and Llama kind are known"
        )
    return layers


def reading_module(model: nn.Module, point: HookPoint) -> nn.Module:
    """Returns the module whose first input is the residual stream at `point`."""
    assert point.site in SITES, point
    block = _block(model, point)
    if point.site == "resid_pre":
        return block
    if point.site == "resid_mid":
        return _mlp_norm(block)
    layers = decoder_layers(model)
    if point.layer + 1 < len(layers):
        return layers[point.layer + 1]
    return model.model.norm  # type: ignore[union-attr, return-value]


def register_writer(model: nn.Module, point: HookPoint, change: Change) -> RemovableHandle:
    """Registers a hook through which the residual stream at `point` becomes `change` of it, and returns its handle.

    `change` takes and returns (batch, positions, d_model). At `resid_mid` it is given what attention adds to the
    stream, so there it must be an addition of something that does not depend on its argument.
    """
    if point.site == "resid_mid":
        return _attention_branch(_block(model, point)).register_forward_hook(_on_output(point, change))
    return reading_module(model, point).register_forward_pre_hook(_on_input(point, change), with_kwargs=True)


def _on_input(point: HookPoint, change: Change) -> Any:
    def write(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:  # noqa: ARG001
        if args:
            return (change(_stream(args[0], point)), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(_stream(kwargs["hidden_states"], point))}

    return write


def _on_output(point: HookPoint, change: Change) -> Any:
    def write(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:  # noqa: ARG001
        if isinstance(output, tuple):
            return (change(_stream(output[0], point)), *output[1:])
        return change(_stream(output, point))

    return write


def _stream(value: Any, point: HookPoint) -> torch.Tensor:
    assert isinstance(value, torch.Tensor) and value.ndim == 3, f"{point}: {type(value).__name__}"
    return value


def _block(model: nn.Module, point: HookPoint) -> nn.Module:
    layers = decoder_layers(model)
    if not 0 <= point.layer < len(layers):
        raise UsageError(f"layer {point.layer} does not exist: the model has layers 0 to {len(layers) - 1}")
    return layers[point.layer]


def _attention_branch(block: nn.Module) -> nn.Module:
    """Returns the module whose output is added to the stream after attention: Gemma-2 normalises it once more."""
    if _mlp_norm(block) is getattr(block, "post_attention_layernorm", None):
        return block.self_attn  # type: ignore[return-value]
    return block.post_attention_layernorm  # type: ignore[return-value]


def _mlp_norm(block: nn.Module) -> nn.Module:
    """Returns the norm in front of the block's MLP: its input is the stream after attention was added."""
    for name in ("pre_feedforward_layernorm", "post_attention_layernorm"):
        module = getattr(block, name, None)
        if isinstance(module, nn.Module):
            return module
    raise UsageError(f"{type(block).__name__} has no known norm in front of its MLP; use resid_pre or resid_post")
