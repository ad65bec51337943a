"""Committed step outputs: staged beside their place, digested, manifest last, renamed. No manifest, no output.

store/<step>-<key>/          a committed output with its manifest.json
store/.stage-<step>-<key>/   one being written
store/.work/<step>-<key>/    scratch of the libraries, kept until the step commits
store/.work/rehearse-*/      scratch of a rehearsal, which the next one never reads
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tunewright.digest import canonical_json, digest_file
from tunewright.errors import Refused
from tunewright.secrets import revealed
from tunewright.store import disk

MANIFEST = "manifest.json"
ABOUT = "about.json"
CHECKPOINTS = "checkpoints"
FORMAT = 1


@dataclass(frozen=True)
class Artifact:
    """A committed output: its folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    def json(self, name: str) -> Any:
        """One of its files, as JSON."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def lines(self, name: str) -> list[Any]:
        """One of its files, as JSON lines. Strings in them may hold what else ends a line in Unicode, as U+2028."""
        text = (self.path / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]


class Store:
    """The store of one project root."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "store"

    def place(self, step: str, key: str) -> Path:
        """Where a step's output lies once it is committed."""
        return self.folder / f"{step}-{key[:16]}"

    def find(self, step: str, key: str) -> Artifact | None:
        """A committed output, or None. One whose files are not all there, or are not its own, does not count."""
        return read_artifact(self.place(step, key), key)

    def sweep(self) -> None:
        """Remove what killed runs left half done; called by the one writer of the root."""
        work = self.folder / ".work"
        halves = (*self.folder.glob(".stage-*"), *self.folder.glob(".gone-*"))
        for left in (*halves, *work.glob("rehearse-*"), *work.glob(".gone-*")):
            disk.remove(left)

    def scratch(self, step: str, key: str, about: Mapping[str, Any]) -> Path:
        """A folder for a library to write in, kept until the step commits; `about` says what stands behind the key."""
        folder = self.folder / ".work" / f"{step}-{key[:16]}"
        disk.make_folder(folder)
        disk.replace(folder / ABOUT, canonical_json(about))
        return folder

    def rehearsal(self, step: str) -> Path:
        """A new, empty folder to rehearse a step in, for the caller to remove.

        No two have one name: where a rehearsal was killed, its training may still be writing into the one before.
        """
        folder = self.folder / ".work" / f"rehearse-{step}-{uuid4().hex[:16]}"
        disk.make_folder(folder)
        return folder

    def unfinished(self, step: str, key: str, about: Mapping[str, Any]) -> list[str]:
        """What an interrupted run left of this step under other keys, and in what each differs, a sentence each."""
        found = []
        for other in sorted((self.folder / ".work").glob(f"{step}-{'[0-9a-f]' * 16}")):
            if other.name != f"{step}-{key[:16]}" and any((other / CHECKPOINTS).glob("step-*")):
                at = max(int(folder.name.removeprefix("step-")) for folder in (other / CHECKPOINTS).glob("step-*"))
                differs = _unlike(_read_about(other), about) or "a library, a plugin or the step before it"
                found.append(f"an interrupted `{step}` (at step {at}) is not taken up: it differs in {differs}")
        return found

    def stage(self, step: str, key: str) -> Path:
        """A new, empty folder for a step's output; what a killed run left there is removed."""
        folder = self.folder / f".stage-{step}-{key[:16]}"
        disk.remove(folder)
        disk.make_folder(folder)
        return folder

    def commit(self, step: str, key: str, notes: Mapping[str, Any]) -> Artifact:
        """Publish what was staged; afterwards `find` finds it, before it does not."""
        staged, target = self.folder / f".stage-{step}-{key[:16]}", self.place(step, key)
        publish(staged, target, {"step": step, "key": key, **notes})
        disk.remove(self.folder / ".work" / f"{step}-{key[:16]}")
        found = self.find(step, key)
        if found is None:
            raise Refused(f"{target} was published but does not read back", fix="check the disk, then run again")
        return found


def _read_about(folder: Path) -> Any:
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _unlike(was: Any, now: Mapping[str, Any]) -> str:
    """In what two records of `about` differ; inputs by what stands `behind` them, where both tell, else by their keys.

    One whose own record shows nothing differs by what it reads, which is another input that shows it.
    """
    (own, keys, behind), (own_now, keys_now, behind_now) = _parted(was), _parted(now)
    changed = [port for port in sorted({*keys, *keys_now}) if keys.get(port) != keys_now.get(port)]
    told = [_differing(behind[port], behind_now[port], f"inputs.{port}")
            for port in changed if port in behind and port in behind_now]  # fmt: skip
    if not any(told):
        told = [_differing(keys.get(port), keys_now.get(port), f"inputs.{port}") for port in changed]
    return ", ".join(filter(None, [*told, _differing(own, own_now)]))


def _parted(about: Any) -> tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """A record's own settings, the keys of its inputs, and what stands behind these."""
    own = dict(about) if isinstance(about, Mapping) else {}
    inputs, behind = own.pop("inputs", None), own.pop("behind", None)
    return own, inputs if isinstance(inputs, Mapping) else {}, behind if isinstance(behind, Mapping) else {}


def _differing(was: Any, now: Any, place: str = "") -> str:
    """The values that differ between two plain things: `trainer.learning_rate (0.001, now 0.002)`."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = sorted({*was, *now})
        inner = (_differing(was.get(n), now.get(n), f"{place}.{n}" if place else str(n)) for n in names)
        return ", ".join(filter(None, inner))
    if was == now:
        return ""
    short = (f"{value[:8]}…" if isinstance(value, str) and len(value) == 64 else value for value in (was, now))
    return "{} ({}, now {})".format(place, *short)


def publish(staged: Path, target: Path, notes: Mapping[str, Any]) -> None:
    """Digest and fsync every file of `staged`, write its manifest, and rename it to `target`."""
    try:
        _refuse_secrets(staged)
    except Refused:
        disk.remove(staged)
        raise
    files = {}
    for path in sorted(p for p in staged.rglob("*") if p.is_file()):
        path.chmod(0o644)
        disk.sync(path)
        files[path.relative_to(staged).as_posix()] = {"size": path.stat().st_size, "sha256": digest_file(path)}
    disk.write(staged / MANIFEST, canonical_json({"format": FORMAT, **notes, "files": files}))
    disk.sync(staged)
    if target.exists():  # a damaged output, or one of another content: it leaves first
        disk.remove(target)
    disk.rename(staged, target)


def _refuse_secrets(folder: Path) -> None:
    """An output never holds the value of a secret that this process has read: a backend wrote what it should not."""
    secrets = {value.encode(): reference for value, reference in revealed().items()}
    for path in folder.rglob("*") if secrets else ():
        found = _found(path, secrets) if path.is_file() else None
        if found is not None:
            raise Refused(f"{path.name} holds the value of {found}", fix="the backend that wrote it is at fault")


def _found(path: Path, secrets: Mapping[bytes, str]) -> str | None:
    longest, kept = max(map(len, secrets)), b""
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            window = kept + block
            for value, reference in secrets.items():
                if value in window:
                    return reference
            kept = window[-longest:]  # a value may lie across two blocks
    return None


def read_artifact(folder: Path, key: str | None = None, *, digests: bool = False) -> Artifact | None:
    """A published folder, or None where it has no manifest, another key, or files missing or of another size.

    With `digests`, every file's content is compared as well (about a second a gigabyte).
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or (key is not None and manifest["key"] != key):
            return None
        whole = all(_intact(folder / name, entry, digests) for name, entry in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no manifest that can be read: not published
    return Artifact(folder, manifest) if whole else None


def _intact(path: Path, entry: Mapping[str, Any], digests: bool) -> bool:
    if not path.is_file() or os.path.getsize(path) != entry["size"]:  # noqa: PTH202
        return False
    return not digests or digest_file(path) == entry["sha256"]
