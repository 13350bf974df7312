"""Where the stream is read for each SAE: the place that its own metadata name, or the one that the user insists on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.profiles import Profile
from common_simplified.sae_loader import SaeIdentity, sae_identity
from common_simplified.sites import HookPoint, parse_hook_name


def sae_identities(profile: Profile, layers: Sequence[int]) -> dict[int, SaeIdentity]:
    """Returns the identity of each layer's SAE, from its files alone."""
    return {layer: sae_identity(profile, layer) for layer in layers}


def capture_points(identities: dict[int, SaeIdentity], site: str | None) -> dict[int, HookPoint]:
    """Returns the point at which each layer's SAE reads; `site` overrules the metadata's site and block."""
    if site is not None:
        return {layer: HookPoint(layer, site) for layer in identities}
    return {layer: parse_hook_name(identity.hook_name) for layer, identity in identities.items()}


def describe_saes(identities: dict[int, SaeIdentity]) -> list[dict[str, Any]]:
    """Returns the identities as they stand in a record."""
    return [{"sae_layer": layer, **identity._asdict()} for layer, identity in identities.items()]
