"""Setting a feature: the residual stream is moved along the feature's decoder row until the feature has a given value.

h becomes h + (value − f(h)) · W_dec[f]: what the SAE does not reconstruct stays as it is, so a feature that is set to
the value that it has changes nothing, bit for bit. It is done at the newest position of every forward pass: the last
prompt token, then each new token; with a key–value cache what was set earlier stays in force. One batch holds many
features, each row with an encoder column, bias, threshold, decoder row and value of its own. A top-k SAE decides which
features are active through its whole encoder; the value of one that is comes from its own column, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from common.config import SITES
from common.errors import UsageError
from common_simplified.row_sites import RowSite, RowSites
from common_simplified.sae_loader import Encoder
from common_simplified.sites import HookPoint


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """How one feature's activation is read from the stream: float32 `column` and `centre` (d_model,).

    `threshold` is −inf for a plain ReLU; `whole` is the encoder in which a top-k SAE's features compete, else None.
    """

    index: int
    column: torch.Tensor
    centre: torch.Tensor
    bias: float
    threshold: float
    whole: Encoder | None = None

    @classmethod
    def of(cls, encoder: Encoder, index: int) -> FeatureReader:
        """Returns the reader of feature `index`, holding copies of its own numbers only, but for a top-k SAE."""
        if not 0 <= index < encoder.d_sae:
            raise UsageError(f"feature {index} does not exist: the SAE has 0 to {encoder.d_sae - 1}; check the index")
        return cls(
            index,
            encoder.W_enc[:, index].clone(),
            torch.zeros(encoder.d_in) if encoder.b_dec is None else encoder.b_dec.clone(),
            float(encoder.b_enc[index]),
            -math.inf if encoder.threshold is None else float(encoder.threshold[index]),
            None if encoder.k is None else encoder,
        )


@dataclass(frozen=True, eq=False)
class FeaturePatch:
    """What a feature of one row is set to: `value`, along `decoder` (d_model,), float32, at `point`."""

    reader: FeatureReader
    decoder: torch.Tensor
    value: float
    point: HookPoint

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or not bool(torch.isfinite(self.decoder).all()):
            raise UsageError(f"a feature cannot be set to {self.value} along its decoder row: numbers must be finite")
        assert self.decoder.dtype == torch.float32, f"the decoder row is {self.decoder.dtype}, expected float32"
        assert self.point.site in SITES and self.point.site != "resid_mid", f"{self.point}: read and written elsewhere"


class PatchingSite(RowSite[FeaturePatch]):
    """One hook that sets a feature of each row; numbers are float32 whatever the model computes in."""

    row_tensors: ClassVar[tuple[str, ...]] = (
        *("columns", "centres", "decoders"),
        *("biases", "thresholds", "values", "indices"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.columns = self.centres = self.decoders = torch.empty(0)
        self.biases = self.thresholds = self.values = self.indices = torch.empty(0)
        self.whole: Encoder | None = None

    def additions(self, stream: torch.Tensor) -> torch.Tensor:
        """Returns (value − activation) × decoder row, (rows, 1, d_model)."""
        missing = self.values - self.activations(stream[:, -1])
        return (missing.unsqueeze(-1) * self.decoders).unsqueeze(1).to(stream.dtype)

    def activations(self, newest: torch.Tensor) -> torch.Tensor:
        """Returns each row's activation of its own feature at the newest position, float32 (rows,)."""
        pre = ((newest.float() - self.centres) * self.columns).sum(dim=-1) + self.biases
        acts = torch.relu(pre) * (pre > self.thresholds)
        if self.whole is None:
            return acts
        chosen = self.whole.encode(newest).gather(1, self.indices.unsqueeze(-1)).squeeze(-1) > 0
        return acts * chosen

    def load(self, rows: Sequence[FeaturePatch | None], width: int, dtype: torch.dtype, device: torch.device) -> None:
        """Takes over the rows of a new batch, all of one SAE."""
        super().load(rows, width, dtype, device)
        self.whole = None if self.whole is None else self.whole.to(device)

    def fill(
        self,
        rows: Sequence[FeaturePatch | None],
        width: int,
        dtype: torch.dtype,  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """Returns the numbers of a new batch, float32; a row of None adds zero."""
        wholes = {id(row.reader.whole): row.reader.whole for row in rows if row is not None}
        assert len(wholes) <= 1, "rows at one point read one SAE"
        self.whole = next(iter(wholes.values()), None)
        nothing, nobody = torch.zeros(width), (0.0, -math.inf, 0.0, 0)
        numbers = [
            nobody if row is None else (row.reader.bias, row.reader.threshold, row.value, row.reader.index)
            for row in rows
        ]
        biases, thresholds, values, indices = zip(*numbers, strict=True)
        return {
            "columns": torch.stack([nothing if row is None else row.reader.column for row in rows]),
            "centres": torch.stack([nothing if row is None else row.reader.centre for row in rows]),
            "decoders": torch.stack([nothing if row is None else row.decoder for row in rows]),
            "biases": torch.tensor(biases, dtype=torch.float32),
            "thresholds": torch.tensor(thresholds, dtype=torch.float32),
            "values": torch.tensor(values, dtype=torch.float32),
            "indices": torch.tensor(indices, dtype=torch.int64),
        }


class PatchingSites(RowSites[FeaturePatch]):
    """Permanent hooks that set a feature of each loaded row, at the newest position of every forward pass."""

    kind = FeaturePatch
    site = PatchingSite

    def prompt_positions(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns the last position of each row; padding stands on the left, and a prompt is more than its BOS."""
        assert input_ids.shape[1] > 1 and bool(mask[:, -2:].all()), "a patched prompt has at least one token beside BOS"
        newest = torch.zeros_like(mask, dtype=torch.bool)
        newest[:, -1] = True
        return newest

    def require_possible(self, change: FeaturePatch) -> None:
        """Raises `UsageError` for a point without a hook, or a feature of another model."""
        self.require_point(change, "patched")
        if len(change.decoder) != self._width:
            raise UsageError(
                f"the feature at {change.point} writes {len(change.decoder)} components and the model's residual "
                f"stream has {self._width}; take a feature of this model's SAEs"
            )


def feature_activation(reader: FeatureReader, stream: torch.Tensor) -> torch.Tensor:
    """Returns a feature's activation at residual vectors (rows, d_model), float32 (rows,), as hooks read it."""
    site = PatchingSite()
    patch = FeaturePatch(reader, torch.zeros(len(reader.column)), 0.0, HookPoint(0, "resid_post"))
    site.load([patch] * len(stream), stream.shape[1], stream.dtype, stream.device)
    return site.activations(stream)
