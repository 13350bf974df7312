"""The files of one SAE, read as arrays under SAELens's names, whichever layout they have.

Headers are checked first, so that a wrong shape costs no reading; then each array is read once, when asked for. Nothing
is unpickled. One row of the decoder is read without the rest.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from common.errors import UsageError
from common.hub import how_to_mend, resolve_repo
from common.model_facts import floating_tensors
from common.profiles import SaeSource
from common.sae_registry import SaeLocation, locate_sae, missing_layer
from common_simplified.npz_files import npz_array, npz_row, npz_shapes
from common_simplified.sites import parse_hook_name

ARCHITECTURES = ("jumprelu", "standard", "topk")
_LLAMA_SCOPE_NAMES = {
    "W_enc": "encoder.weight",
    "W_dec": "decoder.weight",
    "b_enc": "encoder.bias",
    "b_dec": "decoder.bias",
}


class SaeConfig(NamedTuple):
    """What an SAE's configuration says.

    `threshold` is one for all features where the layout stores no array of them; `scale` multiplies the encoder and
    divides the decoder, for an SAE trained on activations that were multiplied by it. `k` is how many features a top-k
    SAE keeps; with `unit_decoder` they are ranked and given in units of the decoder's norm, which then becomes 1.
    """

    architecture: str
    apply_b_dec_to_input: bool
    hook_name: str
    model_name: str | None = None
    threshold: float | None = None
    scale: float | None = None
    k: int | None = None
    unit_decoder: bool = False


@dataclass(frozen=True)
class SaeFiles:
    """One SAE on this disk: where it came from, its configuration, and access to its arrays.

    Arrays carry SAELens's names and orientation: W_enc (d_in, d_sae), b_enc (d_sae), W_dec (d_sae, d_in), b_dec (d_in),
    threshold (d_sae; JumpReLU only).
    """

    location: SaeLocation
    folder: Path
    revision: str | None
    config: SaeConfig
    shapes: dict[str, tuple[int, ...]]

    @property
    def label(self) -> str:
        """How messages call this SAE."""
        return f"SAE {self.location.sae_id} of {self.location.repo}"

    @property
    def weights(self) -> Path:
        """The file that holds the arrays."""
        return self.folder / self.location.files[-1]

    @property
    def d_in(self) -> int:
        """Width of the residual stream that the SAE reads."""
        return self.shapes["W_enc"][0]

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.shapes["W_enc"][1]

    def array(self, name: str) -> torch.Tensor:
        """Reads one array as float32 on the CPU."""
        if name == "threshold" and self.config.threshold is not None:
            return torch.ones(self.d_sae) * self.config.threshold
        with _readable(self.weights):
            values = self._scaled(name, self._read(name))
        if not self.config.unit_decoder or name not in ("W_enc", "b_enc", "W_dec"):
            return values
        norms = self._decoder_norms()
        return values / norms.unsqueeze(1) if name == "W_dec" else values * norms

    def decoder_row(self, index: int) -> torch.Tensor:
        """Reads `W_dec[index]`, shape (d_in,), float32, without reading the rest of the decoder."""
        if not 0 <= index < self.d_sae:
            raise UsageError(f"{self.label} has no feature {index} (it has 0-{self.d_sae - 1}); check the index")
        with _readable(self.weights):
            row = self._scaled("W_dec", self._read_row(index))
        return row / row.norm() if self.config.unit_decoder else row

    def _decoder_norms(self) -> torch.Tensor:
        with _readable(self.weights):
            return self._scaled("W_dec", self._read("W_dec")).norm(dim=1)

    def _read(self, name: str) -> torch.Tensor:
        if self.weights.suffix == ".npz":
            return torch.from_numpy(npz_array(self.weights, name))
        from safetensors import safe_open

        with safe_open(self.weights, framework="pt") as file:
            found = file.get_tensor(self._stored_name(name)).to(torch.float32)
        return found.T if self._transposed(name) else found

    def _read_row(self, index: int) -> torch.Tensor:
        if self.weights.suffix == ".npz":
            return torch.from_numpy(npz_row(self.weights, "W_dec", index))
        from safetensors import safe_open

        with safe_open(self.weights, framework="pt") as file:
            stored = file.get_slice(self._stored_name("W_dec"))
            found = stored[:, index] if self._transposed("W_dec") else stored[index]
        return found.to(torch.float32).reshape(-1)

    def _scaled(self, name: str, values: torch.Tensor) -> torch.Tensor:
        scale = self.config.scale
        if scale is None or name in ("b_enc", "threshold"):
            return values
        return values * scale if name == "W_enc" else values / scale

    def _stored_name(self, name: str) -> str:
        return _LLAMA_SCOPE_NAMES[name] if self.location.layout == "llama_scope" else name

    def _transposed(self, name: str) -> bool:
        return self.location.layout == "llama_scope" and name in ("W_enc", "W_dec")


def open_sae_files(source: SaeSource, layer: int, d_model: int | None = None) -> SaeFiles:
    """Finds the SAE of `layer` and checks its configuration and the shapes of its arrays, reading headers only.

    `d_model` is the width of the model's residual stream, where known. Raises UsageError in one line that names what
    was found and what was expected.
    """
    location = locate_sae(source, layer)
    folder, revision = _folder_of(location, source, layer)
    shapes = _stored_shapes(location, folder / location.files[-1])
    config = _read_config(location, folder, source)
    files = SaeFiles(location, folder, revision, config, shapes)
    _check_hook(files)
    _check_shapes(files, source.width, d_model)
    return files


def _folder_of(location: SaeLocation, source: SaeSource, layer: int) -> tuple[Path, str | None]:
    if location.local:
        folder = Path(location.repo) / location.folder
        lacking = [name for name in location.files if not (folder / name).is_file()]
        if lacking and not any(folder.iterdir()):
            raise missing_layer(source, layer)
        if lacking:
            raise UsageError(f"SAE directory {folder} has no {', '.join(lacking)} (format {location.layout})")
        return folder, None
    wanted = tuple(f"{location.folder}/{name}" for name in location.files)
    snapshot = resolve_repo(location.repo, source.revision, patterns=wanted, required=wanted)
    return snapshot.path / location.folder, snapshot.revision


def _read_config(location: SaeLocation, folder: Path, source: SaeSource) -> SaeConfig:
    if location.layout == "gemma_scope":
        return _gemma_scope_config(location, source)
    path = folder / location.files[0]
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return (_llama_scope_config if location.layout == "llama_scope" else _sae_lens_config)(stored, location)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(f"{path} is not a configuration of an SAE ({error!r}); fetch it again") from None


def _gemma_scope_config(location: SaeLocation, source: SaeSource) -> SaeConfig:
    match = re.search(r"layer_(\d+)", location.folder)
    if match is None or not (location.local or "-res" in location.repo):
        raise UsageError(f"SAE {location.folder} of {location.repo} does not read the residual stream of a layer")
    site = source.site if location.local else "resid_post"
    return SaeConfig("jumprelu", False, f"blocks.{match[1]}.hook_{site}", location.model)


def _llama_scope_config(stored: dict[str, Any], location: SaeLocation) -> SaeConfig:
    # SAELens multiplies the threshold by the factor of the hyperparameters and the weights by that of its registry.
    scale = stored["d_model"] ** 0.5 / stored["dataset_average_activation_norm"]["in"]
    weight_scale = location.norm_scaling_factor or scale
    if stored.get("act_fn", "jumprelu") == "topk":  # as trained; the published ones were turned into JumpReLU
        by_norm = bool(stored.get("sparsity_include_decoder_norm", False))
        k = _k_of(stored["top_k"])
        return SaeConfig("topk", False, stored["hook_point_in"], location.model, None, weight_scale, k, by_norm)
    threshold = stored["jump_relu_threshold"] * scale
    return SaeConfig("jumprelu", False, stored["hook_point_in"], location.model, threshold, weight_scale)


def _k_of(value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"k = {value!r}")
    return value


def _sae_lens_config(stored: dict[str, Any], location: SaeLocation) -> SaeConfig:
    metadata = {**stored, **(stored.get("metadata") or {})}
    hook_name = metadata.get("hook_name") or metadata["hook_point"]
    config = SaeConfig(
        architecture=stored.get("architecture", "standard"),
        apply_b_dec_to_input=bool(stored.get("apply_b_dec_to_input", True)),
        hook_name=str(hook_name),
        model_name=metadata.get("model_name") or location.model,
        k=_k_of(stored["k"]) if stored.get("architecture") == "topk" else None,
        unit_decoder=bool(stored.get("rescale_acts_by_decoder_norm", False)),
    )
    label = f"SAE {location.sae_id} of {location.repo}"
    if config.architecture not in ARCHITECTURES:
        raise UsageError(f"{label} has architecture {config.architecture!r}, expected {', '.join(ARCHITECTURES)}")
    if config.unit_decoder and config.k is None:
        raise UsageError(f"{label} has rescale_acts_by_decoder_norm without being a top-k SAE; choose another SAE")
    activation = stored.get("activation_fn") or stored.get("activation_fn_str") or "relu"
    for key, value, plain in (
        ("normalize_activations", stored.get("normalize_activations") or "none", "none"),
        ("reshape_activations", stored.get("reshape_activations") or "none", "none"),
        ("activation_fn", activation, "relu"),
    ):
        if value != plain:
            raise UsageError(f"{label} has {key} {value!r}, expected {plain!r}; choose another SAE")
    return config


def _check_hook(files: SaeFiles) -> None:
    """Refuses an SAE of anything but the residual stream; one that names another block is found by its fit."""
    try:
        parse_hook_name(files.config.hook_name)
    except UsageError as error:
        raise UsageError(f"{files.label}: {error}") from None


def _check_shapes(files: SaeFiles, width: int, d_model: int | None) -> None:
    names = ["W_enc", "b_enc", "W_dec", "b_dec"]
    if files.config.architecture == "jumprelu" and files.config.threshold is None:
        names.append("threshold")
    for name in names:
        if name not in files.shapes:
            held = ", ".join(sorted(files.shapes)) or "nothing"
            raise UsageError(f"{files.label} has no array {name} in {files.weights} (it holds {held})")
    if len(files.shapes["W_enc"]) != 2:
        raise UsageError(f"{files.label}: W_enc has shape {files.shapes['W_enc']}, expected (d_model, width)")
    d_in = files.d_in if d_model is None else d_model
    expected = {"W_enc": (d_in, width), "b_enc": (width,), "W_dec": (width, d_in), "b_dec": (d_in,)}
    expected["threshold"] = (width,)
    for name in names:
        if files.shapes[name] != expected[name]:
            raise UsageError(
                f"{files.label}: {name} has shape {files.shapes[name]}, expected {expected[name]} for d_model {d_in} "
                f"and width {width}; check the profile's model, sae.release and sae.width"
            )


def _stored_shapes(location: SaeLocation, path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".npz":
        with _readable(path):
            return npz_shapes(path)
    shapes = {name: tuple(entry["shape"]) for name, entry in floating_tensors(path).items()}
    if location.layout != "llama_scope":
        return shapes
    named = {ours: shapes[theirs] for ours, theirs in _LLAMA_SCOPE_NAMES.items() if theirs in shapes}
    return {name: shape[::-1] for name, shape in named.items()}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, SafetensorError, StopIteration) as error:
        raise UsageError(
            f"{path} is damaged or not an array file ({type(error).__name__}); {how_to_mend(path)}"
        ) from None
