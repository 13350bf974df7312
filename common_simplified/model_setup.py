"""The model of a run with the SAEs that read it: everything that is known, and checked, before weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from common.capacity import available_ram
from common.config import Config
from common.errors import UsageError
from common.hub import MODEL_REQUIRED, resolve_repo
from common.logging import get_logger
from common.model_facts import ModelFacts
from common.model_location import ModelIdentity, identify_model, model_size
from common.needs import Place, refuse_full_disk, refuse_over_limits
from common.phases import get_phase
from common.profiles import Profile
from common_simplified.capture_points import capture_points, describe_saes, sae_identities
from common_simplified.captured_decoding import Capture, cuda_graph, resolve_decoding
from common_simplified.model_loader import (
    LoadedModel,
    load_model_and_tokenizer,
    load_tokenizer,
    resolve_device,
    resolve_dtype,
)
from common_simplified.sae_loader import SaeIdentity
from common_simplified.sites import HookPoint

_log = get_logger(__name__)


@dataclass(frozen=True)
class ModelSetup:
    """Which model computes where and in what, which layers are read, and at which point of the stream."""

    model: ModelIdentity
    role: str
    layers: list[int]
    saes: dict[int, SaeIdentity]
    points: dict[int, HookPoint]
    device: torch.device
    dtype: torch.dtype
    site_given: bool
    decoding: str

    @property
    def capture(self) -> Capture | None:
        """How the engine records decoding steps, None where it runs them anew each time."""
        return cuda_graph if self.decoding == "graphs" else None

    @property
    def dtype_name(self) -> str:
        """The type in words, `float32`."""
        return str(self.dtype).removeprefix("torch.")

    def load(self) -> LoadedModel:
        """Loads the model and its tokenizer."""
        _log.info("loading %s (%s, %s)", self.model.name, self.device, self.dtype_name)
        return load_model_and_tokenizer(self.model.location, self.device, self.dtype, revision=self.model.revision)

    def require_room(self, phase: str, config: Config, profile: Profile) -> None:
        """Raises `UsageError` where a phase needs more memory or disk than ceilings allow or the machine has free."""
        refuse_full_disk(get_phase(phase), config, profile)
        size = model_size(config, profile, self.role)
        if size is None:
            return  # a model of the hub's cache that lies elsewhere: loading it asks for its weights' memory
        refuse_over_limits(get_phase(phase), config, profile, size, self.place(), available_ram())

    def place(self) -> Place:
        """Returns where it computes, with what a CUDA device has free now."""
        is_cuda = self.device.type == "cuda" and torch.cuda.is_available()
        gpu = torch.cuda.mem_get_info(self.device)[0] if is_cuda else None
        return Place(self.device.type, self.dtype.itemsize, gpu)

    def load_tokenizer(self) -> Any:
        """Loads the tokenizer alone, without the weights."""
        return load_tokenizer(resolve_repo(self.model.location, self.model.revision, required=MODEL_REQUIRED))

    def fingerprint(self, points: dict[int, HookPoint] | None = None) -> dict[str, Any]:
        """Returns what of the model changes text and captured vectors; `points` overrules what is captured."""
        captured = self.points if points is None else points
        return {
            "model": self.model.fingerprint(),
            "role": self.role,
            "dtype": self.dtype_name,
            "device_type": self.device.type,
            "decoding": self.decoding,
            "points": {str(layer): str(point) for layer, point in captured.items()},
        }

    def as_record(self) -> dict[str, Any]:
        """Returns model, SAEs and points as they stand in a phase's record."""
        return {
            "model": {
                **{"name": self.model.name, "role": self.role, "revision": self.model.revision},
                **{"digest": self.model.digest, "dtype": self.dtype_name, "device_type": self.device.type},
            },
            "decoding": self.decoding,
            "layers": self.layers,
            "saes": describe_saes(self.saes),
            "points": {str(layer): str(point) for layer, point in self.points.items()},
            "site_given": self.site_given,
        }


def set_up_model(
    config: Config,
    profile: Profile,
    role: str,
    layers: Callable[[ModelFacts], Sequence[int]],
    *,
    site_given: bool,
    computes_here: bool = True,
) -> ModelSetup:
    """Resolves model, SAEs, points, device and type; raises `UsageError` for what is missing or does not fit.

    `role` says which model is meant: the base model, or its instruction-tuned sibling. What does not compute here may
    name a device that this machine lacks.
    """
    model = identify_model(config, profile, role)
    chosen = list(layers(model.facts))
    _refuse_misfit(model, profile, chosen)
    saes = sae_identities(profile, chosen)
    points = capture_points(saes, config.site if site_given else None)
    is_elsewhere = not computes_here and config.device.startswith("cuda") and not torch.cuda.is_available()
    device = _declared(config.device) if is_elsewhere else resolve_device(_given(config.device))
    dtype = torch.bfloat16 if is_elsewhere and config.dtype == "auto" else resolve_dtype(_given(config.dtype), device)
    decoding = resolve_decoding(config.decoding, device.type, model.facts.architecture)
    return ModelSetup(model, role, chosen, saes, points, device, dtype, site_given, decoding)


def _given(setting: str) -> str | None:
    return None if setting == "auto" else setting


def _declared(name: str) -> torch.device:
    """Returns a CUDA device of another machine, whose GPU is taken to compute in bfloat16."""
    try:
        return torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is unknown; write cuda or cuda:N") from None


def _refuse_misfit(model: ModelIdentity, profile: Profile, layers: Sequence[int]) -> None:
    """Raises `UsageError` where the profile's SAEs cannot read the model: another width, or a layer that it lacks."""
    facts = model.facts
    if facts.d_model != profile.d_model:
        raise UsageError(
            f"model {model.name} has a residual stream {facts.d_model} wide, the SAEs of profile {profile.name} read "
            f"{profile.d_model}; choose a model that they were trained for, or another --profile"
        )
    absent = [layer for layer in layers if layer >= facts.n_layers]
    if absent:
        raise UsageError(
            f"model {model.name} has layers 0 to {facts.n_layers - 1}, but layer {absent[0]} is to be read; choose a "
            f"model that the SAEs of profile {profile.name} were trained for, or another --profile"
        )
