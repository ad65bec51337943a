"""fetch: the base's weights into the user's cache, and a record of which they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json, digest_json
from tunewright.errors import Refused
from tunewright.handoff.verify import model_identity, other_base
from tunewright.parts import ModelSource
from tunewright.parts.base import library_version
from tunewright.parts.model_source import Pin, Published
from tunewright.pipeline.step import Context, Task
from tunewright.store import cache, disk
from tunewright.store.publish import Artifact

RECORD, MODEL = "model.json", "model"


class Fetch(Task):
    """Its output is a record of identity; weights gone from the cache are fetched again and compared with it."""

    def __init__(self, source: ModelSource, pin: Pin) -> None:
        self.source, self.pin = source, pin

    def settings(self) -> dict[str, Any]:
        """Not the source's signature: its licence is a label, and correcting it must not train anew."""
        return {"source": self.source.kind, "name": self.source.name}

    def sources(self) -> Mapping[str, str]:
        return {"model": self._cache_key()}

    def present(self, output: Artifact, *, thorough: bool = False) -> bool:
        return cache.find_model(self._cache_key(), digests=thorough) is not None

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        context.emit({"event": "progress", "what": f"fetching {self.source.name}"})
        key = self._cache_key()
        # digests are compared here: a flipped shard must be found before training, not after
        found = cache.find_model(key, digests=True) or cache.put_model(key, self._fill)
        identity = found.manifest["identity"]
        record = {
            "name": self.source.name,
            "pin": dict(self.pin.values),
            "cache_key": key,
            "identity": identity,
        }
        disk.write(out / RECORD, canonical_json(record))
        return {"identity": identity["identity"]}

    def _cache_key(self) -> str:
        # without the plugin's code: a new release of ours does not fetch gigabytes anew, a new converter does
        versions = {name: library_version(name) for name in self.source.libraries}
        return digest_json({"kind": self.source.kind, "libraries": versions, "pin": dict(self.pin.values)})

    def _fill(self, folder: Path) -> dict[str, Any]:
        self.source.fetch(self.pin, folder)
        return {"identity": model_identity(folder)}


def base_folder(fetched: Artifact) -> Path:
    """The folder with the weights of a base, fetched or merged. Raises `Refused` where the cache holds others than the
    record names."""
    record = fetched.json(RECORD)
    if "cache_key" not in record:
        return fetched.path / MODEL
    found = cache.find_model(record["cache_key"])
    if found is None or other_base(record["identity"], found.manifest["identity"]):
        raise Refused(
            f"the cache does not hold `{record['name']}` as it was fetched", fix="run again: it is fetched anew"
        )
    return found.path


def published(record: Mapping[str, Any]) -> Published | None:
    """Where anyone loads the base of a record from; None for one that is in no repository, as a merged one."""
    return Pin(record.get("pin", {})).published


def base_config(fetched: Artifact) -> dict[str, Any] | None:
    """The config.json of a fetched base; None where it has none that can be read, which loading it says."""
    try:
        return dict(json.loads((base_folder(fetched) / "config.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
