"""Which model a run means, known before any weight is read.

A phase's role says which of two models it is: the base model, or its instruction-tuned sibling. The two have settings
of their own, so that one is never taken for the other.
"""

from __future__ import annotations

from typing import NamedTuple

from common.config import Config
from common.errors import UsageError
from common.hub import MODEL_REQUIRED, content_digest, resolve_repo
from common.model_facts import ModelFacts, read_model_facts
from common.profiles import Profile, resolve_local

BASE, INSTRUCT = "base", "instruct"


class ConfiguredModel(NamedTuple):
    """A model as configured: its name, where to load it from (a hub name or a directory), and the commit asked for."""

    name: str
    location: str
    revision: str | None


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
        return fingerprint_of(self.name, self.revision, self.digest)


def fingerprint_of(name: str, revision: str | None, digest: str | None) -> str:
    """Returns what results depend on of a model with this name, commit and content, as they stand in a record."""
    return digest if digest is not None else f"{name}@{revision}"


def configured_model(config: Config, profile: Profile, role: str = BASE) -> ConfiguredModel:
    """Returns the model that `role` means; a bundled model's path is taken from the repository.

    Raises `UsageError` for an instruction-tuned sibling that neither the configuration nor the profile names.
    """
    assert role in (BASE, INSTRUCT), role
    if role == BASE:
        return _located(config.model_name, config.model_revision, profile, profile.model)
    own = profile.instruct_model
    name, revision = config.phase7_3_model_name or own, config.phase7_3_model_revision
    if name is None:
        raise UsageError(
            f"profile {profile.name} names no instruction-tuned model; add instruct_model to its file, or "
            "name one with --set phase7_3_model_name=NAME"
        )
    return _located(name, revision or (profile.instruct_revision if name == own else None), profile, own)


def identify_model(config: Config, profile: Profile, role: str = BASE) -> ModelIdentity:
    """Resolves the model that `role` means to its files; raises `UsageError` where they are missing or incomplete."""
    model = configured_model(config, profile, role)
    snapshot = resolve_repo(model.location, model.revision, required=MODEL_REQUIRED)
    digest = content_digest(snapshot.path) if snapshot.local else None
    return ModelIdentity(model.name, model.location, snapshot.revision, digest, read_model_facts(snapshot.path))


def _located(name: str, revision: str | None, profile: Profile, own: str | None) -> ConfiguredModel:
    bundled = profile.model_local and name == own
    return ConfiguredModel(name, str(resolve_local(name)) if bundled else name, revision)


def chosen_layers(config: Config, facts: ModelFacts) -> list[int]:
    """Returns the layers to capture, in order; refuses one that the model does not have."""
    layers = list(config.activation_layers) if config.activation_layers is not None else list(range(facts.n_layers))
    for layer in layers:
        if layer >= facts.n_layers:
            raise UsageError(
                f"activation_layers: layer {layer} does not exist, the model has layers 0 to {facts.n_layers - 1}"
            )
    return sorted(layers)
