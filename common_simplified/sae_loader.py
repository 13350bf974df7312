"""Loads sparse autoencoders: whole ones as `sae_lens.SAE`, or only what encoding needs.

Three layouts are read: SAELens's own (`cfg.json`, `sae_weights.safetensors`), GemmaScope's `params.npz` (Lieberum et
al. 2024, arXiv 2408.05147) and LlamaScope's (He et al. 2024, arXiv 2410.20526), with JumpReLU, ReLU or top-k codes. The
files come through `common.hub`, so that the revision is pinned; SAELens then builds the object. Decoder norms are never
folded, but by a top-k SAE that says so. A 16k SAE of gemma-2-2b is 302 MB in float32 and loads in 1.2 s on one core,
its encoder alone in 0.5 s; the first use of SAELens adds its import, several seconds, which the encoder does without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from common.errors import UsageError
from common.hub import content_digest
from common.profiles import DEFAULT_PROFILE, Profile, SaeSource, load_profile
from common.sae_registry import neuronpedia_url
from common_simplified.sae_files import SaeFiles, open_sae_files
from common_simplified.sites import parse_hook_name

if TYPE_CHECKING:
    from sae_lens import SAE

__all__ = [
    "Encoder",
    "SaeIdentity",
    "decoder_norms",
    "decoder_row",
    "load_encoder",
    "load_gemma_scope_sae",
    "load_sae",
    "neuronpedia_url",
    "sae_identity",
]

# What GemmaScope's npz files do not say and SAELens's loader states for them.
_GEMMA_SCOPE_METADATA = {"prepend_bos": True, "context_size": 1024, "dataset_path": "monology/pile-uncopyrighted"}
_LLAMA_SCOPE_METADATA = {"prepend_bos": True, "context_size": 1024, "dataset_path": "cerebras/SlimPajama-627B"}


class SaeIdentity(NamedTuple):
    """Which SAE it is: `revision` is the hub's commit (None for a directory), `digest` the directory's content."""

    release: str
    sae_id: str
    revision: str | None
    digest: str | None
    hook_name: str
    site: str
    layer: int
    neuronpedia_id: str | None


@dataclass(frozen=True)
class Encoder:
    """The encoding half of an SAE, float32: W_enc (d_in, d_sae), b_enc (d_sae), threshold (d_sae) or None (ReLU).

    `b_dec` (d_in) is present only where it is subtracted from the input; `hook_name` names the residual stream; `k` is
    how many features a top-k SAE keeps (Gao et al. 2024, arXiv 2406.04093), None for any other.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    threshold: torch.Tensor | None
    b_dec: torch.Tensor | None
    hook_name: str
    k: int | None = None

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.W_enc.shape[1]

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the features' activations (..., d_sae) at residual vectors `x` (..., d_in), equal to SAELens's."""
        pre = self._centred(x) @ self.W_enc + self.b_enc
        return jump_relu(pre, self.threshold) if self.k is None else top_k(pre, self.k)

    @torch.no_grad()
    def encode_features(self, x: torch.Tensor, indices: list[int]) -> torch.Tensor:
        """Returns the activations (..., len(indices)) of some features; of a top-k SAE all are computed for it."""
        if self.k is not None:
            return self.encode(x)[..., indices]
        threshold = None if self.threshold is None else self.threshold[indices]
        return jump_relu(self._centred(x) @ self.W_enc[:, indices] + self.b_enc[indices], threshold)

    def to(self, device: str | torch.device) -> Encoder:
        """Returns the same encoder on another device."""
        moved = {
            name: value.to(device)
            for name in ("W_enc", "b_enc", "threshold", "b_dec")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def _centred(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(torch.float32)
        return x if self.b_dec is None else x - self.b_dec


def jump_relu(pre: torch.Tensor, threshold: torch.Tensor | None) -> torch.Tensor:
    """Returns ReLU of `pre`, zero also where `pre` does not exceed `threshold` (Rajamanoharan et al. 2024, eq. 3)."""
    acts = torch.relu(pre)
    return acts if threshold is None else acts * (pre > threshold).to(acts.dtype)


def top_k(pre: torch.Tensor, k: int) -> torch.Tensor:
    """Returns ReLU of the `k` largest of `pre` along its last dimension, and zero elsewhere."""
    values, indices = torch.topk(pre, k=min(k, pre.shape[-1]), dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter_(-1, indices, values.relu())


def load_sae(profile: Profile | SaeSource, layer: int, device: str | torch.device = "cpu") -> SAE:
    """Loads the SAE of `layer` whole, as SAELens's object: float32, decoder norms as stored, without gradients.

    Raises UsageError, before weights are read, where it is missing, damaged or of another shape than the profile says.
    """
    files = _open(profile, layer)
    from sae_lens import SAE

    def converter(path: str | Path, device: str = "cpu", cfg_overrides: Any = None) -> tuple[dict[str, Any], Any]:
        del path
        return {**_sae_lens_cfg(files), "device": device, **(cfg_overrides or {})}, _state(files)

    chosen: dict[str, Any] = {} if files.location.layout == "sae_lens" else {"converter": converter}
    try:
        sae = SAE.load_from_disk(files.folder, device=str(device), dtype="float32", **chosen)
    except (RuntimeError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{files.label} cannot be loaded by SAELens: {reason}") from None
    return sae.eval().requires_grad_(False)


def load_encoder(profile: Profile | SaeSource, layer: int, device: str | torch.device = "cpu") -> Encoder:
    """Loads only what encoding needs, half the bytes, without importing SAELens."""
    files = _open(profile, layer)
    jumprelu, centred = files.config.architecture == "jumprelu", files.config.apply_b_dec_to_input
    encoder = Encoder(
        W_enc=files.array("W_enc"),
        b_enc=files.array("b_enc"),
        threshold=files.array("threshold") if jumprelu else None,
        b_dec=files.array("b_dec") if centred else None,
        hook_name=files.config.hook_name,
        k=files.config.k,
    )
    return encoder.to(device)


def load_gemma_scope_sae(layer: int, device: str | torch.device = "cpu") -> SAE:
    """Loads GemmaScope's canonical 16k residual SAE of a layer of gemma-2-2b."""
    return load_sae(load_profile(DEFAULT_PROFILE), layer, device)


def decoder_row(profile: Profile | SaeSource, layer: int, index: int) -> torch.Tensor:
    """Returns one feature's decoder vector `W_dec[index]`, shape (d_in,), float32, reading only that row."""
    return _open(profile, layer).decoder_row(index)


def decoder_norms(profile: Profile | SaeSource, layer: int) -> np.ndarray:
    """Returns the Euclidean norm of every feature's decoder vector, float64 (d_sae,)."""
    return _open(profile, layer).array("W_dec").double().norm(dim=1).numpy()


def sae_identity(profile: Profile | SaeSource, layer: int) -> SaeIdentity:
    """Returns which SAE a layer has; of a local one, its whole file is read for the digest."""
    source = profile if isinstance(profile, SaeSource) else profile.sae
    files = _open(profile, layer)
    point = parse_hook_name(files.config.hook_name)
    return SaeIdentity(
        release=source.release,
        sae_id=files.location.sae_id,
        revision=files.revision,
        digest=content_digest(files.folder) if files.location.local else None,
        hook_name=files.config.hook_name,
        site=point.site,
        layer=point.layer,
        neuronpedia_id=files.location.neuronpedia_id,
    )


def _open(profile: Profile | SaeSource, layer: int) -> SaeFiles:
    if isinstance(profile, SaeSource):
        return open_sae_files(profile, layer)
    return open_sae_files(profile.sae, layer, profile.d_model)


def _sae_lens_cfg(files: SaeFiles) -> dict[str, Any]:
    stated = _LLAMA_SCOPE_METADATA if files.location.layout == "llama_scope" else _GEMMA_SCOPE_METADATA
    return {
        "architecture": files.config.architecture,
        **({} if files.config.k is None else {"k": files.config.k}),
        "d_in": files.d_in,
        "d_sae": files.d_sae,
        "apply_b_dec_to_input": files.config.apply_b_dec_to_input,
        "normalize_activations": "none",
        "hook_name": files.config.hook_name,
        "model_name": files.config.model_name,
        "neuronpedia_id": files.location.neuronpedia_id,
        **stated,
    }


def _state(files: SaeFiles) -> dict[str, torch.Tensor]:
    return {name: files.array(name) for name in _array_names(files)}


def _array_names(files: SaeFiles) -> list[str]:
    return ["W_enc", "b_enc", "W_dec", "b_dec", *(["threshold"] if files.config.architecture == "jumprelu" else [])]
