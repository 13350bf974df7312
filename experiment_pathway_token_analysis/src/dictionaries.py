"""One SAE in memory at a time: its encoder, its decoder, and the reading of one feature that a prediction needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from common.profiles import Profile
from common_simplified.sae_files import open_sae_files
from common_simplified.sae_loader import Encoder, load_encoder


@dataclass(frozen=True)
class Reading:
    """One feature's pre-activation w·(x − b_dec) + b, as float64 (d_model,) and a number, and where it fires.

    `threshold` is the pre-activation above which it fires; None for a top-k SAE, where the other features decide.
    """

    weight: torch.Tensor
    bias: float
    threshold: float | None

    def pre(self, stream: torch.Tensor) -> torch.Tensor:
        """Returns the pre-activation (rows,) at stream vectors (rows, d_model), float64; differentiable."""
        return stream.double() @ self.weight + self.bias

    def activation(self, pre: torch.Tensor) -> torch.Tensor:
        """Returns the activation of a JumpReLU or ReLU feature from its pre-activation."""
        assert self.threshold is not None, "a top-k feature's activation needs the whole encoder"
        return torch.relu(pre) * (pre > self.threshold)


class Dictionaries:
    """Gives the SAE of a layer, on a device; asking for another one drops the one before."""

    def __init__(self, profile: Profile, device: torch.device) -> None:
        self.profile, self.device = profile, device
        self._encoder: tuple[int, Encoder] | None = None
        self._decoder: tuple[int, torch.Tensor] | None = None

    def encoder(self, layer: int) -> Encoder:
        """Returns the encoder of a layer."""
        if self._encoder is None or self._encoder[0] != layer:
            self._drop_others(layer)
            self._encoder = (layer, load_encoder(self.profile, layer, self.device))
        return self._encoder[1]

    def decoder(self, layer: int) -> torch.Tensor:
        """Returns W_dec of a layer, float32 (d_sae, d_model)."""
        if self._decoder is None or self._decoder[0] != layer:
            self._drop_others(layer)
            files = open_sae_files(self.profile.sae, layer, self.profile.d_model)
            self._decoder = (layer, files.array("W_dec").to(self.device))
        return self._decoder[1]

    def decoder_bias(self, layer: int) -> torch.Tensor:
        """Returns b_dec of a layer, float32 (d_model,)."""
        files = open_sae_files(self.profile.sae, layer, self.profile.d_model)
        return files.array("b_dec").to(self.device)

    def reading(self, layer: int, index: int) -> Reading:
        """Returns how one feature of a layer reads the stream."""
        encoder = self.encoder(layer)
        weight = encoder.W_enc[:, index].double()
        shift = 0.0 if encoder.b_dec is None else float(encoder.b_dec.double() @ weight)
        threshold = None
        if encoder.k is None:
            threshold = 0.0 if encoder.threshold is None else float(encoder.threshold[index])
        return Reading(weight.clone(), float(encoder.b_enc[index]) - shift, threshold)

    def rows(self, layer: int, indices: Sequence[int]) -> torch.Tensor:
        """Returns decoder rows of a layer, float32 (len(indices), d_model), on the CPU."""
        return self.decoder(layer)[list(indices)].cpu().clone()

    @property
    def held(self) -> set[int]:
        """The layers of which anything is in memory: never more than one."""
        return {item[0] for item in (self._encoder, self._decoder) if item is not None}

    def _drop_others(self, layer: int) -> None:
        if self._encoder is not None and self._encoder[0] != layer:
            self._encoder = None
        if self._decoder is not None and self._decoder[0] != layer:
            self._decoder = None
