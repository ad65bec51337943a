"""A training's checkpoints: published like any output, the one before kept until the next is whole.

<scratch>/checkpoints/step-00000040/   a committed checkpoint with its manifest.json

What a killed process left half done has no manifest and does not exist. Nothing is taken up again before every byte
of it was compared: resume files hold pickles, and an altered tensor would train on to another adapter in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import digest_file
from tunewright.errors import Refused
from tunewright.store import disk
from tunewright.store.publish import CHECKPOINTS, MANIFEST, publish, read_artifact

KEPT = 2  # the newest, and the one before it


class Found(NamedTuple):
    """The newest checkpoint that is whole, and why each newer one is not."""

    folder: Path
    step: int
    damaged: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one training, which `key` names: those of any other are refused."""

    def __init__(self, scratch: Path, key: str) -> None:
        self.folder, self.key = scratch / CHECKPOINTS, key

    def commit(self, written: Path, step: int) -> None:
        """Publish the folder `written` as the state after optimizer step `step`, then drop all but the newest two."""
        disk.make_folder(self.folder)
        publish(written, self._place(step), {"key": self.key, "step": step})
        for old in self._committed()[KEPT:]:
            disk.remove(old)

    def newest(self) -> Found | None:
        """The newest whole checkpoint; None where there is none at all.

        Raises `Refused` where there are some and none of them is whole: nothing is deleted, nothing begins anew.
        """
        damaged: list[str] = []
        for folder in self._committed():
            why = self._damage(folder)
            if not why:
                return Found(folder, int(folder.name.removeprefix("step-")), tuple(damaged))
            damaged.append(f"checkpoint {folder.name} is damaged ({why})")
        if damaged:
            raise Refused(
                f"no checkpoint of this training can be used: {'; '.join(damaged)}",
                fix=f"restore one, or remove {self.folder} to train from the beginning",
            )
        return None

    def sweep(self) -> None:
        """Remove what a killed process was removing."""
        for left in self.folder.glob(".gone-*"):
            disk.remove(left)

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _committed(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _damage(self, folder: Path) -> str:
        """What is wrong with a checkpoint, naming the file; empty where nothing is."""
        artifact = read_artifact(folder, self.key)
        if artifact is not None:
            files = artifact.manifest["files"]
            return next((f"{name} was altered" for name, entry in files.items()
                         if digest_file(folder / name) != entry["sha256"]), "")  # fmt: skip
        return next(self._lacking(folder), "its manifest.json cannot be read")

    def _lacking(self, folder: Path) -> Iterator[str]:
        anyones = read_manifest(folder)
        if anyones is None:
            return
        if anyones.get("key") != self.key:
            yield "it is of another training"
        for name, entry in anyones["files"].items():
            path = folder / name
            if not path.is_file():
                yield f"{name} is missing"
            elif path.stat().st_size != entry["size"]:
                yield f"{name} has {path.stat().st_size} bytes of {entry['size']}"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's manifest whatever its files are; None where it cannot be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(found) if isinstance(found["files"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
