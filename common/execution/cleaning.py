"""Removing what a sample has left, however deep, locked or numerous.

`shutil.rmtree` recurses, needs paths below the system's longest, and skips directories that are closed to their owner.
Here directories are lifted to the top before they are emptied, one level a pass. Also loaded by the worker on its own,
so it imports only the standard library.
"""

from __future__ import annotations

import contextlib
import os


def remove_tree(directory: str) -> None:
    """Removes a directory with all that is in it; what cannot be removed stays, without an error."""
    try:
        os.rmdir(directory)
    except OSError:
        _open_up(directory)
        empty_directory(directory)
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def empty_directory(directory: str, keep: str = "") -> None:
    """Removes all that is in a directory but the file named `keep`; links are removed, not followed."""
    lifted = 0
    while True:
        folders, removed = [], 0
        for entry in _entries(directory):
            if entry.name == keep:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                removed += _unlinked(entry.path)
        for folder in folders:
            _open_up(folder)
            for entry in _entries(folder):
                if entry.is_dir(follow_symlinks=False):
                    removed += _removed(entry.path) or _lifted(entry.path, os.path.join(directory, f".lifted-{lifted}"))
                    lifted += 1
                else:
                    removed += _unlinked(entry.path)
            removed += _removed(folder)
        if not removed:
            return


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []


def _open_up(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def _unlinked(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _lifted(path: str, target: str) -> bool:
    try:
        _open_up(path)  # a directory that its owner may not write cannot be moved
        os.rename(path, target)
    except OSError:
        return False
    return True
