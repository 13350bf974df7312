"""Models, SAEs and data sets from the Hugging Face hub's cache or from local directories.

Everything that is read from the hub passes through `resolve_repo`, which pins the revision, needs no network when the
cache holds the files, and turns each way a download can fail into one line that says what to do. No message repeats
what the hub or its client said, so that none can repeat a token.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

from common.errors import UsageError
from common.profiles import DatasetSource, Profile, resolve_local

MODEL_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "merges.txt", "vocab.txt", "*.jinja")
MODEL_REQUIRED = ("config.json", "*.safetensors", "tokenizer.*")
CONNECT_SECONDS = 5
WHOLE_DIGEST_LIMIT = 512 * 1024**2
SAMPLE_BYTES = 1024**2
DIGEST_SUFFIXES = (".json", ".safetensors", ".npz", ".model", ".txt", ".jinja", ".parquet", ".jsonl")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_KINDS = {"model": "model", "dataset": "data set"}


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

    An existing directory is used as it is. `patterns` limits what is downloaded, each of `required` must match a file.
    Raises UsageError, in one line with the cure, for whatever keeps the files from being there.
    """
    if Path(name).expanduser().is_dir():
        return _local_snapshot(Path(name).expanduser(), repo_type, required)
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UsageError(f"{_KINDS[repo_type]} directory {name} does not exist; check the path")
    if required and revision is not None and _COMMIT.fullmatch(revision):
        cached = _cached(name, revision, repo_type, patterns)
        if cached is not None and not missing_files(cached, required):
            return Snapshot(cached, name, revision, local=False)
    path = _download(name, revision, repo_type, patterns)
    _require(path, name, repo_type, required, "run `run.py fetch` again with network access")
    return Snapshot(path, name, path.name, local=False)


def missing_files(path: Path, required: Sequence[str]) -> list[str]:
    """Returns what a directory lacks: patterns without a file, dangling links, shards that an index names."""
    missing = [pattern for pattern in required if not any(item.is_file() for item in path.glob(pattern))]
    for pattern in required:
        missing += [item.name for item in path.glob(pattern) if item.is_symlink() and not item.exists()]
    index = path / "model.safetensors.index.json"
    if "*.safetensors" in required and index.is_file():
        missing += [shard for shard in _shards(index) if not (path / shard).is_file()]
    return sorted(set(missing))


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
        size = _remote_size(self.name, self.revision, self.repo_type, self.patterns)
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


def _remote_size(name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    if not _reachable():
        return "size unknown (the hub cannot be reached)"
    try:
        info = HfApi().repo_info(name, revision=revision, repo_type=repo_type, files_metadata=True, timeout=10)
    except (HTTPError, OfflineModeIsEnabled, OSError):
        return "size unknown (the hub did not say)"
    files = [item for item in info.siblings or [] if _matches(item.rfilename, patterns)]
    return f"{sum(item.size or 0 for item in files) / 1e9:.2f} GB in {len(files)} files"


def _matches(name: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatch(name, pattern) for pattern in patterns)


def _local_snapshot(path: Path, repo_type: str, required: Sequence[str]) -> Snapshot:
    _require(path, str(path), repo_type, required, "check the directory")
    return Snapshot(path.resolve(), str(path), None, local=True)


def _require(path: Path, name: str, repo_type: str, required: Sequence[str], cure: str) -> None:
    missing = missing_files(path, required)
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        where = "" if name == str(path) else f" in {path}"
        raise UsageError(f"{_KINDS[repo_type]} {name} is incomplete{where}: no {shown}; {cure}")


def _shards(index: Path) -> list[str]:
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


def _cached(name: str, revision: str, repo_type: str, patterns: Sequence[str] | None) -> Path | None:
    from huggingface_hub import errors

    try:
        return _snapshot(name, revision, repo_type, patterns, offline=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def _snapshot(
    name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None, *, offline: bool
) -> Path:
    from huggingface_hub import snapshot_download

    allow = list(patterns) if patterns is not None else None
    return Path(
        snapshot_download(name, repo_type=repo_type, revision=revision, allow_patterns=allow, local_files_only=offline)
    )


def _reachable() -> bool:
    # Asked beforehand, since the hub's client retries for half a minute before it falls back to its cache.
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if address.scheme in getproxies() or "all" in getproxies():
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _download(name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None) -> Path:
    from huggingface_hub import errors

    what = f"{_KINDS[repo_type]} {name}"
    try:
        return _snapshot(name, revision, repo_type, patterns, offline=not _reachable())
    except errors.HFValidationError:
        raise UsageError(f"{what} is neither a directory here nor a name on the hub (owner/name)") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.RevisionResolutionError):
        where = f"{what} at revision {revision}" if revision else what
        raise UsageError(f"{where} is not, or not wholly, in the hub's cache here; {_fetch_cure()}") from None
    except errors.HfHubHTTPError as error:
        raise UsageError(_http_line(error, what, name, revision, repo_type)) from None
    except errors.HTTPError as error:
        raise UsageError(f"{what} could not be downloaded ({type(error).__name__}); {_fetch_cure()}") from None
    except OSError as error:
        raise UsageError(
            f"{what} could not be written to the hub's cache: {error.strerror or 'write failed'}"
        ) from None


def _fetch_cure() -> str:
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
    return f"{reason}: run `run.py fetch` for this profile on a machine with network and the same cache (HF_HOME)"


def _http_line(error: Exception, what: str, name: str, revision: str | None, repo_type: str) -> str:
    from huggingface_hub import constants, errors, get_token

    page = f"{constants.ENDPOINT}/{'datasets/' if repo_type == 'dataset' else ''}{name}"
    has_token = get_token() is not None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        login = "with the account of your token (`hf auth whoami`)" if has_token else "and log in with `hf auth login`"
        return f"{what} is gated: accept its licence at {page} {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{what} has no revision {revision!r}; see {page}/commits/main"
    if status == 401 and has_token:
        return f"{what}: the hub refused your token, or has no such name; check the name and `hf auth login` again"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{what} does not exist on the hub, or is private; check the name, or log in with `hf auth login`"
    return f"{what} could not be downloaded: the hub answered {status}; try again later"
