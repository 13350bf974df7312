"""The Hugging Face hub's client: downloads into its cache, or one line that says why not and what to do.

No message repeats what the hub or its client said, so that none can repeat a token. The client is imported when needed.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from common.errors import UsageError

CONNECT_SECONDS = 5
KINDS = {"model": "model", "dataset": "data set"}


def cached(name: str, revision: str, repo_type: str, patterns: Sequence[str] | None) -> Path | None:
    """Returns the snapshot of a commit that is in the cache, asking nobody, or None."""
    from huggingface_hub import errors

    try:
        return _snapshot(name, revision, repo_type, patterns, offline=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def reachable() -> bool:
    """Says whether the hub can be asked: not offline by setting, and its host (or a proxy) answers.

    Asked beforehand, since the hub's client retries for half a minute before it falls back to its cache.
    """
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


def download(name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None) -> Path:
    """Returns the snapshot of `name`, downloading what the cache lacks; UsageError where that is impossible."""
    from huggingface_hub import errors

    what = f"{KINDS[repo_type]} {name}"
    try:
        return _snapshot(name, revision, repo_type, patterns, offline=not reachable())
    except errors.HFValidationError:
        raise UsageError(f"{what} is neither a directory here nor a name on the hub (owner/name)") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.RevisionResolutionError):
        where = f"{what} at revision {revision}" if revision else what
        raise UsageError(f"{where} is not, or not wholly, in the hub's cache here; {_fetch_cure()}") from None
    except errors.HfHubHTTPError as error:
        raise UsageError(_http_line(error, what, name, revision, repo_type)) from None
    except errors.HTTPError as error:  # pyright: ignore[reportPrivateImportUsage]
        raise UsageError(f"{what} could not be downloaded ({type(error).__name__}); {_fetch_cure()}") from None
    except OSError as error:
        reason = error.strerror or "write failed"
        raise UsageError(f"{what} cannot be written to the hub's cache: {reason}; check HF_HOME and the disk") from None


def remote_size(name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None) -> str:
    """Returns how much a download of `name` would be, in words, or that it is not known."""
    from huggingface_hub import HfApi, errors

    if not reachable():
        return "size unknown (the hub cannot be reached)"
    try:
        info = HfApi().repo_info(name, revision=revision, repo_type=repo_type, files_metadata=True, timeout=10)
    except (errors.HTTPError, OSError):  # pyright: ignore[reportPrivateImportUsage]
        return "size unknown (the hub did not say)"
    siblings = getattr(info, "siblings", None) or []
    sizes = [item.size or 0 for item in siblings if _matches(item.rfilename, patterns)]
    return f"{sum(sizes) / 1e9:.2f} GB in {len(sizes)} files"


def _matches(name: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatch(name, pattern) for pattern in patterns)


def _snapshot(
    name: str, revision: str | None, repo_type: str, patterns: Sequence[str] | None, *, offline: bool
) -> Path:
    from huggingface_hub import snapshot_download

    allow = list(patterns) if patterns is not None else None
    return Path(
        snapshot_download(name, repo_type=repo_type, revision=revision, allow_patterns=allow, local_files_only=offline)
    )


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
