"""Which model a run means, known before any weight is read.

A phase's role says which of two models it is: the base model, or its instruction-tuned sibling. The two have settings
of their own, so that one is never taken for the other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from common.config import Config
from common.errors import UsageError
from common.hub import MODEL_REQUIRED, content_digest, missing_files, resolve_repo
from common.model_facts import ModelFacts, read_config, read_model_facts, read_weight_facts
from common.model_shape import ModelSize, shape_of
from common.profiles import Profile, resolve_local

BASE, INSTRUCT = "base", "instruct"
BYTES_OF_BFLOAT16 = 2


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


def model_directory(config: Config, profile: Profile, role: str = BASE) -> Path | None:
    """Returns the directory with a model's files, its own or the hub cache's, asking nobody; None without one."""
    model = configured_model(config, profile, role)
    directory = Path(model.location).expanduser()
    return directory if directory.is_dir() else cached_snapshot(model.location, model.revision)


def cached_snapshot(name: str, revision: str | None) -> Path | None:
    """Returns the directory of a model in the hub's cache, whole or not; None where it has never been fetched."""
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    named = repository / "refs" / (revision or "main")
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    found = [repository / "snapshots" / commit] if commit else sorted(repository.glob("snapshots/*"))
    return next((path for path in found if path.is_dir()), None)


def hub_cache() -> Path:
    """Returns where the hub's client keeps what it has fetched."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def lacking_files(directory: Path) -> list[str]:
    """Returns which files of a model a directory lacks: those that cannot be done without, and its index's shards."""
    return missing_files(directory, MODEL_REQUIRED)


def model_size(config: Config, profile: Profile, role: str = BASE) -> ModelSize | None:
    """Returns how large a model is: by its files where they are whole, else as the profile says of its own models.

    None where neither says; raises UsageError for files that are damaged.
    """
    directory = model_directory(config, profile, role)
    if directory is not None and not lacking_files(directory):
        facts = read_model_facts(directory)
        n_parameters = read_weight_facts(directory).n_parameters
        return ModelSize(shape_of(read_config(directory)), facts.n_layers, facts.d_model, n_parameters)
    own = profile.model if role == BASE else profile.instruct_model
    if configured_model(config, profile, role).name != own or profile.shape is None or profile.model_size_gb is None:
        return None
    parameters = round(profile.model_size_gb * 1e9 / BYTES_OF_BFLOAT16)
    return ModelSize(profile.shape, profile.n_layers, profile.d_model, parameters)


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
