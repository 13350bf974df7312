"""Profiles: one small file of data a model, in `profiles/NAME.toml`.

A profile names the model and its instruction-tuned sibling, the SAEs that read it, the data set, the corpus of general
text and the directory that holds the results. Adding a model is adding a file. Relative paths in a profile are taken
from the repository.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UsageError, suggest
from common.model_shape import ModelShape
from common.typed_tables import typed_table

REPOSITORY = Path(__file__).resolve().parent.parent
PROFILE_DIR = REPOSITORY / "profiles"
BUNDLED_PROFILE = "organism"
DEFAULT_PROFILE = "gemma-2-2b"
SAE_FORMATS = ("sae_lens", "gemma_scope", "llama_scope")


@dataclass(frozen=True)
class SaeSource:
    """Where the SAEs of a model come from.

    `release` is a name in SAELens's registry, a Hugging Face repository, or a local directory (set `local = true`).
    `id_pattern` gives each layer's id or folder with `{layer}` in it. `format` says what lies there: `sae_lens`
    (`cfg.json` and `sae_weights.safetensors`), `gemma_scope` (`params.npz`) or `llama_scope` (LlamaScope's own).
    `revision` pins the hub's commit.
    """

    release: str
    id_pattern: str
    format: str
    site: str
    width: int
    revision: str | None = None
    local: bool = False
    neuronpedia_pattern: str | None = None
    licence: str = ""


@dataclass(frozen=True)
class DatasetSource:
    """A data set: a hub repository with the files that are read, or a local file."""

    name: str
    revision: str | None = None
    files: tuple[str, ...] = ()
    local: bool = False
    licence: str = ""


@dataclass(frozen=True)
class Profile:
    """Everything that changes with the model.

    `settings` are the profile's own defaults; `quick` are reductions (fewer samples, fewer controls) that `--full`
    leaves out. `closing_step` names a function of a configuration (`module:function`) that a pipeline run ends with;
    the bundled tiny model compares what was found with its planted truth there. `shape` is what a run is planned with
    while the model's files are not at hand; the sibling has the same.
    """

    name: str
    model: str
    n_layers: int
    d_model: int
    sae: SaeSource
    dataset: DatasetSource
    corpus: DatasetSource
    model_revision: str | None = None
    model_local: bool = False
    model_licence: str = ""
    model_size_gb: float | None = None
    shape: ModelShape | None = None
    instruct_model: str | None = None
    instruct_revision: str | None = None
    data_dir: str = "data"
    closing_step: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)

    def data_dir_of(self, *, full: bool) -> str:
        """Returns where results lie; a full run of a profile with reductions keeps them apart."""
        return f"{self.data_dir}-full" if full and self.quick else self.data_dir


def profile_names() -> list[str]:
    """Returns the names of all shipped profiles, sorted."""
    return sorted(path.stem for path in PROFILE_DIR.glob("*.toml"))


def load_profile(name: str) -> Profile:
    """Reads a profile by its name, or from a path that ends in `.toml`."""
    path = Path(name) if name.endswith(".toml") else PROFILE_DIR / f"{name}.toml"
    if not path.is_file():
        known = profile_names()
        raise UsageError(f"profile {name!r} is unknown (known: {', '.join(known)}){suggest(name, known)}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"profile {path} is not valid TOML: {error}") from None
    return _profile_from(data, path)


def resolve_local(path: str) -> Path:
    """Returns `path` as an absolute path, taking a relative one from the repository's root."""
    candidate = Path(path).expanduser()
    return candidate if candidate.is_absolute() else REPOSITORY / candidate


def _profile_from(data: dict[str, Any], path: Path) -> Profile:
    data = {"name": path.stem, **data}
    for key, kind in (("sae", SaeSource), ("dataset", DatasetSource), ("corpus", DatasetSource)):
        if key not in data:
            raise UsageError(f"profile {path} has no [{key}] table")
        data[key] = typed_table(kind, data[key], f"profile {path} [{key}]")
    if "shape" in data:
        data["shape"] = typed_table(ModelShape, data["shape"], f"profile {path} [shape]")
    profile = typed_table(Profile, data, f"profile {path}")
    if profile.sae.format not in SAE_FORMATS:
        raise UsageError(
            f"profile {path}: sae.format is {profile.sae.format!r}, expected one of {', '.join(SAE_FORMATS)}"
        )
    return profile
