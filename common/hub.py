"""Models, SAEs and data sets from the Hugging Face hub's cache or from local directories.

Everything that is read from the hub passes through `resolve_repo`, which pins the revision, needs no network when the
cache holds the files, and turns each way a download can fail into one line that says what to do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import UsageError
from common.hub_client import KINDS, cached, download, remote_size
from common.profiles import DatasetSource, Profile, resolve_local

MODEL_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "vocab.txt", "*.jinja")
MODEL_REQUIRED = ("config.json", "*.safetensors", "tokenizer.*")
WHOLE_DIGEST_LIMIT = 512 * 1024**2
SAMPLE_BYTES = 1024**2
DIGEST_SUFFIXES = (".json", ".safetensors", ".npz", ".model", ".txt", ".jinja", ".parquet", ".jsonl")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Snapshot(NamedTuple):
    """Files of one repository on this machine: `revision` is the commit, or None for a local directory."""

    path: Path
    name: str
    revision: str | None
    local: bool


class ModelReference(NamedTuple):
    """What `load_model_and_tokenizer` and `model_facts` are called with."""

    name: str
    revision: str | None


def model_reference(profile: Profile, *, instruct: bool = False) -> ModelReference:
    """Returns name (or absolute directory) and revision of a profile's model, or of its instruction-tuned sibling."""
    if instruct and profile.instruct_model is None:
        raise UsageError(f"profile {profile.name!r} names no instruction-tuned model; add instruct_model to its file")
    name = profile.instruct_model if instruct else profile.model
    revision = profile.instruct_revision if instruct else profile.model_revision
    assert name is not None
    return ModelReference(str(resolve_local(name)), None) if profile.model_local else ModelReference(name, revision)


def resolve_repo(
    name: str,
    revision: str | None = None,
    *,
    repo_type: str = "model",
    patterns: Sequence[str] | None = None,
    required: Sequence[str] = (),
) -> Snapshot:
    """Returns a local directory with the files of `name` at `revision`, downloading what the cache lacks.

    An existing directory is used as it is. `patterns` limits what is downloaded (by default a model's configuration,
    safetensors and tokenizer, and the whole of a data set); each of `required` must match a file.
    Raises UsageError, in one line with the cure, for whatever keeps the files from being there.
    """
    if Path(name).expanduser().is_dir():
        return _local_snapshot(Path(name).expanduser(), repo_type, required)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UsageError(f"{KINDS[repo_type]} directory {name} does not exist; check the path")
    if patterns is None and repo_type == "model":
        patterns = MODEL_PATTERNS
    if required and revision is not None and _COMMIT.fullmatch(revision):
        held = cached(name, revision, repo_type, patterns)
        if held is not None and not missing_files(held, required):
            return Snapshot(held, name, revision, local=False)
    path = download(name, revision, repo_type, patterns)
    _require(path, name, repo_type, required, "run `run.py fetch` again with network access")
    return Snapshot(path, name, path.name, local=False)


def missing_files(path: Path, required: Sequence[str]) -> list[str]:
    """Returns what a directory lacks: patterns without a file, dangling links, shards that an index names."""
    missing = [pattern for pattern in required if not any(item.is_file() for item in path.glob(pattern))]
    for pattern in required:
        missing += [item.name for item in path.glob(pattern) if item.is_symlink() and not item.exists()]
    index = path / "model.safetensors.index.json"
    if "*.safetensors" in required and index.is_file():
        missing += [shard for shard in shards(index) if not (path / shard).is_file()]
    return sorted(set(missing))


def how_to_mend(path: Path) -> str:
    """Returns what to do about a damaged file: in the hub's cache a link, whose target the client takes for whole."""
    if path.is_symlink():
        return f"delete {path.resolve()} and run `run.py fetch`"
    return "fetch or copy it again"


def content_digest(path: str | Path) -> str:
    """Returns the identity of a local file or directory: `sha256:…` of its configuration and weights.

    Beyond 512 MB it is `sampled:…`: the SHA-256 over every file's name, size, first and last megabyte.
    """
    root = Path(path)
    files = (
        [root] if root.is_file() else sorted(_digest_files(root), key=lambda item: item.relative_to(root).as_posix())
    )
    if not files:
        raise UsageError(f"{root} holds no configuration and no weights to identify; check the path")
    sizes = [item.stat().st_size for item in files]
    whole = sum(sizes) <= WHOLE_DIGEST_LIMIT
    digest = hashlib.sha256()
    for item, size in zip(files, sizes, strict=True):
        name = item.name if item == root else item.relative_to(root).as_posix()
        digest.update(f"{name}\0{size}\0".encode())
        for block in _blocks(item, size, whole=whole):
            digest.update(block)
    return f"{'sha256' if whole else 'sampled'}:{digest.hexdigest()}"


def fetch_profile(profile: Profile, log: Callable[[str], None], *, instruct: bool = True) -> None:
    """Downloads everything that `profile` reads into the hub's cache, stating sizes and licences first.

    Model and tokenizer (and the instruction-tuned sibling, unless `instruct` is false), the SAEs of every layer, the
    data set and the corpus. For what is local it only says so.
    """
    wanted = list(_wanted(profile, instruct=instruct))
    for item in wanted:
        log(item.describe())
    for item in wanted:
        if not item.local:
            snapshot = resolve_repo(
                item.name, item.revision, repo_type=item.repo_type, patterns=item.patterns, required=item.required
            )
            log(f"{item.role}: {item.name} at {snapshot.revision} is in {snapshot.path}")


class _Wanted(NamedTuple):
    role: str
    name: str
    revision: str | None
    repo_type: str
    patterns: tuple[str, ...] | None
    required: tuple[str, ...]
    licence: str
    local: bool

    def describe(self) -> str:
        """Returns one line: what, where from, how large, under which licence."""
        licence = f"; licence: {self.licence}" if self.licence else ""
        if self.local:
            return f"{self.role}: {self.name} is local, nothing to fetch{licence}"
        size = remote_size(self.name, self.revision, self.repo_type, self.patterns)
        return f"{self.role}: {self.name} at {self.revision or 'its newest revision'}, {size}{licence}"


def _wanted(profile: Profile, *, instruct: bool) -> Iterator[_Wanted]:
    for role, sibling in (("model", False), ("instruction-tuned model", True)):
        if not sibling or (instruct and profile.instruct_model is not None):
            name, revision = model_reference(profile, instruct=sibling)
            local, licence = profile.model_local, profile.model_licence
            yield _Wanted(role, name, revision, "model", MODEL_PATTERNS, MODEL_REQUIRED, licence, local)
    yield _wanted_saes(profile)
    for role, source in (("data set", profile.dataset), ("corpus", profile.corpus)):
        yield _wanted_data(role, source)


def _wanted_saes(profile: Profile) -> _Wanted:
    from common.sae_registry import locate_sae

    source, role = profile.sae, f"SAEs of {profile.n_layers} layers"
    if source.local:
        return _Wanted(role, str(resolve_local(source.release)), None, "model", None, (), source.licence, True)
    located = [locate_sae(source, layer) for layer in range(profile.n_layers)]
    files = tuple(f"{item.folder}/{name}" for item in located for name in item.files)
    return _Wanted(role, located[0].repo, source.revision, "model", files, files, source.licence, False)


def _wanted_data(role: str, source: DatasetSource) -> _Wanted:
    name = str(resolve_local(source.name)) if source.local else source.name
    files = source.files or None
    return _Wanted(role, name, source.revision, "dataset", files, files or (), source.licence, source.local)


def _local_snapshot(path: Path, repo_type: str, required: Sequence[str]) -> Snapshot:
    _require(path, str(path), repo_type, required, "check the directory")
    return Snapshot(path.resolve(), str(path), None, local=True)


def _require(path: Path, name: str, repo_type: str, required: Sequence[str], cure: str) -> None:
    missing = missing_files(path, required)
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        where = "" if name == str(path) else f" in {path}"
        raise UsageError(f"{KINDS[repo_type]} {name} is incomplete{where}: no {shown}; {cure}")


def shards(index: Path) -> list[str]:
    """Returns the files that an index of weights (`model.safetensors.index.json`) names."""
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        raise UsageError(f"{index} is not a valid index of weights; fetch the model again") from None


def _digest_files(root: Path) -> Iterator[Path]:
    for item in root.rglob("*"):
        hidden = any(part.startswith(".") for part in item.relative_to(root).parts)
        if item.suffix in DIGEST_SUFFIXES and not hidden and item.is_file():
            yield item


def _blocks(path: Path, size: int, *, whole: bool) -> Iterator[bytes]:
    with path.open("rb") as file:
        if whole or size <= 2 * SAMPLE_BYTES:
            while block := file.read(SAMPLE_BYTES):
                yield block
            return
        yield file.read(SAMPLE_BYTES)
        file.seek(size - SAMPLE_BYTES)
        yield file.read(SAMPLE_BYTES)
