"""The user's cache of base weights: published folders by key, shared by all projects, checked before use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from tunewright.store import disk
from tunewright.store.publish import Artifact, publish, read_artifact


def cache_root() -> Path:
    """`TUNEWRIGHT_CACHE`, else the platform's cache folder."""
    named = os.environ.get("TUNEWRIGHT_CACHE")
    return Path(named).expanduser() if named else user_cache_path("tunewright")


def find_model(key: str, *, digests: bool = False) -> Artifact | None:
    """A base in the cache, or None where it is absent or damaged."""
    return read_artifact(cache_root() / "models" / key[:32], key, digests=digests)


def _sweep(folder: Path) -> None:
    """Remove what killed fetches left: a base half there is gigabytes. A living process's is left to it."""
    for left in folder.glob(".stage-*"):
        try:
            os.kill(int(left.name.rpartition("-")[2]), 0)
        except (ValueError, ProcessLookupError):
            disk.remove(left)
        except PermissionError:  # another user's process
            continue


def put_model(key: str, fill: Callable[[Path], dict[str, Any]]) -> Artifact:
    """Let `fill` write a base into an empty folder and publish it with the notes that it returns."""
    target = cache_root() / "models" / key[:32]
    staged = target.with_name(f".stage-{target.name}-{os.getpid()}")
    _sweep(target.parent)
    disk.make_folder(staged)
    try:
        notes = fill(staged)
        publish(staged, target, {"key": key, **notes})
    finally:
        disk.remove(staged)
    found = read_artifact(target, key)
    assert found is not None, "a folder that was just published reads back"
    return found
