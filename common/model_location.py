"""Which model a run means, known before any weight is read."""

from __future__ import annotations

from typing import NamedTuple

from common.config import Config
from common.errors import UsageError
from common.hub import MODEL_REQUIRED, content_digest, resolve_repo
from common.model_facts import ModelFacts, read_model_facts
from common.profiles import Profile, resolve_local


class ModelIdentity(NamedTuple):
    """A model's name as configured, where to load it from, and what identifies its weights.

    `revision` is the hub's commit, `digest` the content of a local directory; one of the two is None.
    """

    name: str
    location: str
    revision: str | None
    digest: str | None
    facts: ModelFacts

    def fingerprint(self) -> str:
        """Returns what results depend on: content for a directory, name and commit for the hub."""
        return self.digest if self.digest is not None else f"{self.name}@{self.revision}"


def model_location(config: Config, profile: Profile) -> str:
    """Returns the hub name or directory to load; a bundled model's path is taken from the repository."""
    if profile.model_local and config.model_name == profile.model:
        return str(resolve_local(config.model_name))
    return config.model_name


def identify_model(config: Config, profile: Profile) -> ModelIdentity:
    """Resolves the configured model to its files; raises `UsageError` where they are missing or incomplete."""
    location = model_location(config, profile)
    snapshot = resolve_repo(location, config.model_revision, required=MODEL_REQUIRED)
    digest = content_digest(snapshot.path) if snapshot.local else None
    return ModelIdentity(config.model_name, location, snapshot.revision, digest, read_model_facts(snapshot.path))


def chosen_layers(config: Config, facts: ModelFacts) -> list[int]:
    """Returns the layers to capture, in order; refuses one that the model does not have."""
    layers = list(config.activation_layers) if config.activation_layers is not None else list(range(facts.n_layers))
    for layer in layers:
        if layer >= facts.n_layers:
            raise UsageError(
                f"activation_layers: layer {layer} does not exist, the model has layers 0 to {facts.n_layers - 1}"
            )
    return sorted(layers)
